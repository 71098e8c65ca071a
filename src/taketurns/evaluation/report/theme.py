"""One drawing for light and dark: its ink is a variable that the page, or the file itself, sets."""

from __future__ import annotations

INK, GRID, ACCENT = "#010203", "#040506", "#070809"
"""Colours to draw with; they stand for variables."""
_VARIABLES = {INK: "var(--ink)", GRID: "var(--grid)", ACCENT: "var(--accent)"}

LIGHT = (
    "--ink:#1f2328;--grid:#d8dee4;--accent:#0969da;--paper:#ffffff;--soft:#f4f6f8;--edge:#8b8e95"
)
DARK = "--ink:#e6edf3;--grid:#3a424c;--accent:#58a6ff;--paper:#12161c;--soft:#1c222b;--edge:#7a7f89"
COLOURS = {"single": "#E69F00", "baseline": "#3B9FDB", "control": "#8C959F", "switch": "#00A878"}
"""By kind of method; told apart by colour-blind readers, visible on either paper."""


def themed(svg: str) -> str:
    """A drawing in the colours above, with variables for them."""
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, variable)
    return svg


def standalone(svg: str) -> str:
    """A themed drawing as a file of its own, which follows the reader's setting."""
    style = f"<style>svg{{{LIGHT}}}@media(prefers-color-scheme:dark){{svg{{{DARK}}}}}</style>"
    opening, closed, rest = svg.partition(">")
    return f"{opening}{closed}{style}{rest}"
