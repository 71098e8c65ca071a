"""What one model has encoded of one answer, and where its keys and values are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakSet

from torch import Tensor

from taketurns.engines.local.states import Snapshots
from taketurns.engines.local.text_caches import TextCache, shared_prefix


@dataclass(frozen=True, slots=True)
class Filled:
    """What is in a lane: the first `tokens` positions of an answer, after it was written up to the
    position `extent`. That is further where an answer was taken back."""

    tokens: int
    extent: int


NOTHING = Filled(0, 0)


@dataclass(frozen=True, slots=True)
class Segment:
    """A copy of a lane outside its pool: a `[2, heads, cells, width]` tensor per layer."""

    layers: tuple[Tensor, ...]
    filled: Filled


class Parked:
    """The tokens of one answer that one model has encoded. Their keys and values exist once: in the
    lane `lane` of the model's pool, or in a `segment`; a fork that was not continued yet has none
    and reads those of its `origin`. Only the pool changes these three. A model with states has
    `snapshots` of them. A model without lanes has the `cache` of the answer's last turn.

    `reserve` is the most tokens that the answer may have, 0 if that is not known. `beginning` are
    the answers whose prompts begin alike."""

    __slots__ = (
        "__weakref__",
        "beginning",
        "cache",
        "lane",
        "origin",
        "reserve",
        "segment",
        "snapshots",
        "tokens",
    )

    def __init__(self, reserve: int = 0) -> None:
        self.tokens: list[int] = []
        self.reserve = reserve
        self.lane: int | None = None
        self.segment: Segment | None = None
        self.origin: Parked | None = None
        self.snapshots: Snapshots | None = None
        self.cache: TextCache | None = None
        self.beginning: Beginning | None = None

    @property
    def holder(self) -> Parked | None:
        """This, or the origin, that has the keys and values; None if there are none."""
        found: Parked | None = self
        while found is not None and found.lane is None and found.segment is None:
            found = found.origin
        return found

    def common(self, prompt: Sequence[int]) -> int:
        """The number of leading tokens of `prompt` that are encoded, never including its last."""
        holder = self.holder
        if holder is None:
            return 0
        limit = shared_prefix(self.tokens, prompt, len(prompt) - 1)
        # The origin may have been rewritten since.
        return limit if holder is self else shared_prefix(holder.tokens, prompt, limit)

    def fork(self) -> Parked:
        """The same tokens, for a continuation of their own. Copies no keys and values."""
        fork = Parked(self.reserve)
        fork.tokens = list(self.tokens)
        fork.origin = self
        fork.snapshots = None if self.snapshots is None else self.snapshots.fork()
        fork.cache = self.cache
        return fork

    def clear(self) -> None:
        """Forget all tokens."""
        self.tokens, self.snapshots, self.cache = [], None, None
        self.segment, self.origin, self.lane = None, None, None


class Beginning:
    """The answers of one model whose prompts have the same first block, as long as one is alive:
    they keep it."""

    __slots__ = ("__weakref__", "answers")

    def __init__(self) -> None:
        self.answers: WeakSet[Parked] = WeakSet()
