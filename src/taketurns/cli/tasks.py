"""`taketurns tasks`: list the tasks and the scorers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from taketurns.cli import options

if TYPE_CHECKING:
    from rich.table import Table


def tasks(
    json_: options.JsonOption = False,
) -> None:
    """List the tasks and the scorers."""
    from rich.console import Console

    from taketurns.tasks.registry import listing
    from taketurns.tasks.scorers.registry import SCORERS, settings_of

    if json_:
        scorers = {name: settings_of(name) for name in SCORERS}
        record = {"tasks": listing(), "scorers": {k: list(v) for k, v in scorers.items()}}
        print(json.dumps(record, ensure_ascii=False))  # noqa: T201
        return
    console = Console()
    console.print(_task_table(listing()))
    console.print(_scorer_table())


def _task_table(listed: list[dict[str, Any]]) -> Table:
    from rich.table import Table

    table = Table(box=None, title="tasks", title_justify="left")
    for column in ("task", "scorer", "data"):
        table.add_column(column, no_wrap=True)
    for task in listed:
        table.add_row(task["task"], task["scorer"], task["data"])
    return table


def _scorer_table() -> Table:
    from rich.table import Table

    from taketurns.tasks.scorers.registry import SCORERS, settings_of

    table = Table(box=None, title="scorers", title_justify="left")
    for column in ("scorer", "settings (--with KEY=VALUE)"):
        table.add_column(column, no_wrap=True)
    for name in SCORERS:
        known = settings_of(name)
        table.add_row(name, ", ".join(f"{key}{'!' * needed}" for key, needed in known.items()))
    table.caption = "! required"
    return table
