"""Charts drawn by matplotlib as themed SVG."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from types import MappingProxyType
from typing import Any

from taketurns.evaluation.report.blocks import Chart, ChartKind, DataPoint
from taketurns.evaluation.report.canvas import canvas, draw_interval, drawn, name_rows, style
from taketurns.evaluation.report.theme import ACCENT, GRID, INK, SERIES, SeriesStyle

ROW = 0.3
ON_COLOUR = "#16181c"
NARROW = 0.085  # share of a bar that is too narrow for a label

Styles = Mapping[str, SeriesStyle]


def draw(chart: Chart, styles: Styles) -> str:
    """The chart as SVG. If `styles` has all of its series (such as a pool's speakers), they get
    those styles and that order."""
    series = dict.fromkeys(point.series for point in chart.marks)
    if series and series.keys() <= styles.keys():
        used = {name: look for name, look in styles.items() if name in series}
    else:
        used = dict(zip(series, cycle(SERIES), strict=False))
    with style():
        return drawn(_KINDS[chart.kind](chart, used), chart.name)


def _shares(chart: Chart, styles: Styles) -> Any:
    """Bars of the same length, divided."""
    labels = _labels(chart)
    figure, axes = canvas(ROW * len(labels) + 1.1)
    left = dict.fromkeys(labels, 0.0)
    values = {(point.label, point.series): point.value for point in chart.marks}
    for series, look in styles.items():
        for row, label in enumerate(labels):
            value = values.get((label, series), 0.0)
            axes.barh(row, value, left=left[label], color=look.colour, height=0.78)
            if value > NARROW:
                axes.text(left[label] + value / 2, row, f"{look.mark} {100 * value:.0f}".strip(),
                          ha="center", va="center", fontsize=8, color=ON_COLOUR)  # fmt: skip
            left[label] += value
    axes.set_xlim(0, 1)
    name_rows(axes, labels)
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    axes.set_xlabel(chart.across)
    axes.tick_params(axis="y", length=0)
    _legend(figure, {f"{look.mark} {name}": look for name, look in styles.items()}, "s")
    return figure


def _intervals(chart: Chart, styles: Styles) -> Any:
    """A point and its interval per row; several series of a label are drawn below one another."""
    labels, order = _labels(chart), list(styles)
    many = len(order) if len(chart.marks) > len(labels) else 1
    figure, axes = canvas((ROW if many == 1 else 0.2 * many + 0.06) * len(labels) + 1.1)
    if isinstance(chart.reference, float | int):
        axes.axvline(chart.reference, color=INK, linewidth=1)
    for point in chart.marks:
        slot = 0 if many == 1 else order.index(point.series)
        row = labels.index(point.label) + (slot - (many - 1) / 2) * 0.75 / many
        look = styles[point.series]
        if point.low is not None and point.high is not None:
            draw_interval(axes, point.low, point.high, row, look.colour)
        _point(axes, point.value, row, look, filled=point.sure)
    name_rows(axes, labels)
    axes.set_xlabel(chart.across)
    axes.grid(axis="x", color=GRID)
    _legend(figure, styles)
    return figure


def _grid(chart: Chart, styles: Styles) -> Any:
    """Cells shaded by their value, which is written in them."""
    from matplotlib.patches import Rectangle

    labels, columns = _labels(chart), list(styles)
    figure, axes = canvas(0.34 * len(labels) + 0.9)
    most = max((abs(point.value) for point in chart.marks), default=1.0) or 1.0
    for point in chart.marks:
        column, row = columns.index(point.series), labels.index(point.label)
        shade = 0.75 * abs(point.value) / most
        cell = (column - 0.5, row - 0.5)
        axes.add_patch(Rectangle(cell, 1, 1, facecolor=ACCENT, alpha=shade, linewidth=0))
        if point.sure:
            inside = (column - 0.46, row - 0.44)
            axes.add_patch(Rectangle(inside, 0.92, 0.88, fill=False, edgecolor=INK, linewidth=1))
        axes.text(column, row, f"{point.value:.2f}", ha="center", va="center", fontsize=8,
                  color=INK)  # fmt: skip
    axes.set_xlim(-0.5, len(columns) - 0.5)
    name_rows(axes, labels)
    axes.set_xticks(range(len(columns)), columns, rotation=40, ha="left")
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel(chart.across)
    return figure


def _scatter(chart: Chart, styles: Styles) -> Any:
    """Points by x and value, with their labels."""
    figure, axes = canvas(4.2)
    for point in chart.marks:
        look, x = styles[point.series], point.x or 0.0
        if point.low is not None and point.high is not None:
            axes.plot([x, x], [point.low, point.high], color=look.colour, linewidth=1.6, alpha=0.6)
        _point(axes, x, point.value, look, filled=point.sure)
        if point.label:
            axes.annotate(point.label, (x, point.value), xytext=(6, 4),
                          textcoords="offset points", fontsize=7.5, color=INK)  # fmt: skip
    _plane(axes, chart)
    _legend(figure, styles)
    return figure


def _frontier(chart: Chart, styles: Styles) -> Any:
    """Points by cost and value; a line joins the labelled points that no other one beats."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    figure, axes = canvas(4.4)
    for point in chart.marks:
        _point(axes, point.x or 0.0, point.value, styles[point.series], filled=point.sure)
    named = sorted((p for p in chart.marks if p.label), key=lambda p: (p.x or 0.0, -p.value))
    unbeaten: list[DataPoint] = []
    for point in named:
        if not unbeaten or point.value > unbeaten[-1].value:
            unbeaten.append(point)
    axes.step([p.x for p in unbeaten], [p.value for p in unbeaten], where="post", color=GRID,
              linewidth=2, zorder=1)  # fmt: skip
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    _name_points(axes, named)
    _plane(axes, chart)
    _legend(figure, styles)
    return figure


def _name_points(axes: Any, points: Sequence[DataPoint]) -> None:
    """Labels to the left of their points on a logarithmic axis, each with a line to its point;
    labels of close points are pushed apart."""
    low, high = axes.get_ylim()
    apart, last = 0.055 * (high - low), low - 1
    left, right = axes.get_xlim()
    axes.set_xlim(left / (right / left) ** 0.22, right)
    for point in sorted(points, key=lambda point: point.value):
        x, last = point.x or 0.0, max(point.value, last + apart)
        axes.annotate(point.label, (x, point.value), xytext=(x / (right / left) ** 0.03, last),
                      fontsize=8, color=INK, ha="right", va="center",
                      arrowprops={"arrowstyle": "-", "color": GRID, "shrinkA": 1, "shrinkB": 3},
                      )  # fmt: skip


def _lines(chart: Chart, styles: Styles) -> Any:
    """A line per series with its band."""
    figure, axes = canvas(3.4)
    for series, look in styles.items():
        points = sorted((p for p in chart.marks if p.series == series), key=lambda p: p.x or 0.0)
        x = [point.x or 0.0 for point in points]
        if all(point.low is not None and point.high is not None for point in points):
            axes.fill_between(x, [p.low for p in points], [p.high for p in points],
                              color=look.colour, alpha=0.22, linewidth=0)  # fmt: skip
        axes.plot(x, [point.value for point in points], color=look.colour, linewidth=2,
                  marker=look.shape, markersize=5)  # fmt: skip
    places = {point.x: point.label for point in chart.marks if point.label and point.x is not None}
    if places:
        axes.set_xticks(list(places), list(places.values()))
    _plane(axes, chart)
    _legend(figure, styles)
    return figure


def _point(axes: Any, x: float, y: float, look: SeriesStyle, *, filled: bool) -> None:
    axes.plot([x], [y], look.shape, markersize=6, markeredgecolor=look.colour,
              markerfacecolor=look.colour if filled else "none")  # fmt: skip


def _plane(axes: Any, chart: Chart) -> None:
    if chart.reference == "diagonal":
        axes.axline((0, 0), slope=1, color=INK, linewidth=1, linestyle=(0, (4, 3)))
    elif chart.reference is not None:
        axes.axhline(chart.reference, color=INK, linewidth=1, linestyle=(0, (4, 3)))
    axes.set_xlabel(chart.across)
    axes.set_ylabel(chart.up)
    axes.grid(color=GRID)


def _labels(chart: Chart) -> list[str]:
    return list(dict.fromkeys(point.label for point in chart.marks))


def _legend(figure: Any, styles: Styles, shape: str | None = None) -> None:
    """The name of each colour; no legend for a single series."""
    from matplotlib.lines import Line2D

    if len(styles) < 2:
        return
    handles = [
        Line2D([], [], marker=shape or look.shape, linestyle="", markersize=7, color=look.colour,
               label=name)
        for name, look in styles.items()
    ]  # fmt: skip
    figure.legend(handles=handles, loc="outside upper center", ncols=min(len(handles), 5),
                  frameon=False, labelcolor=INK, fontsize=8)  # fmt: skip


_KINDS: Mapping[ChartKind, Callable[[Chart, Styles], Any]] = MappingProxyType(
    {
        "shares": _shares,
        "intervals": _intervals,
        "grid": _grid,
        "scatter": _scatter,
        "lines": _lines,
        "frontier": _frontier,
    }
)
