"""The subject compared with every other method, over all tasks and task by task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from taketurns.evaluation.report import formatting as fmt
from taketurns.evaluation.report.blocks import Block, Chart, DataPoint, Heading, Paragraph, Table
from taketurns.evaluation.report.sections.cells import gain_cells, method_label


def render_comparisons(results: Mapping[str, Any]) -> Iterator[Block]:
    """Differences with their tests, adjusted for the number of comparisons."""
    subject, methods, comparisons = results["subject"], results["methods"], results["comparisons"]
    above, below = (
        [
            name
            for name, compared in comparisons.items()
            if sign * compared["difference"] > 0 and fmt.significant(compared.get("p_holm"))
        ]
        for sign in (1, -1)
    )
    counted = sum("p_holm" in compared for compared in comparisons.values())
    yield Heading(f"{subject} compared with every other method")
    yield Paragraph(
        f"Significantly above {len(above)} of {counted} methods (5 % level after Holm)"
        + (f": {', '.join(above)}." if above else ".")
        + (f" Significantly below: {', '.join(below)}." if below else "")
    )
    yield _chart(results)
    header = ("minus", "difference", "p", "Holm", "only one right", "McNemar p", "Holm",
              "won / tied / lost", "Wilcoxon p", "mean relative", "of the averages")  # fmt: skip
    yield Table(
        header,
        [
            [method_label(name, methods[name]), *_cells(compared)]
            for name, compared in comparisons.items()
        ],
    )
    yield Heading("Task by task", 3)
    tasks = list(results["questions"])
    yield Table(
        ("minus", *tasks),
        [
            [
                method_label(name, methods[name]),
                *(_on_task(compared["tasks"][task]) for task in tasks),
            ]
            for name, compared in comparisons.items()
        ],
    )
    yield Paragraph("Differences in score; ! marks p < 0.05 after Holm over the tasks.")


def _chart(results: Mapping[str, Any]) -> Chart:
    """Largest difference first."""
    subject, methods = results["subject"], results["methods"]
    ranked = sorted(results["comparisons"].items(), key=lambda item: -item[1]["difference"])
    return Chart(
        "differences",
        "intervals",
        f"Score of {subject} minus that of every other method, with 95 % intervals; filled where "
        "the difference is significant after Holm.",
        tuple(
            DataPoint(
                method_label(name, methods[name]),
                compared["difference"],
                methods[name]["kind"],
                compared["low"],
                compared["high"],
                sure=fmt.significant(compared.get("p_holm")),
            )
            for name, compared in ranked
        ),
        across=f"{subject} minus the method, mean over tasks, 95 % interval",
        reference=0.0,
    )


def _cells(compared: Mapping[str, Any]) -> list[str]:
    over, graded = compared["over_tasks"], compared["only_first"] is None
    return [
        fmt.difference(compared["difference"], compared["low"], compared["high"]),
        fmt.p_value(compared["p"]),
        fmt.p_value(compared.get("p_holm")),
        fmt.DASH if graded else f"{compared['only_first']} / {compared['only_second']}",
        fmt.p_value(compared["mcnemar"]),
        fmt.p_value(compared.get("mcnemar_holm")),
        f"{over['wins']} / {over['ties']} / {over['losses']}",
        fmt.p_value(over["wilcoxon"]),
        *gain_cells(compared["gain"])[:2],
    ]


def _on_task(compared: Mapping[str, Any]) -> str:
    return f"{compared['difference']:+.2f}{'!' if fmt.significant(compared['p_holm']) else ''}"
