"""The free memory, and the memory that an answer needs.

Half of the memory for keys and values is for parked answers, half for lanes, of which every model
has a part. So every admitted answer can be parked with every model and fits a lane in each: an
answer may wait for a lane, but never forever."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import torch

from taketurns.engines.local import batch_invariant

# Shares of the memory that is free after loading; activations and all else have the rest.
CPU_SHARE = 0.5
GPU_SHARE = 0.8


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


def answer_bytes(tokens: int, bytes_per_token: Iterable[int], deterministic: bool) -> int:
    """The bytes for an answer of `tokens` tokens: `bytes_per_token` of each model, once parked and
    once in a lane. `deterministic`: a model runs in exact rounds."""
    return 2 * lane_length(tokens, deterministic) * sum(bytes_per_token)
