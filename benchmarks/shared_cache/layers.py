"""Which layers of a model read the keys and values of the model that wrote a token."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SharedLayers:
    """A choice of shared layers, the same for every pair of models. A layer that is not shared is
    recomputed: each model has keys and values of its own there, for all tokens."""

    name: str
    shared: frozenset[int]

    @property
    def entries(self) -> frozenset[int]:
        """The recomputed layers after a shared one, which begin from stored hidden states."""
        return frozenset(layer + 1 for layer in self.shared if layer + 1 not in self.shared)

    def stored(self, layers: int) -> frozenset[int]:
        """The entries that a model of so many layers has."""
        return frozenset(layer for layer in self.entries if layer < layers)


NONE = SharedLayers("none", frozenset())


def lower(count: int) -> SharedLayers:
    """The first `count` layers."""
    return SharedLayers(f"lower {count}", frozenset(range(count)))


def upper(count: int, layers: int) -> SharedLayers:
    """The last `count` of `layers`."""
    return SharedLayers(f"upper {count}", frozenset(range(layers - count, layers)))


def except_for(first: int, last: int, layers: int) -> SharedLayers:
    """All of `layers` but those from `first` to before `last`, which are recomputed."""
    shared = frozenset(range(layers)) - frozenset(range(first, last))
    return SharedLayers(f"all but {first}-{last - 1}", shared)


def groups(count: int, layers: int, stride: int = 1) -> list[SharedLayers]:
    """The choices that share `count` of `layers` and recompute one contiguous group, which begins
    at a multiple of `stride`, or ends with the last layer: the lower ones first."""
    if count == 0:
        return [NONE]
    if count == layers:
        return [lower(layers)]
    width = layers - count
    starts = sorted({*range(0, count, stride), count}, reverse=True)
    return [
        lower(count)
        if start == count
        else upper(count, layers)
        if start == 0
        else except_for(start, start + width, layers)
        for start in starts
    ]
