"""One drawing for light and dark: its ink is a variable, which `templates/theme.css` sets in the
page and in the file of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from itertools import cycle
from types import MappingProxyType
from typing import NamedTuple

INK, GRID, ACCENT = "#010203", "#040506", "#070809"
"""Colours to draw with; they stand for variables."""
_VARIABLES = {INK: "var(--ink)", GRID: "var(--grid)", ACCENT: "var(--accent)"}


class SeriesStyle(NamedTuple):
    """How a series is shown: its colour, the shape of its points, and, where it is a speaker, the
    mark before what it wrote and the CSS style of its underline."""

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
"""Candidates, in the pool's order and then from the start again, in Okabe and Ito's colours and as
on the served page; the marks and lines say the same without colour."""
METHODS: Mapping[str, SeriesStyle] = MappingProxyType(
    {
        "single": SeriesStyle("#E69F00"),
        "baseline": SeriesStyle("#3B9FDB"),
        "control": SeriesStyle("#8C959F"),
        "switch": SeriesStyle("#00A878"),
    }
)
"""Methods by their kind; told apart by colour-blind readers, visible on either paper."""
SERIES = (
    SeriesStyle(ACCENT, "o"),
    SeriesStyle("#d55e00", "^"),
    SeriesStyle("#cc79a7", "s"),
    SeriesStyle("#8b8e95", "D"),
    SeriesStyle("#d9c700", "*"),
)
"""Other series."""


def speaker_styles(pool: Sequence[str]) -> dict[str, SeriesStyle]:
    """By candidate."""
    return dict(zip(pool, cycle(SPEAKERS), strict=False))


def themed(svg: str) -> str:
    """A drawing in the colours above, with variables for them."""
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, variable)
    return svg


def standalone(svg: str) -> str:
    """A themed drawing as a file of its own, which follows the reader's setting."""
    theme = (files(__package__) / "templates" / "theme.css").read_text(encoding="utf-8")
    opening, closed, rest = svg.partition(">")
    return f"{opening}{closed}<style>{theme}</style>{rest}"
