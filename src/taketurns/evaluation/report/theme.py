"""Colours of the charts. One drawing serves light and dark: its ink is a CSS variable, which
`templates/theme.css` sets, in the page and in the chart's own file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from itertools import cycle
from types import MappingProxyType
from typing import NamedTuple

INK, GRID, ACCENT = "#010203", "#040506", "#070809"
"""Placeholder colours to draw with; `themed` replaces them by CSS variables."""
_VARIABLES = {INK: "var(--ink)", GRID: "var(--grid)", ACCENT: "var(--accent)"}


class SeriesStyle(NamedTuple):
    """The style of a series: its colour, the shape of its points and, for a speaker, the mark
    before its text and the CSS style of the underline."""

    colour: str
    shape: str = "o"
    mark: str = ""
    underline: str = "solid"


SPEAKERS = (
    SeriesStyle("#e69f00", "o", "●", "solid"),
    SeriesStyle("#56b4e9", "^", "▲", "dashed"),
    SeriesStyle("#009e73", "s", "■", "dotted"),
    SeriesStyle("#cc79a7", "D", "◆", "double"),
    SeriesStyle("#d9c700", "*", "★", "wavy"),
    SeriesStyle("#d55e00", "P", "✚", "solid"),
    SeriesStyle("#0072b2", "X", "✖", "dashed"),
)
"""Styles of candidates, in the pool's order and then from the start again: Okabe and Ito's colours,
as on the served page. Marks and lines tell speakers apart without colour."""
METHODS: Mapping[str, SeriesStyle] = MappingProxyType(
    {
        "single": SeriesStyle("#E69F00"),
        "baseline": SeriesStyle("#3B9FDB"),
        "control": SeriesStyle("#8C959F"),
        "switch": SeriesStyle("#00A878"),
    }
)
"""Styles by kind of method; colour-blind readers can tell them apart, on light and on dark."""
SERIES = (
    SeriesStyle(ACCENT, "o"),
    SeriesStyle("#d55e00", "^"),
    SeriesStyle("#cc79a7", "s"),
    SeriesStyle("#8b8e95", "D"),
    SeriesStyle("#d9c700", "*"),
)
"""Other series."""


def speaker_styles(pool: Sequence[str]) -> dict[str, SeriesStyle]:
    """The style of each candidate, by name."""
    return dict(zip(pool, cycle(SPEAKERS), strict=False))


def themed(svg: str) -> str:
    """A drawing with CSS variables in place of the placeholder colours."""
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, variable)
    return svg


def standalone(svg: str) -> str:
    """A themed drawing as a self-contained file, light or dark as the reader's system is set."""
    theme = (files(__package__) / "templates" / "theme.css").read_text(encoding="utf-8")
    opening, closed, rest = svg.partition(">")
    return f"{opening}{closed}<style>{theme}</style>{rest}"
