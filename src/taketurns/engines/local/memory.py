"""The free memory, and the memory that an answer needs.

Where lanes take memory only for what is written, the keys and values of an answer exist once, and
all memory is for them. Elsewhere half of it is for lanes, of which every model has a part, and half
for answers that had to leave them. Either way every admitted answer fits a lane of every model: an
answer may wait for a lane, but never forever."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from pathlib import Path

import torch

from taketurns.engines.local import batch_invariant
from taketurns.engines.local.lane_tensors import cells_of

# Shares of the memory that is free after loading; activations and all else have the rest.
CPU_SHARE = 0.5
GPU_SHARE = 0.8
TYPICAL = 2048  # tokens of an answer for which models with states and without are given alike


def free_bytes(device: str) -> int:
    """The free memory of a device in bytes; of the system for "cpu" and "mps"."""
    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(torch.device(device))[0])
    try:
        with Path("/proc/meminfo").open() as lines:
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def kv_budget(devices: Iterable[str]) -> int:
    """The bytes for keys and values on the device with the least memory."""
    shares = [
        int(free_bytes(device) * (GPU_SHARE if device.startswith("cuda") else CPU_SHARE))
        for device in devices
    ]
    return min(shares)


def lane_length(tokens: int, deterministic: bool) -> int:
    """The positions of a lane for `tokens` tokens, the scratch position included."""
    return (batch_invariant.visible(tokens) if deterministic else tokens) + 1


@dataclass(frozen=True, slots=True)
class CacheSize:
    """What one model keeps of an answer: for each layer its window (0: none) and the bytes of a
    token, and the bytes of its `states`. `deterministic`: it runs in exact rounds. `elastic`: lanes
    take memory only where something is written, so a token's keys and values exist once."""

    layers: tuple[tuple[int, int], ...] = ()
    states: int = 0
    deterministic: bool = False
    elastic: bool = False

    @property
    def bytes_per_token(self) -> int:
        """The bytes of a token that no window has left behind."""
        return sum(size for _, size in self.layers)

    def of(self, tokens: int) -> int:
        """The bytes for `tokens` tokens, in a lane or out of it."""
        rounded = batch_invariant.visible if self.deterministic else int
        length = lane_length(tokens, self.deterministic and not self.elastic)
        keys = sum(cells_of(window, length, rounded) * size for window, size in self.layers)
        return keys + self.states


def shares(caches: Sequence[CacheSize]) -> list[Fraction]:
    """The part of the memory for lanes that each model has: as many answers of `TYPICAL` tokens fit
    in each."""
    sizes = [cache.of(TYPICAL) for cache in caches]
    return [Fraction(size, sum(sizes) or 1) for size in sizes]


def answer_bytes(tokens: int, caches: Sequence[CacheSize]) -> int:
    """The bytes for an answer of `tokens` tokens in all models. Where lanes are not elastic it
    counts outside them and in a lane of each model, which has only its share."""
    if all(cache.elastic for cache in caches):
        return sum(cache.of(tokens) for cache in caches)
    parts = zip(caches, shares(caches), strict=True)
    needs = [ceil(cache.of(tokens) / share) for cache, share in parts if share]
    return 2 * max(needs, default=0)
