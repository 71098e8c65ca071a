"""Charts drawn by matplotlib as themed SVG, and written as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from dataclasses import astuple, fields
from types import MappingProxyType
from typing import Any

from taketurns.analysis.report.looks import look
from taketurns.analysis.sections import Chart, Kind, Mark
from taketurns.evaluate.report.canvas import canvas, drawn, style
from taketurns.evaluate.report.theme import ACCENT, GRID, INK

ROW = 0.3
ON_COLOUR = "#16181c"
NARROW = 0.085  # of a bar: too little for a label
SHAPES = "o^sDP*X"


def draw(chart: Chart, name: str) -> str:
    """Its SVG; `name` is that of the file."""
    with style():
        return drawn(_KINDS[chart.kind](chart), name)


def as_csv(chart: Chart) -> str:
    """A line a mark, under the names of its fields."""
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(field.name for field in fields(Mark))
    table.writerows(
        ["" if value is None else value for value in astuple(mark)] for mark in chart.marks
    )
    return text.getvalue()


def _shares(chart: Chart) -> Any:
    """Bars of the same length, divided."""
    labels, series = _labels(chart), _series(chart)
    figure, axes = canvas(ROW * len(labels) + 1.1)
    left = dict.fromkeys(labels, 0.0)
    by_part = {(mark.label, mark.series): mark.value for mark in chart.marks}
    for number, part in enumerate(series):
        for row, label in enumerate(labels):
            value = by_part.get((label, part), 0.0)
            axes.barh(row, value, left=left[label], color=look(number).colour, height=0.78)
            if value > NARROW:
                axes.text(left[label] + value / 2, row, f"{look(number).mark} {100 * value:.0f}",
                          ha="center", va="center", fontsize=8, color=ON_COLOUR)  # fmt: skip
            left[label] += value
    axes.set_xlim(0, 1)
    _rows(axes, labels)
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    axes.set_xlabel(chart.across)
    axes.tick_params(axis="y", length=0)
    _legend(figure, series, "s")
    return figure


def _intervals(chart: Chart) -> Any:
    """A point and its interval a row; several series of a label stand below one another."""
    labels, series = _labels(chart), _series(chart)
    many = max(1, len(series))
    figure, axes = canvas((ROW if many == 1 else 0.22 * many + 0.06) * len(labels) + 1.1)
    if isinstance(chart.reference, float | int):
        axes.axvline(chart.reference, color=INK, linewidth=1)
    for mark in chart.marks:
        number = series.index(mark.series) if series else 0
        at = labels.index(mark.label) + (number - (many - 1) / 2) * 0.75 / many
        colour = look(number).colour
        if mark.low is not None and mark.high is not None:
            axes.plot([mark.low, mark.high], [at, at], color=colour, linewidth=2.2,
                      solid_capstyle="round")  # fmt: skip
        _point(axes, mark.value, at, number, filled=mark.sure)
    _rows(axes, labels)
    axes.set_xlabel(chart.across)
    axes.grid(axis="x", color=GRID)
    _legend(figure, series)
    return figure


def _grid(chart: Chart) -> Any:
    """Cells shaded by their value, which stands in them."""
    from matplotlib.patches import Rectangle

    labels, series = _labels(chart), _series(chart)
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


def _scatter(chart: Chart) -> Any:
    """Points by x and value, named where they have a label."""
    series = _series(chart)
    figure, axes = canvas(4.2)
    for mark in chart.marks:
        number = series.index(mark.series) if series else 0
        colour, at = look(number).colour, mark.x or 0.0
        if mark.low is not None and mark.high is not None:
            axes.plot([at, at], [mark.low, mark.high], color=colour, linewidth=1.6, alpha=0.6)
        _point(axes, at, mark.value, number, filled=mark.sure)
        if mark.label:
            axes.annotate(mark.label, (at, mark.value), xytext=(6, 4), textcoords="offset points",
                          fontsize=7.5, color=INK)  # fmt: skip
    _plane(axes, chart)
    _legend(figure, series)
    return figure


def _lines(chart: Chart) -> Any:
    """A line a series with its band."""
    series = _series(chart)
    figure, axes = canvas(3.4)
    for number, name in enumerate(series or [""]):
        marks = sorted((m for m in chart.marks if m.series == name), key=lambda m: m.x or 0.0)
        colour, at = look(number).colour, [mark.x or 0.0 for mark in marks]
        if all(mark.low is not None and mark.high is not None for mark in marks):
            axes.fill_between(at, [m.low for m in marks], [m.high for m in marks], color=colour,
                              alpha=0.22, linewidth=0)  # fmt: skip
        axes.plot(at, [mark.value for mark in marks], color=colour, linewidth=2,
                  marker=SHAPES[number % len(SHAPES)], markersize=5)  # fmt: skip
    places = {mark.x: mark.label for mark in chart.marks if mark.label and mark.x is not None}
    if places:
        axes.set_xticks(list(places), list(places.values()))
    _plane(axes, chart)
    _legend(figure, series)
    return figure


def _point(axes: Any, x: float, y: float, number: int, *, filled: bool) -> None:
    """In the looks of series `number`."""
    colour = look(number).colour
    axes.plot([x], [y], SHAPES[number % len(SHAPES)], markersize=6, markeredgecolor=colour,
              markerfacecolor=colour if filled else "none")  # fmt: skip


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


def _series(chart: Chart) -> list[str]:
    """Nothing where the marks have none."""
    return [name for name in dict.fromkeys(mark.series for mark in chart.marks) if name]


def _rows(axes: Any, labels: list[str]) -> None:
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.45, -0.55)


def _legend(figure: Any, series: list[str], shape: str | None = None) -> None:
    """What each colour is; nothing for a single series."""
    from matplotlib.lines import Line2D

    if len(series) < 2:
        return
    marks = [
        Line2D([], [], marker=shape or SHAPES[number % len(SHAPES)], linestyle="", markersize=7,
               color=look(number).colour,
               label=f"{look(number).mark} {name}" if shape else name)
        for number, name in enumerate(series)
    ]  # fmt: skip
    figure.legend(handles=marks, loc="outside upper center", ncols=min(len(marks), 5),
                  frameon=False, labelcolor=INK, fontsize=8)  # fmt: skip


_KINDS: Mapping[Kind, Callable[[Chart], Any]] = MappingProxyType(
    {
        "shares": _shares,
        "intervals": _intervals,
        "grid": _grid,
        "scatter": _scatter,
        "lines": _lines,
    }
)
