"""A server's memory for keys and values, kept as vLLM keeps it.

It is cut into blocks. A block that is full has a name, which stands for its tokens and all before
them, and is found by it again, also when nobody uses it any more; where room is needed, the unused
block that was left first is given up.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable, Sequence


class Blocks:
    """`capacity` blocks, of which some are in use, with a name or not yet."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._used: dict[Hashable, int] = {}
        self._unused: OrderedDict[Hashable, None] = OrderedDict()
        self._nameless = 0

    @property
    def free(self) -> int:
        """How many may be taken."""
        return self.capacity - len(self._used) - self._nameless

    def find(self, names: Iterable[Hashable]) -> list[Hashable]:
        """Those at the beginning of `names` that are there."""
        found = []
        for name in names:
            if name not in self._used and name not in self._unused:
                break
            found.append(name)
        return found

    def hold(self, names: Iterable[Hashable]) -> None:
        """Use blocks that were found."""
        for name in names:
            self._unused.pop(name, None)
            self._used[name] = self._used.get(name, 0) + 1

    def take(self, count: int) -> None:
        """Use so many more of those that are free, without a name yet."""
        self._nameless += count
        while len(self._used) + len(self._unused) + self._nameless > self.capacity:
            self._unused.popitem(last=False)

    def name(self, names: Sequence[Hashable]) -> None:
        """As many nameless blocks are full now."""
        self._nameless -= len(names)
        self.hold(names)

    def release(self, names: Sequence[Hashable], nameless: int) -> None:
        """An answer needs its blocks no more; of those, its last are given up first."""
        self._nameless -= nameless
        for name in reversed(names):
            self._used[name] -= 1
            if not self._used[name]:
                del self._used[name]
                self._unused[name] = None
