"""The progress of a run, on standard error, because standard output is for results."""

from __future__ import annotations

import sys
import time

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress
from rich.text import Text

QUIET_SECONDS = 10.0


class Progress:
    """Prints records done, tokens per second and the time left on standard error.

    On a terminal it is a bar, which is removed at the end if it is `passing`; elsewhere it is a
    line every ten seconds, so that a log stays short.
    """

    def __init__(
        self,
        what: str,
        total: int,
        done: int = 0,
        *,
        bar: bool = True,
        passing: bool = False,
    ) -> None:
        self._what, self._total, self._done, self._kept = what, total, done, done
        self._tokens = 0
        self._started = self._said = time.monotonic()
        self._bar: RichProgress | None = None
        if bar and sys.stderr.isatty():
            self._bar = RichProgress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                _Rate(self),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=passing,
            )
            self._task = self._bar.add_task(what, total=total, completed=done)

    def __enter__(self) -> Progress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *raised: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, tokens: int = 0, records: int = 1) -> None:
        """Count further records, with `tokens` tokens in total."""
        self._done += records
        self._tokens += tokens
        if self._bar is not None:
            self._bar.advance(self._task, records)
        elif time.monotonic() - self._said >= QUIET_SECONDS:
            self._said = time.monotonic()
            print(self._line(), file=sys.stderr, flush=True)  # noqa: T201

    @property
    def rate(self) -> float:
        """Tokens per second since the start."""
        return self._tokens / max(time.monotonic() - self._started, 1e-6)

    def _line(self) -> str:
        elapsed = time.monotonic() - self._started
        left = elapsed / (self._done - self._kept) * (self._total - self._done)
        rate = f", {self.rate:.0f} tokens/s" if self._tokens else ""
        return f"{self._what}: {self._done} of {self._total}{rate}, about {left:.0f} s left"


class _Rate(ProgressColumn):
    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self._progress = progress

    def render(self, task: Task) -> Text:
        rate = self._progress.rate
        return Text(f"{rate:.0f} tokens/s" if rate else "", "cyan")
