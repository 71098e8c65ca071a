"""What a report says, from an evaluation's findings."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from taketurns.evaluation.report.blocks import Block, Figure, Heading, Paragraph, Table
from taketurns.evaluation.statistics import ALPHA

Json = Mapping[str, Any]
NONE = "\N{EN DASH}"
RIVALS = {
    "single": "every single checkpoint",
    "baseline": "all baselines too",
    "control": "all controls too",
}


def report(found: Json) -> list[Block]:
    """The whole report, in order."""
    return [
        *_summary(found),
        *_scores(found),
        *_comparisons(found),
        *_worth(found),
        *_leaders(found),
        *_beyond(found),
        *_chosen(found),
        *_reading(),
        *_settings(found["settings"]),
    ]


def _summary(found: Json) -> Iterator[Block]:
    subject, questions, tasks = found["subject"], found["questions"], len(found["questions"])
    widest = max(
        (share["high"] - share["low"]) / 2
        for one in found["methods"].values()
        for share in one["tasks"].values()
    )
    averages = [
        (one["average"]["high"] - one["average"]["low"]) / 2 for one in found["methods"].values()
    ]
    few, many = min(questions.values()), max(questions.values())
    each = str(few) if few == many else f"{few} to {many}"
    yield Heading(f"Is it worth it? {subject} beside {len(found['methods']) - 1} other methods", 1)
    yield Paragraph(
        f"{tasks} tasks, {each} test questions a task, each answered under "
        f"{_count(found['seeds'], 'seed')}; every setting was chosen on dev. That says a task's "
        f"score to within ±{widest:.3f} and a mean over tasks to within ±{max(averages):.3f} "
        "(95 %, the widest of each)."
    )
    yield from _leading(found)
    yield from _gains(found)


def _leading(found: Json) -> Iterator[Block]:
    """On how many tasks who leads, and how much of that is sure."""
    leaders, tasks = found["leaders"], len(found["questions"])
    kinds = {one["kind"] for one in found["methods"].values()}
    if {"single"} < kinds & {"single", "baseline", "switch"}:
        yield Paragraph(
            f"Of {tasks} tasks, on {len(leaders['combined'])} some way of combining the "
            "checkpoints, a baseline or switching, scores above every single one: the best of "
            "several ways, picked on these very questions."
        )
    if not leaders["subject"]:
        return
    said = ", ".join(
        f"{RIVALS[up_to]} on {len(one['tasks'])} ({len(one['sure'])} surely)"
        for up_to, one in leaders["subject"].items()
    )
    yield Paragraph(
        f"{found['subject']} is above {said}. Surely is at the 5 % level beside each of them, "
        "after Holm over the tasks."
    )
    if sum(one["kind"] == "switch" for one in found["methods"].values()) > 1:
        said = ", ".join(
            f"{RIVALS[up_to]} on {len(found)}" for up_to, found in leaders["switching"].items()
        )
        yield Paragraph(
            f"The best of all ways of switching, picked on these very questions, is above {said}."
        )


def _gains(found: Json) -> Iterator[Block]:
    rows = []
    for group, gains in found["gains"].items():
        rows += [
            [f"over each of the {group}, on average", _relative(gains["each"]), NONE,
             _signed(gains["each"]["absolute"])],
            [f"over the mean of the {group}", *_gain(gains["mean"])],
            [f"over the best of the {group}, {gains['best']['name']}", *_gain(gains["best"])],
            [f"over the best of the {group} on each task", *_gain(gains["best by task"])],
        ]  # fmt: skip
    if rows:
        yield Heading(f"What {found['subject']} gains")
        yield Table(("", "mean relative", "of the averages", "absolute"), rows)
        yield Paragraph(
            "Mean relative is the mean over tasks of the gain divided by the other's score, as in "
            "the paper; a task where the other scores near nothing rules it, and one where it "
            "scores nothing is left out (their number in brackets; in a first line that of all the "
            "others together)."
        )


def _scores(found: Json) -> Iterator[Block]:
    methods = found["methods"]
    best = max(one["average"]["mean"] for one in methods.values() if not one["hindsight"])
    rows: list[list[str]] = []
    bold = set()
    for name, one in methods.items():
        first = one["average"]["mean"] == best and not one["hindsight"]
        if name == found["subject"] or first:
            bold.add(len(rows))
        deviation = one["seeds"]["deviation"]
        rows.append(
            [
                _named(name, one),
                one["kind"],
                _interval(one["average"]),
                NONE if deviation is None else f"{deviation:.3f}",
                f"{one['cost']['tokens']:.0f}",
                f"{one['cost']['passes']:.0f}",
                f"{1000 * one['cost']['seconds']:.1f}",
                str(one["missing"] + one["unscored"]),
            ]
        )
    yield Heading("Scores and costs")
    yield Figure("averages", "Mean score over tasks of every method, with 95 % intervals.")
    header = ("method", "kind", "mean over tasks", "seeds' deviation", "tokens", "passes", "ms",
              "failed")  # fmt: skip
    yield Table(header, rows, frozenset(bold))
    yield Paragraph(
        "Tokens (read anew and written), forward passes of one row and milliseconds are an "
        "answer's, on average. Failed answers and those without a score count as wrong. * knows "
        "the scores beforehand (hindsight) and stands outside of comparisons."
    )
    yield Figure("tasks", "Score of every method on every task; a frame marks the best.")
    tasks = list(found["questions"])
    yield Table(
        ("method", *tasks),
        [
            [_named(name, one), *(_interval(one["tasks"][task]) for task in tasks)]
            for name, one in methods.items()
        ],
    )


def _comparisons(found: Json) -> Iterator[Block]:
    subject = found["subject"]
    rows = []
    for name, one in found["comparisons"].items():
        over = one["over_tasks"]
        alone = one["only_first"] is not None
        rows.append(
            [
                _named(name, found["methods"][name]),
                f"{one['difference']:+.3f} ({one['low']:+.3f} to {one['high']:+.3f})",
                _p(one["p"]),
                _p(one.get("p_holm")),
                f"{one['only_first']} / {one['only_second']}" if alone else NONE,
                _p(one["mcnemar"]),
                _p(one.get("mcnemar_holm")),
                f"{over['wins']} / {over['ties']} / {over['losses']}",
                _p(over["wilcoxon"]),
                *_gain(one["gain"])[:2],
            ]
        )
    sure = [
        name
        for name, one in found["comparisons"].items()
        if one["difference"] > 0 and one.get("p_holm", 1.0) < ALPHA
    ]
    below = [
        name
        for name, one in found["comparisons"].items()
        if one["difference"] < 0 and one.get("p_holm", 1.0) < ALPHA
    ]
    counted = sum("p_holm" in one for one in found["comparisons"].values())
    yield Heading(f"{subject} beside the others")
    yield Paragraph(
        f"Above {len(sure)} of {counted} methods at the 5 % level after Holm"
        + (f": {', '.join(sure)}." if sure else ".")
        + (f" Below: {', '.join(below)}." if below else "")
    )
    yield Figure("differences", f"{subject} less every other method, with 95 % intervals; filled "
                 "where it is significant after Holm.")  # fmt: skip
    header = ("less", "difference", "p", "Holm", "only one right", "McNemar p", "Holm",
              "won / tied / lost", "Wilcoxon p", "mean relative", "of the averages")  # fmt: skip
    yield Table(header, rows)
    yield Heading("Task by task", 3)
    tasks = list(found["questions"])
    yield Table(
        ("less", *tasks),
        [
            [_named(name, found["methods"][name]), *(_by_task(one["tasks"][t]) for t in tasks)]
            for name, one in found["comparisons"].items()
        ],
    )
    yield Paragraph("Differences; ! is p < 0.05 after Holm over the tasks.")


def _worth(found: Json) -> Iterator[Block]:
    subject = found["subject"]
    yield Heading("Is it worth it?")
    yield Figure("frontier", "Score against cost of every method; the line joins those that no "
                 "other beats, and these and the subject are named.")  # fmt: skip
    for cost, names in found["frontier"].items():
        yield Paragraph(f"No other method beats, by {cost}: {', '.join(names)}.")
    if found["alike"]:
        said = ", ".join(f"{name} as {other}" for name, other in found["alike"].items())
        yield Paragraph(
            f"Token for token the same, and counted as one with it: {said}. Where their seconds "
            "differ, that is how well seconds can be measured here."
        )
    rows = []
    for name in found["worth"]["tokens"]:
        one = found["methods"][name]
        if one["kind"] != "single" and name not in ("best-of-n", "vote"):
            continue
        for cost, by_name in found["worth"].items():
            even = by_name.get(name)
            if even is not None:
                rows.append(
                    [
                        f"{_named(name, one)}, {cost}",
                        f"{even['cost']:.2f}",
                        _percent(even["needed"]),
                        _percent(even["gain"]),
                        "yes" if even["pays"] else "no",
                        NONE if even["each"] is None else f"{even['each']:.1f}",
                    ]
                )
    if rows:
        yield Heading(f"Where {subject} begins to pay", 3)
        yield Table(
            ("beside", "cost, times", "gain needed", "gain", "pays", "one more right costs"), rows
        )
        yield Paragraph(
            "Where a wrong answer can be seen and asked for again, a right one costs cost / score: "
            "a method that costs c times as much pays from a relative gain of c - 1 on. The last "
            "column is what one further right answer costs where nothing is asked again, in "
            "answers of the other method."
        )


def _leaders(found: Json) -> Iterator[Block]:
    kinds = ("single", "baseline", "control", "switch")
    rows = []
    for task, by_kind in found["leaders"]["tasks"].items():
        cells = [
            f"{by_kind[kind]['name']} {by_kind[kind]['score']:.2f}" if kind in by_kind else NONE
            for kind in kinds
        ]
        rows.append([task, found["categories"][task], *cells])
    yield Heading("The best of each kind, task by task")
    yield Table(("task", "category", *(f"best {kind}" for kind in kinds)), rows)


def _beyond(found: Json) -> Iterator[Block]:
    if (beyond := found["beyond"]) is None:
        return
    others = {one["control"]: one for one in beyond["against"]}
    rows = []
    for one in beyond["tried"]:
        cells = [one["name"], f"{one['share']:.3f} ({one['low']:.3f}-{one['high']:.3f})"]
        if one["name"] in others:
            less = others[one["name"]]
            cells += [
                f"{less['difference']:+.3f} ({less['low']:+.3f} to {less['high']:+.3f})",
                _p(less["p"]),
                _p(less["p_holm"]),
            ]
        rows.append(cells + [NONE] * (5 - len(cells)))
    yield Heading("What no checkpoint solves alone")
    yield Paragraph(
        f"{_count(beyond['defining'], 'answer')} of each checkpoint tell which questions none of "
        f"them solves: {beyond['left']:.1f} of {beyond['questions']}, on average over "
        f"{_count(beyond['rounds'], 'way')} to divide the seeds. Then everybody has "
        f"{_count(beyond['tries'], 'new answer')} a question; what a checkpoint solves now is "
        "chance."
    )
    header = ("who", "solves of them", f"{beyond['subject']} less it", "p", "Holm")
    yield Table(header, rows, frozenset({0}))


def _chosen(found: Json) -> Iterator[Block]:
    chosen = {name: one["chosen"] for name, one in found["methods"].items() if one["chosen"]}
    if chosen:
        yield Heading("Chosen on dev")
        for name, what in chosen.items():
            yield Paragraph(f"{name}: {_said(what)}.")


def _said(value: Any) -> str:
    """A choice in words: mappings and lists as their parts, fractions rounded."""
    if isinstance(value, Mapping):
        alike = len({json.dumps(one) for one in value.values()}) == 1 < len(value)
        if alike and isinstance(next(iter(value.values())), Mapping):
            return f"for all tasks {_said(next(iter(value.values())))}"
        return ", ".join(f"{key} {_said(one)}" for key, one in value.items())
    if isinstance(value, list):
        return "-".join(map(str, value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _reading() -> Iterator[Block]:
    yield Heading("How to read this")
    yield Paragraph(
        "The unit is the question: its score is the mean over seeds, and questions are resampled "
        "or exchanged whole, within their tasks. Intervals of scores are Wilson's at the number of "
        "independent answers that would be as sure; those of differences are BCa bootstraps. p is "
        "of a paired permutation test on the mean over tasks; McNemar's is exact, on questions "
        "that only one of two methods gets right in most seeds. Holm adjusts for all methods "
        "compared. Wilcoxon's test has the tasks as its sample. The seeds' deviation is that of "
        "the mean over tasks from seed to seed."
    )


def _settings(settings: Json) -> Iterator[Block]:
    """What the results were made with, as far as their reader must know; `results.json` has all of
    it."""
    team, prints = settings["team"], settings["fingerprints"]
    models = [
        f"{one['name']} {one['spec']['model']}"
        + (f" ({prints[one['name']][:12]})" if prints[one["name"]] else "")
        for one in team["candidates"]
    ]
    switcher = {key: team["switcher"][key] for key in ("kind", "path", "sequence")}
    if team["switcher"]["spec"] is not None:
        switcher["model"] = team["switcher"]["spec"]["model"]
    tasks: dict[str, list[str]] = {}
    for name, count in settings["tasks"].items():
        tasks.setdefault(f"{count['test']} test and {count['dev']} dev", []).append(name)
    yield Heading("What this was made with")
    yield Paragraph(f"{team['source'] or 'made in a program'}.", "Team.")
    yield Paragraph(f"{', '.join(models)}; {team['engine']['kind']} engine.", "Models.")
    yield Paragraph(f"{_settled(switcher)}.", "Switcher.")
    yield Paragraph(f"{_settled(team['policy'])}.", "Policy.")
    said = "; ".join(f"{', '.join(names)}: {counts} questions" for counts, names in tasks.items())
    yield Paragraph(f"{said}; {_count(settings['seeds'], 'seed')}.", "Tasks.")
    yield Paragraph(
        f"By the {settings['clock']} clock, {settings['concurrency']} answers under way at a time "
        f"in a process, processes: {settings['workers']} (in the last run, if there were several).",
        "Seconds.",
    )
    versions = {**settings["versions"], "commit": settings["commit"]}
    yield Paragraph(f"{_settled(versions)}.", "Versions.")


def _settled(values: Json) -> str:
    """Settings that say something, each after its name."""
    return ", ".join(
        f"{key} {_said(value)}"
        for key, value in values.items()
        if value not in (None, "", []) and value is not False
    )


def _interval(share: Json) -> str:
    return f"{share['mean']:.3f} ({share['low']:.3f}-{share['high']:.3f})"


def _by_task(one: Json) -> str:
    return f"{one['difference']:+.2f}{'!' if one['p_holm'] < ALPHA else ''}"


def _gain(gain: Json) -> list[str]:
    return [
        _relative(gain),
        _percent(gain["of_average"]),
        _signed(gain["absolute"]),
    ]


def _relative(gain: Json) -> str:
    left = f" ({gain['left_out']})" if gain["left_out"] else ""
    return _percent(gain["relative"]) + left


def _percent(value: float | None) -> str:
    return NONE if value is None else f"{100 * value:+.1f} %"


def _signed(value: float) -> str:
    return f"{value:+.3f}"


def _p(value: float | None) -> str:
    if value is None:
        return NONE
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _named(name: str, one: Json) -> str:
    return f"{name} *" if one["hindsight"] else name


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("s" if number != 1 else "")
