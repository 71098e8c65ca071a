"""Progress of several kinds of answers, one after another."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from taketurns.runs.terminal import Progress


class ProgressBars(ExitStack):
    """One progress bar at a time."""

    def __init__(self, *, quiet: bool = False) -> None:
        super().__init__()
        self._quiet = quiet

    def begin(self, what: str, total: int, kept: int) -> Callable[[dict[str, Any]], None]:
        """End the bar before, and show this one unless all is kept."""
        self.close()
        if kept == total or self._quiet:
            return lambda record: None
        bar = self.enter_context(Progress(what, total, kept))
        return lambda record: bar.advance(record.get("written", 0))
