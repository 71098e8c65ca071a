"""Charts drawn by matplotlib as themed SVG, and written as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, fields
from types import MappingProxyType
from typing import Any, NamedTuple

from taketurns.evaluation.analysis.report.looks import OTHERS, look
from taketurns.evaluation.analysis.section import Chart, Kind, Mark
from taketurns.evaluation.report.canvas import canvas, drawn, style
from taketurns.evaluation.report.theme import ACCENT, GRID, INK

ROW = 0.3
ON_COLOUR = "#16181c"
NARROW = 0.085  # of a bar: too little for a label
SHAPES = "o^sD*PX"


class Ink(NamedTuple):
    """How a series is drawn; `number` chooses the shape of its points."""

    colour: str
    mark: str
    number: int


Inks = Mapping[str, Ink]


def draw(chart: Chart, name: str, pool: Sequence[str]) -> str:
    """Its SVG; `name` is that of the file. Series that are candidates of the pool have their
    colours."""
    series = list(dict.fromkeys(mark.series for mark in chart.marks))
    if series and set(series) <= set(pool):
        order = {one: pool.index(one) for one in pool if one in series}
        inks = {one: Ink(look(at).colour, look(at).mark, at) for one, at in order.items()}
    else:
        inks = {one: Ink(OTHERS[at % len(OTHERS)], "", at) for at, one in enumerate(series)}
    with style():
        return drawn(_KINDS[chart.kind](chart, inks), name)


def as_csv(chart: Chart) -> str:
    """A line a mark, under the names of its fields."""
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(field.name for field in fields(Mark))
    table.writerows(
        ["" if value is None else value for value in astuple(mark)] for mark in chart.marks
    )
    return text.getvalue()


def _shares(chart: Chart, inks: Inks) -> Any:
    """Bars of the same length, divided."""
    labels = _labels(chart)
    figure, axes = canvas(ROW * len(labels) + 1.1)
    left = dict.fromkeys(labels, 0.0)
    by_part = {(mark.label, mark.series): mark.value for mark in chart.marks}
    for series, ink in inks.items():
        for row, label in enumerate(labels):
            value = by_part.get((label, series), 0.0)
            axes.barh(row, value, left=left[label], color=ink.colour, height=0.78)
            if value > NARROW:
                axes.text(left[label] + value / 2, row, f"{ink.mark} {100 * value:.0f}".strip(),
                          ha="center", va="center", fontsize=8, color=ON_COLOUR)  # fmt: skip
            left[label] += value
    axes.set_xlim(0, 1)
    _rows(axes, labels)
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    axes.set_xlabel(chart.across)
    axes.tick_params(axis="y", length=0)
    _legend(figure, inks, "s")
    return figure


def _intervals(chart: Chart, inks: Inks) -> Any:
    """A point and its interval a row; several series of a label stand below one another."""
    labels, many = _labels(chart), len(inks)
    figure, axes = canvas((ROW if many == 1 else 0.2 * many + 0.06) * len(labels) + 1.1)
    if isinstance(chart.reference, float | int):
        axes.axvline(chart.reference, color=INK, linewidth=1)
    order = list(inks)
    for mark in chart.marks:
        ink = inks[mark.series]
        at = labels.index(mark.label) + (order.index(mark.series) - (many - 1) / 2) * 0.75 / many
        if mark.low is not None and mark.high is not None:
            axes.plot([mark.low, mark.high], [at, at], color=ink.colour, linewidth=2.2,
                      solid_capstyle="round")  # fmt: skip
        _point(axes, mark.value, at, ink, filled=mark.sure)
    _rows(axes, labels)
    axes.set_xlabel(chart.across)
    axes.grid(axis="x", color=GRID)
    _legend(figure, inks)
    return figure


def _grid(chart: Chart, inks: Inks) -> Any:
    """Cells shaded by their value, which stands in them."""
    from matplotlib.patches import Rectangle

    labels, series = _labels(chart), list(inks)
    figure, axes = canvas(0.34 * len(labels) + 0.9)
    most = max((abs(mark.value) for mark in chart.marks), default=1.0) or 1.0
    for mark in chart.marks:
        row, column = labels.index(mark.label), series.index(mark.series)
        shade = 0.75 * abs(mark.value) / most
        axes.add_patch(
            Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=ACCENT, alpha=shade, linewidth=0)
        )
        axes.text(column, row, f"{mark.value:.2f}", ha="center", va="center", fontsize=8.5,
                  color=INK)  # fmt: skip
    axes.set_xlim(-0.5, len(series) - 0.5)
    _rows(axes, labels)
    axes.set_xticks(range(len(series)), series)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel(chart.across)
    return figure


def _scatter(chart: Chart, inks: Inks) -> Any:
    """Points by x and value, named where they have a label."""
    figure, axes = canvas(4.2)
    for mark in chart.marks:
        ink, at = inks[mark.series], mark.x or 0.0
        if mark.low is not None and mark.high is not None:
            axes.plot([at, at], [mark.low, mark.high], color=ink.colour, linewidth=1.6, alpha=0.6)
        _point(axes, at, mark.value, ink, filled=mark.sure)
        if mark.label:
            axes.annotate(mark.label, (at, mark.value), xytext=(6, 4), textcoords="offset points",
                          fontsize=7.5, color=INK)  # fmt: skip
    _plane(axes, chart)
    _legend(figure, inks)
    return figure


def _lines(chart: Chart, inks: Inks) -> Any:
    """A line a series with its band."""
    figure, axes = canvas(3.4)
    for series, ink in inks.items():
        marks = sorted((m for m in chart.marks if m.series == series), key=lambda m: m.x or 0.0)
        at = [mark.x or 0.0 for mark in marks]
        if all(mark.low is not None and mark.high is not None for mark in marks):
            axes.fill_between(at, [m.low for m in marks], [m.high for m in marks],
                              color=ink.colour, alpha=0.22, linewidth=0)  # fmt: skip
        axes.plot(at, [mark.value for mark in marks], color=ink.colour, linewidth=2,
                  marker=SHAPES[ink.number % len(SHAPES)], markersize=5)  # fmt: skip
    places = {mark.x: mark.label for mark in chart.marks if mark.label and mark.x is not None}
    if places:
        axes.set_xticks(list(places), list(places.values()))
    _plane(axes, chart)
    _legend(figure, inks)
    return figure


def _point(axes: Any, x: float, y: float, ink: Ink, *, filled: bool) -> None:
    axes.plot([x], [y], SHAPES[ink.number % len(SHAPES)], markersize=6, markeredgecolor=ink.colour,
              markerfacecolor=ink.colour if filled else "none")  # fmt: skip


def _plane(axes: Any, chart: Chart) -> None:
    if chart.reference == "diagonal":
        axes.axline((0, 0), slope=1, color=INK, linewidth=1, linestyle=(0, (4, 3)))
    elif chart.reference is not None:
        axes.axhline(chart.reference, color=INK, linewidth=1, linestyle=(0, (4, 3)))
    axes.set_xlabel(chart.across)
    axes.set_ylabel(chart.up)
    axes.grid(color=GRID)


def _labels(chart: Chart) -> list[str]:
    return list(dict.fromkeys(mark.label for mark in chart.marks))


def _rows(axes: Any, labels: list[str]) -> None:
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.45, -0.55)


def _legend(figure: Any, inks: Inks, shape: str | None = None) -> None:
    """What each colour is; nothing for a single series."""
    from matplotlib.lines import Line2D

    if len(inks) < 2:
        return
    marks = [
        Line2D([], [], marker=shape or SHAPES[ink.number % len(SHAPES)], linestyle="",
               markersize=7, color=ink.colour, label=f"{ink.mark} {name}" if shape else name)
        for name, ink in inks.items()
    ]  # fmt: skip
    figure.legend(handles=marks, loc="outside upper center", ncols=min(len(marks), 5),
                  frameon=False, labelcolor=INK, fontsize=8)  # fmt: skip


_KINDS: Mapping[Kind, Callable[[Chart, Inks], Any]] = MappingProxyType(
    {
        "shares": _shares,
        "intervals": _intervals,
        "grid": _grid,
        "scatter": _scatter,
        "lines": _lines,
    }
)
