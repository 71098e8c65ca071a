"""A plan as a table for the terminal, with a row per combination."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from taketurns.integrations.planning.grid import VARIED, GridRow, varied_settings

NAMES = {"at_a_time": "at a time", "rate": "answers/s"}
_CAPTION = "First token: p95 after the question. Token: p95 of an answer's mean after the first."
_GROWS = " A row marked ! is overloaded: the longer the load lasts, the longer an answer takes."


def plan_table(rows: Sequence[GridRow]) -> Table:
    """The table, with a column for each varied setting, or for the load if none was varied."""
    apart = varied_settings(rows)
    load = "rate" if "rate" in rows[0] else "at_a_time"
    settings = [name for name in VARIED if name in apart] or [load]
    caption = _CAPTION + _GROWS * any(row["grows"] for row in rows)
    table = Table(box=None, padding=(0, 1, 0, 0), caption=caption, caption_justify="left")
    results = ("servers", "tokens/s", "first s", "token ms", "answer s p50", "p95", "p99", "cached",
               "busy")  # fmt: skip
    for heading in (*(NAMES.get(name, name) for name in settings), *results):
        table.add_column(heading, justify="right")
    for row in rows:
        first, token, answer = (row[name] or {} for name in ("first_token", "token", "answer"))
        table.add_row(
            *(f"{row[name]:g}" for name in settings),
            str(row["servers"]),
            f"{row['tokens_per_second']:.0f}" + "!" * row["grows"],
            _number(first.get("p95")),
            _number(token.get("p95"), 1000),
            *(_number(answer.get(which)) for which in ("p50", "p95", "p99")),
            f"{row['cached']:.0%}",
            f"{row['busy']:.0%}",
        )
    return table


def _number(value: float | None, unit: int = 1) -> str:
    return "" if value is None else f"{unit * value:.2g}"
