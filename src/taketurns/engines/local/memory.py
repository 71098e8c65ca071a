"""The free memory, and the memory that an answer needs.

Half of the memory for keys and values is for parked answers, half for lanes, of which every model
has a part. So every admitted answer can be parked with every model and fits a lane in each: an
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
class Footprint:
    """The bytes that an answer takes in one model, parked or in a lane: keys and values
    `per_token`, states `fixed`."""

    per_token: int
    fixed: int = 0

    def of(self, tokens: int) -> int:
        return self.per_token * tokens + self.fixed


def shares(footprints: Sequence[Footprint]) -> list[Fraction]:
    """The part of the memory for lanes that each model has: as many answers of `TYPICAL` tokens fit
    in each."""
    sizes = [footprint.of(TYPICAL) for footprint in footprints]
    return [Fraction(size, sum(sizes) or 1) for size in sizes]


def answer_bytes(tokens: int, footprints: Sequence[Footprint], deterministic: bool) -> int:
    """The bytes for an answer of `tokens` tokens, once parked with all models and once in a lane of
    each, which has only its share. `deterministic`: a model runs in exact rounds."""
    length = lane_length(tokens, deterministic)
    needs = [
        ceil(footprint.of(length) / share)
        for footprint, share in zip(footprints, shares(footprints), strict=True)
        if share
    ]
    return 2 * max(needs, default=0)
