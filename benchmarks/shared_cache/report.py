"""The tables of docs/results/shared-cache.md, from `benchmarks.shared_cache.run` and `.cost`.

    python -m benchmarks.shared_cache.report WORK [--cost FILE]

A difference is a score with shared layers minus that with none, on the same questions: its mean
over tasks, with the 95 % interval of `taketurns.evaluation.statistics.paired` over questions. Where
several orders of speakers are taken together, a question's score is its mean over them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.shared_cache.answers import Order, Setting
from benchmarks.shared_cache.layers import NONE, SharedLayers
from benchmarks.shared_cache.pocket import ORDERS
from benchmarks.shared_cache.run import (
    LAYERS,
    OTHER_PATCHES,
    PATCH,
    best_choices,
    pocket_choices,
)
from benchmarks.shared_cache.turns import RECOMPUTED
from taketurns.evaluation.statistics import SeedScores, paired
from taketurns.utils.markdown import difference, table

TaskScores = Mapping[str, SeedScores]
DIVERGENCE = ("shared layers", "number", "divergence, nats", "same first choice", "tokens")


def pocket_divergences(home: Path) -> list[Mapping[str, Mapping[str, float]]]:
    """The divergences of a pipeline, for each order of speakers."""
    paths = [home / "divergence" / f"{Setting(order, PATCH).name}.json" for order in ORDERS]
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


def pocket_divergence_table(divergences: Sequence[Mapping[str, Mapping[str, float]]]) -> str:
    """A row for each choice of layers: means over the orders of speakers."""
    rows = []
    for layers in pocket_choices()[1:]:
        found = [order[layers.name] for order in divergences]
        far, same = (fmean(row[key] for row in found) for key in ("divergence", "agreement"))
        tokens = sum(row["tokens"] for row in found)
        rows.append(
            [layers.name, str(len(layers.shared)), f"{far:.3f}", f"{same:.3f}", f"{tokens:,}"]
        )
    return table(DIVERGENCE, rows)


def scores_of(home: Path, split: str, settings: Iterable[Setting]) -> TaskScores | None:
    """Scores `[question][setting]` by task; None if a measurement is missing."""
    paths = [home / split / f"{setting.name}.json" for setting in settings]
    if not all(path.exists() for path in paths):
        return None
    found = [json.loads(path.read_text(encoding="utf-8"))["scores"] for path in paths]
    return {
        task: [list(one) for one in zip(*(scores[task] for scores in found), strict=True)]
        for task in found[0]
    }


def mean_score(scores: TaskScores) -> float:
    """The mean over tasks."""
    return fmean(fmean(map(fmean, task)) for task in scores.values())


def compared(shared: TaskScores, plain: TaskScores) -> str:
    """The difference with its interval."""
    pair = paired(shared, plain)
    return difference(pair.difference, pair.low, pair.high)


def pocket_scores_table(
    home: Path, split: str, choices: Sequence[SharedLayers], tries: Mapping[str, Mapping[str, Any]]
) -> str:
    """A row for each kind of answers (`tries`: what a `Setting` is made of) and one for all orders:
    the score with nothing shared, and what each choice adds to it."""

    def row(name: str, orders: Sequence[Order], how: Mapping[str, Any]) -> list[str] | None:
        patch = how.get("patch", PATCH)
        plain = scores_of(home, split, [Setting(order, patch) for order in orders])
        if plain is None:
            return None
        cells = []
        for layers in choices:
            changed = {"patch": PATCH, **how}
            settings = [Setting(order, layers=layers, **changed) for order in orders]
            shared = scores_of(home, split, settings)
            cells.append("" if shared is None else compared(shared, plain))
        return [name, f"{mean_score(plain):.3f}", *cells] if any(cells) else None

    rows = [
        row(f"{label} {order.name}".strip(), orders, how)
        for label, how in tries.items()
        for order, orders in [(Order("all orders", ()), ORDERS), *((o, (o,)) for o in ORDERS)]
    ]
    return table(
        ["order of speakers", "none shared", *(layers.name for layers in choices)],
        [row for row in rows if row is not None],
    )


def pocket_tasks_table(home: Path, split: str, choices: Sequence[SharedLayers]) -> str:
    """A row for each task, all orders together."""
    plain = scores_of(home, split, [Setting(order, PATCH) for order in ORDERS])
    found = [
        scores_of(home, split, [Setting(order, PATCH, layers) for order in ORDERS])
        for layers in choices
    ]
    if plain is None or None in found:
        return ""
    rows = [
        [
            task,
            f"{mean_score({task: plain[task]}):.3f}",
            *(compared({task: s[task]}, {task: plain[task]}) for s in found if s is not None),
        ]
        for task in plain
    ]
    return table(["task", "none shared", *(layers.name for layers in choices)], rows)


def pocket_sections(home: Path) -> Iterator[str]:
    """All tables of a pipeline."""
    divergences = pocket_divergences(home)
    best = best_choices(list(divergences))
    half = best[LAYERS // 2 - 1]
    yield f"## {home.name}: divergence\n\n{pocket_divergence_table(divergences)}"
    for split in ("dev", "test"):
        found = pocket_scores_table(home, split, best, {"": {}})
        yield f"## {home.name}: scores on {split}\n\n{found}"
    yield f"## {home.name}: by task\n\n{pocket_tasks_table(home, 'test', best)}"
    tries: dict[str, dict[str, Any]] = {
        f"{patch} tokens:": {"patch": patch} for patch in OTHER_PATCHES
    }
    tries["recomputed:"] = {"hidden_states": RECOMPUTED}
    found = pocket_scores_table(home, "test", [half], tries)
    yield f"## {home.name}: other patches, recomputed hidden states\n\n{found}"


def real_divergence_table(path: Path) -> str:
    """A row for each choice of layers."""
    found = json.loads(path.read_text(encoding="utf-8"))
    return table(
        ("shared layers", "divergence, nats", "same first choice", "tokens"),
        [
            [name, f"{row['divergence']:.4f}", f"{row['agreement']:.3f}", f"{row['tokens']:,}"]
            for name, row in found.items()
        ],
    )


def real_answers_table(path: Path) -> str:
    """A row for each choice of layers: the score, what sharing adds to it, and the share of answers
    that are the same text."""
    found = json.loads(path.read_text(encoding="utf-8"))
    plain, texts = _one_each(found[NONE.name]["scores"]), found[NONE.name]["texts"]
    rows = []
    for name, answers in found.items():
        scores = _one_each(answers["scores"])
        same = fmean(a == b for a, b in zip(answers["texts"], texts, strict=True))
        by_task = (f"{fmean(values):.2f}" for values in answers["scores"].values())
        added = "" if name == NONE.name else compared(scores, plain)
        rows.append([name, f"{mean_score(scores):.3f}", added, f"{same:.3f}", *by_task])
    head = ["shared layers", "score", "beside none", "same text", *plain]
    return table(head, rows)


def _one_each(scores: Mapping[str, Sequence[float]]) -> TaskScores:
    return {task: [[value] for value in values] for task, values in scores.items()}


def cost_tables(path: Path) -> str:
    """Memory, and the time of a catch-up, beside those with nothing shared."""
    found = json.loads(path.read_text(encoding="utf-8"))
    memory = [
        [row["model"], row["layers"], f"{row['ratio']:.3f}", f"{row['hidden']:.3f}"]
        for row in found["memory"]
    ]
    timed = [
        [
            row["model"], row["dtype"], f"{row['rows']} × {row['tokens']}", row["layers"],
            f"{1000 * row['plain_seconds']:.1f}",
            f"{row['ratio']:.2f} ({row['lowest']:.2f}-{row['highest']:.2f})",
        ]
        for row in found["catch_ups"]
    ]  # fmt: skip
    setup = ", ".join(f"{key} {value}" for key, value in found["setup"].items())
    heads = [
        "model",
        "dtype",
        "answers × tokens",
        "shared",
        "none shared, ms",
        "time, shared / none",
    ]
    return (
        table(["model", "shared", "memory, shared / none", "of it hidden states"], memory)
        + f"\n{setup}\n\n"
        + table(heads, timed)
    )


def main() -> None:
    """Print all tables for which there are measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--cost", type=Path, help="the output of benchmarks.shared_cache.cost")
    options = parser.parse_args()
    real = options.work / "real"
    for path in sorted((real / "divergence").glob("*.json")):
        print(f"## {path.stem}: divergence\n\n{real_divergence_table(path)}")
    if (answers := real / "answers-test.json").exists():
        print(f"## real answers\n\n{real_answers_table(answers)}")
    for home in sorted(options.work.glob("pocket-*")):
        if len([*(home / "divergence").glob("*.json")]) == len(ORDERS):
            print(*pocket_sections(home), sep="\n")
    if options.cost:
        print(f"## cost\n\n{cost_tables(options.cost)}")


if __name__ == "__main__":
    main()
