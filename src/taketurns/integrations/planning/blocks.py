"""A server's memory for keys and values, managed as in vLLM.

It consists of blocks. A full block has a name, which stands for its tokens and all tokens before
them. It can be found by its name even when no call uses it any more, until it is the least recently
used one and is evicted.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable, Sequence
from itertools import takewhile


class Blocks:
    """`capacity` blocks; a block in use has a name, or gets one when it is full."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._used: dict[Hashable, int] = {}
        self._unused: OrderedDict[Hashable, None] = OrderedDict()
        self._nameless = 0

    @property
    def free(self) -> int:
        """The number of blocks that may be taken."""
        return self.capacity - len(self._used) - self._nameless

    def find(self, names: Iterable[Hashable]) -> list[Hashable]:
        """The longest beginning of `names` that is in memory."""
        return list(takewhile(lambda name: name in self._used or name in self._unused, names))

    def hold(self, names: Iterable[Hashable]) -> None:
        """Use blocks that were found."""
        for name in names:
            self._unused.pop(name, None)
            self._used[name] = self._used.get(name, 0) + 1

    def take(self, count: int) -> None:
        """Use `count` free blocks, which have no name yet."""
        self._nameless += count
        while len(self._used) + len(self._unused) + self._nameless > self.capacity:
            self._unused.popitem(last=False)

    def name(self, names: Sequence[Hashable]) -> None:
        """Give `names` to blocks that are full now."""
        self._nameless -= len(names)
        self.hold(names)

    def release(self, names: Sequence[Hashable], nameless: int) -> None:
        """Release an answer's blocks; its last blocks are evicted first."""
        self._nameless -= nameless
        for name in reversed(names):
            self._used[name] -= 1
            if not self._used[name]:
                del self._used[name]
                self._unused[name] = None
