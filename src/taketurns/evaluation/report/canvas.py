"""Figures of matplotlib without a screen, in the theme's colours, as SVG."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from taketurns.evaluation.report.theme import GRID, INK, themed

WIDTH = 8.6  # inches


def canvas(height: float, columns: int = 1) -> tuple[Any, Any]:
    """A figure of the report's width and `height` inches, and its axes; of several `columns`, an
    array of axes that share their rows."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        1, columns, figsize=(WIDTH, height), sharey=True, layout="constrained"
    )
    return figure, axes


@contextmanager
def style(ink: str = INK, grid: str = GRID, **settings: Any) -> Iterator[None]:
    """Draw without a screen, in two colours. `settings` are further ones of matplotlib, with _ for
    the dot in their names."""
    import matplotlib as mpl

    inked = ("text.color", "axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor")
    ruled = ("axes.edgecolor", "xtick.color", "ytick.color", "grid.color")
    with mpl.rc_context(
        {
            **dict.fromkeys(inked, ink),
            **dict.fromkeys(ruled, grid),
            "font.size": 9,
            "axes.axisbelow": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "svg.fonttype": "none",
            "font.family": "sans-serif",
            **{name.replace("_", "."): value for name, value in settings.items()},
        }
    ):
        previous = mpl.get_backend()
        mpl.use("svg")
        try:
            yield
        finally:
            mpl.use(previous)


def drawn(figure: Any, name: str) -> str:
    """The figure as themed SVG; the same figure gives the same bytes."""
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    text = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": name}):
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    plt.close(figure)
    svg = text.getvalue()
    return themed(svg[svg.index("<svg") :])


def draw_interval(axes: Any, low: float, high: float, row: float, colour: str) -> None:
    """A horizontal line from low to high."""
    axes.plot([low, high], [row, row], color=colour, linewidth=2.2, solid_capstyle="round")


def name_rows(axes: Any, labels: Sequence[str]) -> None:
    """Label the rows, from the top."""
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.45, -0.55)
