"""The figures, drawn by matplotlib as SVG."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from taketurns.evaluation.report.canvas import WIDTH, canvas, drawn, style
from taketurns.evaluation.report.theme import ACCENT, COLOURS, GRID, INK
from taketurns.evaluation.statistics import ALPHA

Json = Mapping[str, Any]
ROW = 0.27


def draw(found: Json) -> dict[str, str]:
    """SVG by name, themed."""
    with style():
        figures = {
            "averages": _averages(found),
            "differences": _differences(found),
            "tasks": _tasks(found),
            "frontier": _frontier(found),
        }
        return {name: drawn(figure, name) for name, figure in figures.items()}


def _averages(found: Json) -> Any:
    """Every method's mean over tasks with its interval, best first."""
    methods = sorted(found["methods"].items(), key=lambda item: item[1]["average"]["mean"])
    figure, axes = canvas(ROW * len(methods) + 1.0)
    for row, (_, one) in enumerate(methods):
        mean, low, high = (one["average"][key] for key in ("mean", "low", "high"))
        colour = COLOURS[one["kind"]]
        axes.plot([low, high], [row, row], color=colour, linewidth=2.2, solid_capstyle="round")
        face = "none" if one["hindsight"] else colour
        axes.plot([mean], [row], "o", markeredgecolor=colour, markerfacecolor=face, markersize=6)
        axes.annotate(f"{mean:.3f}", (high, row), xytext=(5, 0), textcoords="offset points",
                      va="center", fontsize=8, color=INK)  # fmt: skip
    axes.set_yticks(range(len(methods)), [_label(name, one) for name, one in methods])
    axes.set_xlabel("mean score over tasks, 95 % interval")
    axes.margins(y=0.02)
    axes.grid(axis="x", color=GRID)
    _legend(figure, found)
    return figure


def _differences(found: Json) -> Any:
    """The subject less every other method."""
    others = sorted(found["comparisons"].items(), key=lambda item: item[1]["difference"])
    figure, axes = canvas(ROW * len(others) + 1.0)
    axes.axvline(0, color=INK, linewidth=1)
    for row, (name, one) in enumerate(others):
        method = found["methods"][name]
        colour = COLOURS[method["kind"]]
        sure = one.get("p_holm", 1.0) < ALPHA
        axes.plot([one["low"], one["high"]], [row, row], color=colour, linewidth=2.2,
                  solid_capstyle="round")  # fmt: skip
        axes.plot([one["difference"]], [row], "o", markersize=6, markeredgecolor=colour,
                  markerfacecolor=colour if sure else "none")  # fmt: skip
    axes.set_yticks(
        range(len(others)), [_label(name, found["methods"][name]) for name, _ in others]
    )
    axes.set_xlabel(f"{found['subject']} less the method, mean over tasks, 95 % interval")
    axes.margins(y=0.02)
    axes.grid(axis="x", color=GRID)
    return figure


def _tasks(found: Json) -> Any:
    """Every method on every task; the best without hindsight in a frame."""
    methods, tasks = list(found["methods"].items()), list(found["questions"])
    figure, axes = canvas(ROW * len(methods) + 1.2)
    for column, task in enumerate(tasks):
        scores = [one["tasks"][task]["mean"] for _, one in methods]
        fair = [s for s, (_, one) in zip(scores, methods, strict=True) if not one["hindsight"]]
        for row, (score, (_, one)) in enumerate(zip(scores, methods, strict=True)):
            best = score == max(fair) and not one["hindsight"]
            _cell(axes, column, row, score, framed=best)
    axes.set_xlim(-0.5, len(tasks) - 0.5)
    axes.set_ylim(len(methods) - 0.5, -0.5)
    axes.set_yticks(range(len(methods)), [_label(name, one) for name, one in methods])
    axes.set_xticks(range(len(tasks)), tasks, rotation=40, ha="left")
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def _cell(axes: Any, column: int, row: int, score: float, *, framed: bool) -> None:
    from matplotlib.patches import Rectangle

    corner = (column - 0.5, row - 0.5)
    shade = 0.75 * score
    axes.add_patch(Rectangle(corner, 1, 1, facecolor=ACCENT, alpha=shade, linewidth=0))
    if framed:
        inner = (column - 0.46, row - 0.44)
        axes.add_patch(Rectangle(inner, 0.92, 0.88, fill=False, edgecolor=INK, linewidth=1))
    text = f"{score:.2f}".removeprefix("0")
    axes.text(column, row, text, ha="center", va="center", fontsize=7.5, color=INK)


def _frontier(found: Json) -> Any:
    """Quality against both costs; the line joins what nothing beats."""
    import matplotlib.pyplot as plt

    figure, both = plt.subplots(2, 1, figsize=(WIDTH, 8.4), layout="constrained")
    for axes, cost in zip(both, ("tokens", "seconds"), strict=True):
        names = found["frontier"][cost]
        at = {
            name: (one["cost"][cost], one["average"]["mean"])
            for name, one in found["methods"].items()
            if one["cost"][cost]  # what gave no answer has no cost
        }
        if names:
            steps = zip(*(at[name] for name in names), strict=True)
            axes.step(*steps, where="post", color=GRID, linewidth=2, zorder=1)
        for name, (spent, quality) in at.items():
            one = found["methods"][name]
            colour = COLOURS[one["kind"]]
            axes.plot(
                [spent],
                [quality],
                "o",
                markersize=6,
                markeredgecolor=colour,
                markerfacecolor="none" if one["hindsight"] else colour,
                zorder=2,
            )
        _ticks(axes)
        _name_points(axes, {name: at[name] for name in names})
        if (
            subject := found["subject"]
        ) in at and subject not in names:  # to its right nothing is named
            axes.annotate(
                subject, at[subject], xytext=(7, 0), textcoords="offset points",
                fontsize=8, color=INK, va="center",
            )  # fmt: skip
        axes.grid(color=GRID)
        axes.set_xlabel(f"{cost} an answer")
        axes.set_ylabel("mean score over tasks")
    _legend(figure, found)
    return figure


def _ticks(axes: Any) -> None:
    """A logarithmic axis with numbers that people write."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _name_points(axes: Any, at: Mapping[str, tuple[float, float]]) -> None:
    """Names to the left of their points, those of close points pushed apart, each with a line to
    its point."""
    low, high = axes.get_ylim()
    apart, last = 0.055 * (high - low), low - 1
    left, right = axes.get_xlim()
    axes.set_xlim(left / (right / left) ** 0.22, right)
    for name, (spent, quality) in sorted(at.items(), key=lambda item: item[1][1]):
        height = last = max(quality, last + apart)
        axes.annotate(
            name,
            (spent, quality),
            xytext=(spent / (right / left) ** 0.03, height),
            fontsize=8,
            color=INK,
            ha="right",
            va="center",
            arrowprops={"arrowstyle": "-", "color": GRID, "shrinkA": 1, "shrinkB": 3},
        )


def _label(name: str, one: Json) -> str:
    return f"{name} *" if one["hindsight"] else name


def _legend(figure: Any, found: Json) -> None:
    from matplotlib.lines import Line2D

    kinds = dict.fromkeys(one["kind"] for one in found["methods"].values())
    marks = [
        Line2D([], [], marker="o", linestyle="", color=COLOURS[kind], label=kind) for kind in kinds
    ]
    figure.legend(
        handles=marks,
        loc="outside upper center",
        ncols=len(marks),
        frameon=False,
        labelcolor=INK,
        fontsize=8,
    )
