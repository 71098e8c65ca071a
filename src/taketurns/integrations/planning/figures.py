"""The plot of a plan: throughput, waiting and cache hits over what was varied."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from taketurns.errors import DataError, UsageError
from taketurns.evaluation.report.theme import LIGHT
from taketurns.integrations.planning.grid import GridRow, varied_settings
from taketurns.integrations.planning.table import NAMES
from taketurns.runs.terminal import COLOURS

_THEME = dict(part.removeprefix("--").split(":") for part in LIGHT.split(";"))
INK, GRID, PAPER = (_THEME[name] for name in ("ink", "grid", "paper"))
_LINES = ("-", "--", ":", "-.")


def _quantile(name: str, which: str) -> Callable[[GridRow], float]:
    return lambda row: float((row[name] or {}).get(which, float("nan")))


PANELS: Sequence[tuple[str, Callable[[GridRow], float]]] = (
    ("tokens a second", lambda row: float(row["tokens_per_second"])),
    ("first token, p95, seconds", _quantile("first_token", "p95")),
    ("whole answer, p95, seconds", _quantile("answer", "p95")),
    ("prompt tokens found in caches", lambda row: float(row["cached"])),
)


def draw(rows: Sequence[GridRow], path: Path, title: str) -> None:
    """Write the plot as PNG, SVG or PDF, by the path's ending. Raises UsageError where nothing was
    varied, DataError where it cannot be written."""
    names = varied_settings(rows)
    if not names:
        raise UsageError("a plot needs several values of an option, as in --replicas 1,2,4")
    across, *apart = names
    with style():
        import matplotlib.pyplot as plt

        figure, grid = plt.subplots(2, 2, figsize=(9, 6.2), layout="constrained")
        for axes, (what, value) in zip(grid.flat, PANELS, strict=True):
            for number, (label, line) in enumerate(_lines(rows, apart).items()):
                axes.plot(
                    [row[across] for row in line],
                    [value(row) for row in line],
                    _LINES[number // len(COLOURS) % len(_LINES)],
                    marker="o",
                    markersize=4,
                    color=COLOURS[number % len(COLOURS)],
                    label=label,
                )
            axes.set_title(what, loc="left", fontsize=10)
            axes.set_xlabel(NAMES.get(across, across))
            axes.set_ylim(0, 1.08 * max(axes.get_ylim()[1], 1e-9))
            scale(axes, [row[across] for row in rows])
        if apart:
            figure.legend(*grid.flat[0].get_legend_handles_labels(), loc="outside lower center",
                          ncols=4, frameon=False)  # fmt: skip
        figure.suptitle(title, x=0.01, ha="left", fontsize=11)
        save(figure, path)


def scale(axes: Any, values: Sequence[float]) -> None:
    """Ticks at the values; by powers where they grow so."""
    ticks = sorted(set(values))
    if len(ticks) > 2 and ticks[0] > 0 and ticks[-1] / ticks[0] >= 8:
        axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()


def style() -> Any:
    """Light paper, thin grid."""
    import matplotlib as mpl

    mpl.use("agg")
    return mpl.rc_context({
        **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
        "axes.edgecolor": GRID, "axes.grid": True, "grid.color": GRID, "axes.axisbelow": True,
        "axes.spines.top": False, "axes.spines.right": False, "figure.facecolor": PAPER,
        "font.size": 9, "svg.hashsalt": "taketurns",
    })  # fmt: skip


def save(figure: Any, path: Path) -> None:
    """Write a figure. Raises DataError."""
    import matplotlib.pyplot as plt

    try:
        figure.savefig(path, dpi=130)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot write {path}: {error}") from error
    finally:
        plt.close(figure)


def _lines(rows: Sequence[GridRow], apart: Sequence[str]) -> dict[str, list[GridRow]]:
    lines: dict[str, list[GridRow]] = {}
    for row in rows:
        label = ", ".join(f"{NAMES.get(name, name)} {row[name]:g}" for name in apart)
        lines.setdefault(label, []).append(row)
    return lines
