"""How each candidate looks: colour, mark and underline, so that nobody needs the colours alone.
They are those of the served page."""

from __future__ import annotations

from typing import NamedTuple

from taketurns.evaluation.report.theme import ACCENT


class Look(NamedTuple):
    """`colour` is Okabe and Ito's; `mark` stands before what the candidate wrote; `line` is the CSS
    style of its underline."""

    colour: str
    mark: str
    line: str


LOOKS = (
    Look("#e69f00", "●", "solid"),
    Look("#56b4e9", "▲", "dashed"),
    Look("#009e73", "■", "dotted"),
    Look("#cc79a7", "◆", "double"),
    Look("#d9c700", "★", "wavy"),
    Look("#d55e00", "✚", "solid"),
    Look("#0072b2", "✖", "dashed"),
)


OTHERS = (ACCENT, "#d55e00", "#cc79a7", "#8b8e95", "#d9c700")
"""Colours of what is no candidate."""


def look(number: int) -> Look:
    """Of a candidate, by number."""
    return LOOKS[number % len(LOOKS)]
