"""The top of the report: its precision, the leading methods, and the gains of the subject."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from taketurns.evaluation.report.blocks import Block, Heading, Paragraph, Table
from taketurns.evaluation.report.formatting import DASH, counted
from taketurns.evaluation.report.sections.cells import gain_cells, relative_gain, signed

RIVALS = {
    "single": "each single checkpoint",
    "baseline": "each single checkpoint and baseline",
    "control": "each single checkpoint, baseline and control",
}


def render_summary(results: Mapping[str, Any]) -> Iterator[Block]:
    """The title, the number of questions, and on how many tasks each kind of method leads."""
    methods, questions = results["methods"].values(), results["questions"]
    of_tasks = max(_half(share) for method in methods for share in method["tasks"].values())
    of_means = max(_half(method["average"]) for method in methods)
    few, many = min(questions.values()), max(questions.values())
    each = str(few) if few == many else f"{few} to {many}"
    subject = results["subject"]
    yield Heading(f"{subject} compared with {counted(len(methods) - 1, 'other method')}", 1)
    yield Paragraph(
        f"{len(questions)} tasks, {each} test questions per task, each answered with "
        f"{counted(results['seeds'], 'seed')}; every setting was chosen on dev. The score of a "
        f"task is known to within ±{of_tasks:.3f}, a mean over tasks to within ±{of_means:.3f} "
        "(95 %, the widest interval of each)."
    )
    yield from _leading(results)


def _half(interval: Mapping[str, float]) -> float:
    return (interval["high"] - interval["low"]) / 2


def _leading(results: Mapping[str, Any]) -> Iterator[Block]:
    """On how many tasks each kind leads, and on how many of them significantly."""
    leaders = results["leaders"]
    kinds = [method["kind"] for method in results["methods"].values()]
    if {"single"} < set(kinds) & {"single", "baseline", "switch"}:
        yield Paragraph(
            f"On {len(leaders['combined'])} of {len(results['questions'])} tasks some combination "
            "of the checkpoints, a baseline or switching, scores above each single checkpoint. "
            "This is the best of several, selected on these same test questions."
        )
    if not leaders["subject"]:
        return
    above = "; ".join(
        f"{RIVALS[up_to]} on {counted(len(lead['tasks']), 'task')} "
        f"({len(lead['sure'])} significantly)"
        for up_to, lead in leaders["subject"].items()
    )
    yield Paragraph(
        f"{results['subject']} is above {above}. Significantly: at the 5 % level against each of "
        "them, after Holm over the tasks."
    )
    if kinds.count("switch") > 1:
        above = "; ".join(
            f"{RIVALS[up_to]} on {counted(len(tasks), 'task')}"
            for up_to, tasks in leaders["switching"].items()
        )
        yield Paragraph(
            f"The best switching method per task, selected on these same test questions, is above "
            f"{above}."
        )


def render_gains(results: Mapping[str, Any]) -> Iterator[Block]:
    """The subject's gains over the single checkpoints and over the baselines."""
    rows = []
    for group, gains in results["gains"].items():
        each, best = gains["each"], gains["best"]
        rows += [
            [f"over each of the {group}, mean", relative_gain(each), DASH,
             signed(each["absolute"])],
            [f"over the mean of the {group}", *gain_cells(gains["mean"])],
            [f"over the best of the {group}, {best['name']}", *gain_cells(best)],
            [f"over the best of the {group} on each task", *gain_cells(gains["best by task"])],
        ]  # fmt: skip
    if rows:
        yield Heading(f"Gains of {results['subject']}")
        yield Table(("", "mean relative", "of the averages", "absolute"), rows)
        yield Paragraph(
            "Mean relative: the mean over tasks of the gain divided by the other method's score, "
            "as in the paper. A task on which the other method scores nearly 0 dominates it; tasks "
            "on which it scores 0 are left out (their number in brackets; in the first line of a "
            "group, summed over its methods)."
        )
