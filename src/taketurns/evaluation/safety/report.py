"""The findings for people: a table for the terminal and for Markdown, and the drawing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from taketurns.evaluation.report.canvas import WIDTH, drawn, style
from taketurns.evaluation.report.theme import ACCENT, COLOURS, GRID, INK, standalone
from taketurns.evaluation.safety.questions import ATTACKS

Json = Mapping[str, Any]
HEADINGS = (
    "policy", "complies", "where {safe} refuses", *ATTACKS, "harmless answered", "quality",
    "withheld tokens", "first text", "answer",
)  # fmt: skip


def rows(findings: Json) -> list[tuple[str, ...]]:
    """Headings, then a row a condition."""
    head = tuple(heading.format(safe=findings["safe"]) for heading in HEADINGS)
    return [head, *(_row(name, condition) for name, condition in findings["arms"].items())]


def table(findings: Json) -> Table:
    """For the terminal: what fits its width, without the columns that only `markdown` has."""
    head, *body = (row[:2] + row[3:-3] for row in rows(findings))
    shown = Table(box=None, caption=_caption(findings), caption_justify="left")
    for number, heading in enumerate(head):
        shown.add_column(heading, justify="right" if number else "left")
    for row in body:
        shown.add_row(*row)
    return shown


def markdown(findings: Json) -> str:
    """The same for a page."""
    head, *body = rows(findings)
    lines = [head, tuple("---" for _ in head), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + f"\n\n{_caption(findings)}\n"


def drawing(findings: Json) -> str:
    """How often a team complies under each condition, beside the quality it keeps, as SVG."""
    import matplotlib.pyplot as plt

    with style():
        conditions = list(findings["arms"].items())[::-1]
        figure, (left, right) = plt.subplots(
            1, 2, figsize=(WIDTH, 0.3 * len(conditions) + 1.2), sharey=True, layout="constrained"
        )
        for row, (name, condition) in enumerate(conditions):
            kind = "control" if name.startswith("random") else "switch"
            colour = COLOURS["single" if name.endswith(" alone") else kind]
            for axes, key in ((left, "complied"), (right, "quality")):
                if (share := condition[key]) is None:
                    continue
                axes.plot([share["low"], share["high"]], [row, row], color=colour, linewidth=2.2)
                axes.plot([share["mean"]], [row], "o", color=colour, markersize=6)
                axes.annotate(
                    f"{share['mean']:.2f}", (share["high"], row), xytext=(5, 0), va="center",
                    textcoords="offset points", fontsize=8, color=INK,
                )  # fmt: skip
            marks = [condition["attacked"][attack] for attack in ATTACKS]
            for mark, share in zip("xv+", marks, strict=True):
                if share is not None:
                    left.plot([share["mean"]], [row], mark, color=ACCENT, markersize=5, alpha=0.8)
        for mark, attack in zip("xv+", ATTACKS, strict=True):
            left.plot([], [], mark, color=ACCENT, label=attack)
        left.plot([], [], "o", color=COLOURS["control"], label="plain, 95 %")
        left.set_yticks(range(len(conditions)), [name for name, _ in conditions])
        left.set_xlabel("complies with harmful requests")
        right.set_xlabel("mean score of the other tasks")
        for axes in (left, right):
            axes.grid(axis="x", color=GRID)
            axes.margins(x=0.12)
        figure.legend(loc="outside upper center", ncols=4, frameon=False, labelcolor=INK)
        return standalone(drawn(figure, "safety"))


def _row(name: str, condition: Json) -> tuple[str, ...]:
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


def _caption(findings: Json) -> str:
    return (
        f"95 % intervals in brackets; {findings['safe']} refused {findings['refused']} of the "
        "harmful requests every time; tokens an answer; medians of answers written one at a time"
        + (f"; refusals by {findings['scorer']}" if findings.get("scorer") else "")
        + _asked(findings)
    )


def _asked(findings: Json) -> str:
    """Whose questions these were."""
    tasks = findings.get("tasks") or {}
    by = f" (by {scorer})" if (scorer := findings.get("benign_scorer")) else ""
    parts = (("harm", "to be refused", ""), ("benign", "harmless", by), ("quality", "quality", ""))
    sentences = [f"{what}: {', '.join(tasks[kind])}{more}" for kind, what, more in parts
            if tasks.get(kind)]  # fmt: skip
    return f". Tasks: {'; '.join(sentences)}" if sentences else ""


def _interval(share: Json | None) -> str:
    return "" if share is None else f"{share['mean']:.2f} ({share['low']:.2f}-{share['high']:.2f})"


def _mean(share: Json | None) -> str:
    return "" if share is None else f"{share['mean']:.2f}"


def _milliseconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{1000 * seconds:.0f} ms"
