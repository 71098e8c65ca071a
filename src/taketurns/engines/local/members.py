"""The models whose rows are in one runner's forwards, and what each of them has done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(slots=True)
class ModelCounters:
    """What a model has done so far. Tokens are real ones: padding is not counted. A forward that
    models share counts once for each that has a row in it; the seconds of a step are divided by the
    tokens that each of them read in it. The lanes whose peak is counted are those of all models
    that share them."""

    encoded_tokens: int = 0
    written_tokens: int = 0
    forwards: int = 0
    seconds: float = 0.0
    peak_lane_bytes: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """One of the models of a runner: its adapter (None: it is the base), the ids that it must not
    write, and its counters."""

    adapter: str | None = None
    suppressed: tuple[int, ...] = ()
    counters: ModelCounters = field(default_factory=ModelCounters)


class StepWork:
    """What one step of a runner does for each member: the tokens that are read."""

    def __init__(self) -> None:
        self._read: Counter[Member] = Counter()

    def add(self, members: Iterable[tuple[Member, int]]) -> None:
        """Count a forward with so many new tokens of each."""
        read: Counter[Member] = Counter()
        for member, tokens in members:
            read[member] += tokens
        for member in +read:
            member.counters.forwards += 1
        self._read += read

    def charge(self, seconds: float, members: Iterable[Member]) -> None:
        """Add the step's time to the counters of `members`; where no token was read, to each
        alike."""
        shares = self._read or Counter(members)
        for member, part in shares.items():
            member.counters.seconds += seconds * part / shares.total()
