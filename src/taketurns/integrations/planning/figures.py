"""The plot of a plan: throughput, latency and cache hits over the varied setting."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from taketurns.errors import DataError, UsageError
from taketurns.evaluation.report.canvas import style
from taketurns.integrations.planning.grid import GridRow, varied_settings
from taketurns.integrations.planning.table import NAMES
from taketurns.utils.colours import COLOURS

INK, GRID, PAPER = "#1f2328", "#d8dee4", "#ffffff"
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
    """Write the plot as PNG, SVG or PDF, by the path's suffix. Raises UsageError if no setting was
    varied, DataError if the file cannot be written."""
    names = varied_settings(rows)
    if not names:
        raise UsageError("a plot needs several values of an option, as in --replicas 1,2,4")
    across, *apart = names

    def plot(axes: Any, panel: int) -> None:
        _, value = PANELS[panel]
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

    titles = [name for name, _ in PANELS]
    write_panels(path, title, titles, plot, NAMES.get(across, across), [r[across] for r in rows])


def write_panels(
    path: Path,
    title: str,
    titles: Sequence[str],
    plot: Callable[[Any, int], None],
    across: str,
    values: Sequence[float],
) -> None:
    """Write four plots over the same `values` of the setting `across`, each drawn by `plot(axes,
    number)`, on a light background. Raises DataError if the file cannot be written."""
    with style(INK, GRID, axes_grid=True, figure_facecolor=PAPER, svg_hashsalt="taketurns"):
        import matplotlib.pyplot as plt

        figure, grid = plt.subplots(2, 2, figsize=(9, 6.2), layout="constrained")
        for number, (axes, what) in enumerate(zip(grid.flat, titles, strict=True)):
            plot(axes, number)
            axes.set_title(what, loc="left", fontsize=10)
            axes.set_xlabel(across)
            axes.set_ylim(0, 1.08 * max(axes.get_ylim()[1], 1e-9))
            _set_scale(axes, values)
        lines, labels = grid.flat[0].get_legend_handles_labels()
        if labels:
            figure.legend(lines, labels, loc="outside lower center", ncols=4, frameon=False)
        figure.suptitle(title, x=0.01, ha="left", fontsize=11)
        try:
            figure.savefig(path, dpi=130)
        except (OSError, ValueError) as error:
            raise DataError(f"cannot write {path}: {error}") from error
        finally:
            plt.close(figure)


def _set_scale(axes: Any, values: Sequence[float]) -> None:
    """Ticks at the values; on a logarithmic scale if they span a factor of 8."""
    ticks = sorted(set(values))
    if len(ticks) > 2 and ticks[0] > 0 and ticks[-1] / ticks[0] >= 8:
        axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()


def _lines(rows: Sequence[GridRow], apart: Sequence[str]) -> dict[str, list[GridRow]]:
    lines: dict[str, list[GridRow]] = {}
    for row in rows:
        label = ", ".join(f"{NAMES.get(name, name)} {row[name]:g}" for name in apart)
        lines.setdefault(label, []).append(row)
    return lines
