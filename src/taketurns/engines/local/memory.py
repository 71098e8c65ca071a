"""How much memory there is, and how much an answer takes.

Half of what keys and values may take is for parked answers, half for lanes, of which every model
has its part. So every answer that is admitted can be parked with every model, and there is a lane
for it in each: an answer may wait for a lane, but never for one that cannot be."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import torch

from taketurns.engines.local import batch_invariant

# Of what is free once the weights are in place; activations and everything else have the rest.
CPU_SHARE = 0.5
GPU_SHARE = 0.8


def free_bytes(device: str) -> int:
    """Memory that can be had on a device now: of the system for "cpu" and "mps"."""
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
    """Bytes for keys and values on the scarcest of the devices."""
    shares = [
        int(free_bytes(device) * (GPU_SHARE if device.startswith("cuda") else CPU_SHARE))
        for device in devices
    ]
    return min(shares)


def lane_length(tokens: int, deterministic: bool) -> int:
    """Positions of a lane in which so many tokens stand, the one for scratch included."""
    return (batch_invariant.visible(tokens) if deterministic else tokens) + 1


def answer_bytes(tokens: int, bytes_per_token: Iterable[int], deterministic: bool) -> int:
    """What an answer of so many tokens may take: `bytes_per_token` of each model, parked and once
    more in a lane. `deterministic` where any model is."""
    return 2 * lane_length(tokens, deterministic) * sum(bytes_per_token)
