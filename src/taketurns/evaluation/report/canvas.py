"""What drawings are made on: matplotlib without a screen, in the theme's colours, as SVG."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from taketurns.evaluation.report.theme import GRID, INK, themed

WIDTH = 8.6  # inches


def canvas(height: float) -> tuple[Any, Any]:
    """A figure of the report's width, `height` inches, and its axes."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(WIDTH, height), layout="constrained")
    return figure, axes


@contextmanager
def style() -> Iterator[None]:
    """Drawing without a screen, in the colours of the theme."""
    import matplotlib as mpl

    ink = ("text.color", "axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor")
    lines = ("axes.edgecolor", "xtick.color", "ytick.color")
    settings = {
        **dict.fromkeys(ink, INK),
        **dict.fromkeys(lines, GRID),
        "font.size": 9,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "svg.fonttype": "none",
        "font.family": "sans-serif",
    }
    with mpl.rc_context(settings):
        previous = mpl.get_backend()
        mpl.use("svg")
        try:
            yield
        finally:
            mpl.use(previous)


def drawn(figure: Any, name: str) -> str:
    """The figure as themed SVG, the same bytes for the same drawing."""
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    text = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": name}):
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    plt.close(figure)
    found = text.getvalue()
    return themed(found[found.index("<svg") :])
