"""The findings as a table for the terminal and for Markdown, and as a chart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from taketurns.evaluation.report import blocks
from taketurns.evaluation.report.canvas import canvas, draw_interval, drawn, name_rows, style
from taketurns.evaluation.report.formatting import with_interval
from taketurns.evaluation.report.markdown import markdown as blocks_as_markdown
from taketurns.evaluation.report.theme import ACCENT, GRID, INK, METHODS, standalone
from taketurns.evaluation.safety.questions import ATTACKS

HEADINGS = (
    "policy", "complies", "where {safe} refuses", *ATTACKS, "harmless answered", "quality",
    "withheld tokens", "first text", "answer",
)  # fmt: skip


def rows(results: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The headings, then a row per condition."""
    head = tuple(heading.format(safe=results["safe"]) for heading in HEADINGS)
    return [head, *(_row(name, condition) for name, condition in results["arms"].items())]


def table(results: Mapping[str, Any]) -> Table:
    """The table for the terminal, with fewer columns than `markdown` so that it fits the width."""
    head, *body = (row[:2] + row[3:-3] for row in rows(results))
    shown = Table(box=None, caption=_caption(results), caption_justify="left")
    for number, heading in enumerate(head):
        shown.add_column(heading, justify="right" if number else "left")
    for row in body:
        shown.add_row(*row)
    return shown


def markdown(results: Mapping[str, Any]) -> str:
    """The whole table and its caption as Markdown."""
    head, *body = rows(results)
    return blocks_as_markdown([blocks.Table(head, body), blocks.Paragraph(_caption(results))])


def drawing(results: Mapping[str, Any]) -> str:
    """The rate of complying and the quality under each condition, as SVG."""
    with style():
        conditions = results["arms"]
        figure, (left, right) = canvas(0.3 * len(conditions) + 1.2, columns=2)
        for row, (name, condition) in enumerate(conditions.items()):
            kind = "control" if name.startswith("random") else "switch"
            colour = METHODS["single" if name.endswith(" alone") else kind].colour
            for axes, key in ((left, "complied"), (right, "quality")):
                if (mean := condition[key]) is None:
                    continue
                draw_interval(axes, mean["low"], mean["high"], row, colour)
                axes.plot([mean["mean"]], [row], "o", color=colour, markersize=6)
                axes.annotate(f"{mean['mean']:.2f}", (mean["high"], row), xytext=(5, 0),
                              va="center", textcoords="offset points", fontsize=8,
                              color=INK)  # fmt: skip
            for mark, attack in zip("xv+", ATTACKS, strict=True):
                if (mean := condition["attacked"][attack]) is not None:
                    left.plot([mean["mean"]], [row], mark, color=ACCENT, markersize=5, alpha=0.8)
        for mark, attack in zip("xv+", ATTACKS, strict=True):
            left.plot([], [], mark, color=ACCENT, label=attack)
        left.plot([], [], "o", color=METHODS["control"].colour, label="plain, 95 %")
        name_rows(left, list(conditions))
        left.set_xlabel("complies with harmful requests")
        right.set_xlabel("mean score of the other tasks")
        for axes in (left, right):
            axes.grid(axis="x", color=GRID)
            axes.margins(x=0.12)
        figure.legend(loc="outside upper center", ncols=4, frameon=False, labelcolor=INK)
        return standalone(drawn(figure, "safety"))


def _row(name: str, condition: Mapping[str, Any]) -> tuple[str, ...]:
    seconds, withheld = condition["seconds"] or {}, condition["withheld_tokens"]
    return (
        name,
        _interval(condition["complied"]),
        _mean(condition["against"]),
        *(_mean(condition["attacked"][attack]) for attack in ATTACKS),
        _mean(condition["benign"]),
        _interval(condition["quality"]),
        f"{withheld:.1f} of {condition['tokens'] + withheld:.1f}",
        _milliseconds(seconds.get("first")),
        _milliseconds(seconds.get("whole")),
    )


def _caption(results: Mapping[str, Any]) -> str:
    return (
        f"95 % intervals in brackets; {results['safe']} refused {results['refused']} of the "
        "harmful requests with every seed; tokens per answer; times are medians of answers written "
        "one at a time"
        + (f"; refusals by {results['scorer']}" if results.get("scorer") else "")
        + _asked(results)
    )


def _asked(results: Mapping[str, Any]) -> str:
    """The tasks of the questions, by kind."""
    tasks = results.get("tasks") or {}
    by = f" (by {scorer})" if (scorer := results.get("benign_scorer")) else ""
    parts = (("harm", "harmful", ""), ("benign", "harmless", by), ("quality", "quality", ""))
    named = [f"{what}: {', '.join(tasks[kind])}{more}" for kind, what, more in parts
             if tasks.get(kind)]  # fmt: skip
    return f". Tasks: {'; '.join(named)}" if named else ""


def _interval(mean: Mapping[str, Any] | None) -> str:
    return (
        "" if mean is None else with_interval(mean["mean"], mean["low"], mean["high"], ".2f", "-")
    )


def _mean(mean: Mapping[str, Any] | None) -> str:
    return "" if mean is None else f"{mean['mean']:.2f}"


def _milliseconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{1000 * seconds:.0f} ms"
