"""Tables and numbers with intervals, as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table_lines(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table's lines: its header, the rule below it, and its rows."""
    return [f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows)]


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table, with a line break at its end."""
    return "\n".join(table_lines(header, rows)) + "\n"


def interval(value: float, low: float, high: float) -> str:
    """A share and its interval: `0.250 (0.125-0.500)`."""
    return f"{value:.3f} ({low:.3f}-{high:.3f})"


def difference(value: float, low: float, high: float) -> str:
    """A difference and its interval: `+0.250 (-0.125 to +0.500)`."""
    return f"{value:+.3f} ({low:+.3f} to {high:+.3f})"
