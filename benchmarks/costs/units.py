"""The units of the table. The rows of a unit are measured in the same rounds."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatch
from time import monotonic

from taketurns.evaluation.stopwatch import Clock

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Unit:
    """Answers of `tokens` tokens, `batch` at a time, in up to `rounds` rounds; `seconds` is what
    all of it takes on two cores of the machine of docs/results.md."""

    group: str
    batch: int
    tokens: int
    rounds: int
    seconds: float

    @property
    def name(self) -> str:
        return f"{self.group}-{self.batch}x{self.tokens}"


@dataclass(frozen=True, slots=True)
class Setting:
    """What all units share: the size of the large models (`benchmarks.overhead.models.SHAPES`) and
    the clock."""

    size: str = "100m"
    clock: Clock = "cpu"


def progress(minutes: float, begun: float | None = None) -> Say:
    """Messages on standard error, after the time since `begun` (`time.monotonic`; None is now)."""
    start = monotonic() if begun is None else begun

    def say(what: str) -> None:
        gone = (monotonic() - start) / 60
        print(f"[{gone:.1f} of at most {minutes:g} min] {what}", file=sys.stderr, flush=True)

    return say


def select(units: Iterable[Unit], patterns: Iterable[str]) -> list[Unit]:
    """The units whose group or name fits one of the patterns, which may have wildcards."""
    wanted = tuple(patterns)
    return [
        unit
        for unit in units
        if any(fnmatch(name, pattern) for name in (unit.group, unit.name) for pattern in wanted)
    ]
