"""A time limit, divided between measurements, and rounds that keep to their part."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import monotonic
from typing import TypeVar

Name = TypeVar("Name")
Result = TypeVar("Result")
Clock = Callable[[], float]
"""Seconds; only differences have a meaning."""


class Budget:
    """Wall-clock seconds from now on. `expected` has the seconds that each unit would take on the
    machine it was planned on: a unit gets the same part of the time that is left as of what is
    expected of the units that are left, so time that one saves or exceeds is shared by the
    others."""

    def __init__(
        self, seconds: float, expected: Mapping[str, float], now: Clock = monotonic
    ) -> None:
        self._end = now() + seconds
        self._expected = dict(expected)
        self._now = now

    @property
    def left(self) -> float:
        """The seconds until the limit."""
        return self._end - self._now()

    def part(self, unit: str) -> float:
        """The seconds for a unit that begins now; each is asked for once."""
        whole = sum(self._expected.values())
        return max(0.0, self.left) * self._expected.pop(unit) / whole


def interleave(
    runs: Mapping[Name, Callable[[], Result]],
    seconds: float,
    most: int,
    *,
    left: float,
    first: float = 0.0,
    now: Clock = monotonic,
) -> list[dict[Name, Result]]:
    """Run everything once a round, in an order that rotates, so that a slow phase of the machine
    affects all alike.

    The first round begins if `first` seconds fit into those that are `left` for all measurements,
    a further one if one as long as the longest fits into `seconds`. So the result may be empty, or
    have up to `most` rounds."""
    names = list(runs)
    begun = now()
    longest, rounds = first, list[dict[Name, Result]]()
    while len(rounds) < most and now() - begun + longest < (seconds if rounds else left):
        turn, before = len(rounds) % len(names), now()
        rounds.append({name: runs[name]() for name in names[turn:] + names[:turn]})
        longest = max(longest, now() - before)
    return rounds
