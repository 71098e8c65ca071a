"""The top of the report: how sure it is, which methods lead, and what the subject gains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from taketurns.evaluation.report.blocks import Block, Heading, Paragraph, Table
from taketurns.evaluation.report.formatting import DASH, counted
from taketurns.evaluation.report.sections.cells import gain_cells, relative_gain, signed

RIVALS = {
    "single": "every single checkpoint",
    "baseline": "all baselines too",
    "control": "all controls too",
}


def render_summary(results: Mapping[str, Any]) -> Iterator[Block]:
    """The title, how much was asked, and on how many tasks each kind of method leads."""
    methods, questions = results["methods"].values(), results["questions"]
    of_tasks = max(_half(share) for method in methods for share in method["tasks"].values())
    of_means = max(_half(method["average"]) for method in methods)
    few, many = min(questions.values()), max(questions.values())
    each = str(few) if few == many else f"{few} to {many}"
    subject = results["subject"]
    yield Heading(f"Is it worth it? {subject} beside {len(methods) - 1} other methods", 1)
    yield Paragraph(
        f"{len(questions)} tasks, {each} test questions a task, each answered under "
        f"{counted(results['seeds'], 'seed')}; every setting was chosen on dev. That says a task's "
        f"score to within ±{of_tasks:.3f} and a mean over tasks to within ±{of_means:.3f} "
        "(95 %, the widest of each)."
    )
    yield from _leading(results)


def _half(interval: Mapping[str, float]) -> float:
    return (interval["high"] - interval["low"]) / 2


def _leading(results: Mapping[str, Any]) -> Iterator[Block]:
    """On how many tasks each kind leads, and how much of that is significant."""
    leaders = results["leaders"]
    kinds = [method["kind"] for method in results["methods"].values()]
    if {"single"} < set(kinds) & {"single", "baseline", "switch"}:
        yield Paragraph(
            f"Of {len(results['questions'])} tasks, on {len(leaders['combined'])} some way of "
            "combining the checkpoints, a baseline or switching, scores above every single one: "
            "the best of several ways, picked on these very questions."
        )
    if not leaders["subject"]:
        return
    above = ", ".join(
        f"{RIVALS[up_to]} on {len(lead['tasks'])} ({len(lead['sure'])} surely)"
        for up_to, lead in leaders["subject"].items()
    )
    yield Paragraph(
        f"{results['subject']} is above {above}. Surely is at the 5 % level beside each of them, "
        "after Holm over the tasks."
    )
    if kinds.count("switch") > 1:
        above = ", ".join(
            f"{RIVALS[up_to]} on {len(tasks)}" for up_to, tasks in leaders["switching"].items()
        )
        yield Paragraph(
            f"The best of all ways of switching, picked on these very questions, is above {above}."
        )


def render_gains(results: Mapping[str, Any]) -> Iterator[Block]:
    """The subject's gains over the single checkpoints and over the baselines."""
    rows = []
    for group, gains in results["gains"].items():
        each, best = gains["each"], gains["best"]
        rows += [
            [f"over each of the {group}, on average", relative_gain(each), DASH,
             signed(each["absolute"])],
            [f"over the mean of the {group}", *gain_cells(gains["mean"])],
            [f"over the best of the {group}, {best['name']}", *gain_cells(best)],
            [f"over the best of the {group} on each task", *gain_cells(gains["best by task"])],
        ]  # fmt: skip
    if rows:
        yield Heading(f"What {results['subject']} gains")
        yield Table(("", "mean relative", "of the averages", "absolute"), rows)
        yield Paragraph(
            "Mean relative is the mean over tasks of the gain divided by the other's score, as in "
            "the paper; a task where the other scores near nothing rules it, and one where it "
            "scores nothing is left out (their number in brackets; in a first line that of all the "
            "others together)."
        )
