"""The cost of a label: replay a stored bank of rollouts with every allocation.

    python -m benchmarks.labelling.measure BANK.jsonl --output results.json --plot labelling.png

The bank is a file that `taketurns rollout` wrote with many rollouts per branch. In every draw the
rollouts of each branch are shuffled; the first `--reference` of them are the reference, and the
allocations use the others, in order. Regret is the loss of the labelled branch against the best one
by the reference. The reference is the same for all allocations and disjoint from their rollouts, so
differences between allocations are unbiased. Regret itself is biased upwards, because the maximum
of noisy means exceeds the true one, by the same amount for all.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.answering import RESAMPLES, Floats
from taketurns.runs.manifest import path_for
from taketurns.training.labels.allocation import Allocation, Arm, Racing, Uniform

CLEAR = 0.1  # the reference calls a branch best, rather than tied, when it leads by this much


@dataclass(frozen=True, slots=True)
class BankBranch:
    """A branch of the bank: its utilities (only one if it ended the answer)."""

    utilities: Floats
    ended: bool


@dataclass(frozen=True, slots=True)
class Shuffle:
    """One shuffle of a prefix: the reference utility of each branch, and the rollouts that
    allocations may use."""

    truth: Floats
    pool: tuple[Floats, ...]
    ended: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class AllocationFigures:
    """An allocation over all draws of all prefixes; arrays have one value per prefix. `clear` is
    the share of draws in which the reference has a clear best branch, `agreed` the share in which
    the label is that branch."""

    name: str
    rollouts: Floats
    regret: Floats
    agreed: Floats
    clear: Floats


def read_bank(path: Path) -> list[tuple[BankBranch, ...]]:
    """The prefixes that can be measured: a branch is open and no rollout failed."""
    bank = []
    for line in path.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        if record["error"] is not None or any(b["failures"] for b in record["branches"]):
            continue
        branches = tuple(
            BankBranch(np.array(b["utilities"]), b["ended"]) for b in record["branches"]
        )
        if not all(branch.ended for branch in branches):
            bank.append(branches)
    return bank


def draw(prefix: Sequence[BankBranch], reference: int, rng: np.random.Generator) -> Shuffle:
    """Shuffle the rollouts and set the reference apart."""
    shuffled = [b.utilities if b.ended else rng.permutation(b.utilities) for b in prefix]
    ended = tuple(branch.ended for branch in prefix)
    return Shuffle(
        np.array(
            [u[0] if e else u[:reference].mean() for u, e in zip(shuffled, ended, strict=True)]
        ),
        tuple(u if e else u[reference:] for u, e in zip(shuffled, ended, strict=True)),
        ended,
    )


def replay(allocation: Allocation, seen: Shuffle) -> list[Arm]:
    """What the allocation would have spent on these rollouts."""
    arms = [
        Arm(tuple(pool) if ended else (), ended)
        for pool, ended in zip(seen.pool, seen.ended, strict=True)
    ]
    while any(more := allocation.more(arms)):
        arms = [
            arm if arm.ended else Arm(tuple(pool[: arm.spent + count]))
            for arm, count, pool in zip(arms, more, seen.pool, strict=True)
        ]
    return arms


def judge(
    allocation: Allocation, arms: Sequence[Arm], truth: Floats
) -> tuple[float, float, float, float]:
    """Rollouts spent, expected regret of the label, its agreement with the reference, and whether
    the reference has a clear best branch. Branches that tie share the label."""
    chosen = allocation.best(arms)
    means = np.array([np.mean(arm.known) for arm in arms])
    best = np.flatnonzero(means == means.max()) if chosen is None else np.array(chosen)
    spent = sum(arm.spent for arm in arms if not arm.ended)
    first, second = np.sort(truth)[:-3:-1]
    clear = float(first - second >= CLEAR)
    return spent, truth.max() - truth[best].mean(), clear * np.mean(best == truth.argmax()), clear


def measure(
    bank: Sequence[Sequence[BankBranch]],
    allocations: Sequence[tuple[str, Allocation]],
    *,
    reference: int,
    draws: int,
    seed: int = 0,
) -> list[AllocationFigures]:
    """Every allocation on the same shuffles."""
    results = np.empty((len(allocations), len(bank), draws, 4))
    for number, prefix in enumerate(bank):
        rng = np.random.default_rng([seed, number])
        for at in range(draws):
            seen = draw(prefix, reference, rng)
            for which, (_, allocation) in enumerate(allocations):
                results[which, number, at] = judge(allocation, replay(allocation, seen), seen.truth)
    return [
        AllocationFigures(name, *result.mean(1).T)
        for (name, _), result in zip(allocations, results, strict=True)
    ]


def interval(values: Floats, weights: Floats | None = None) -> list[float]:
    """The mean, or the ratio of two sums, and its 95 % interval from resampled prefixes."""
    weights = np.ones(len(values)) if weights is None else weights
    drawn = np.random.default_rng(0).integers(len(values), size=(RESAMPLES, len(values)))
    ratios = values[drawn].sum(1) / weights[drawn].sum(1)
    return [float(values.sum() / weights.sum()), *map(float, np.quantile(ratios, (0.025, 0.975)))]


def summary(
    figures: Sequence[AllocationFigures], baseline: str, seconds: float | None
) -> list[dict[str, Any]]:
    """A row per allocation; `difference` is its regret minus the baseline's, prefix by prefix."""
    base = next(figure for figure in figures if figure.name == baseline)
    return [
        {
            "allocation": figure.name,
            "rollouts": float(figure.rollouts.mean()),
            "share": float(figure.rollouts.sum() / base.rollouts.sum()),
            "seconds": None if seconds is None else float(figure.rollouts.mean() * seconds),
            "regret": interval(figure.regret),
            "difference": interval(figure.regret - base.regret),
            "agreement": interval(figure.agreed, figure.clear),
        }
        for figure in figures
    ]


def seconds_a_rollout(path: Path) -> float | None:
    """The seconds that the bank took on its machine, from its manifest; None if it was made in
    several runs."""
    manifest = json.loads(path_for(path).read_text(encoding="utf-8"))
    if manifest["finished"] is None:
        return None
    begun, ended = (datetime.fromisoformat(manifest[key]) for key in ("started", "finished"))
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    rollouts = sum(
        len(branch["utilities"])
        for record in records
        for branch in record.get("branches", ())
        if not branch["ended"]
    )
    return (ended - begun).total_seconds() / rollouts


def plot(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Regret against rollouts per prefix, for both kinds of allocation."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for kind, marker, above in (("uniform", "o", 4), ("racing", "s", -11)):
        selected = sorted(
            (row for row in rows if row["allocation"].startswith(kind)),
            key=lambda row: row["rollouts"],
        )
        regret = np.array([row["regret"] for row in selected])
        axes.errorbar(
            [row["rollouts"] for row in selected],
            regret[:, 0],
            yerr=(regret[:, 0] - regret[:, 1], regret[:, 2] - regret[:, 0]),
            marker=marker, capsize=2, label=kind,
        )  # fmt: skip
        for row in selected:
            axes.annotate(
                row["allocation"].removeprefix(kind).strip(), (row["rollouts"], row["regret"][0]),
                textcoords="offset points", xytext=(4, above), fontsize=7,
            )  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("rollouts a prefix")
    axes.set_ylabel("regret of the label")
    axes.legend()
    figure.savefig(path, dpi=150)


def allocations(k: int) -> list[tuple[str, Allocation]]:
    """The compared allocations: uniform, and racing from many rollouts to few."""
    uniform = [n for n in (1, 2, 4, 8, 16, 32, 64) if n <= k]
    racing = [Racing(k, loss=loss) for loss in (0.003, 0.004, 0.006, 0.008, 0.012, 0.02)]
    return [(f"uniform {n}", Uniform(n)) for n in uniform] + [
        (f"racing {r.loss:g}", r) for r in racing
    ]


def main() -> None:
    """Read the bank, replay it, print the table, and write the requested files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bank", type=Path)
    parser.add_argument("--reference", type=int, default=128, help="rollouts of the reference")
    parser.add_argument("--baseline", type=int, default=32, help="uniform rollouts to compare with")
    parser.add_argument("--draws", type=int, default=50, help="shuffles a prefix")
    parser.add_argument("--output", type=Path, help="the table as JSON")
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    bank = read_bank(options.bank)
    fewest = min(len(b.utilities) for prefix in bank for b in prefix if not b.ended)
    k = fewest - options.reference
    figures = measure(bank, allocations(k), reference=options.reference, draws=options.draws)
    seconds = seconds_a_rollout(options.bank)
    rows = summary(figures, f"uniform {options.baseline}", seconds)
    print(f"{len(bank)} prefixes with an open branch, {options.draws} draws, at most {k} a branch")
    for row in rows:
        numbers = (f"{v:.4f}" for key in ("regret", "difference", "agreement") for v in row[key])
        print(f"{row['allocation']:18} {row['rollouts']:6.1f} {row['share']:5.2f}", *numbers)
    if options.output:
        options.output.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    if options.plot:
        plot(rows, options.plot)


if __name__ == "__main__":
    main()
