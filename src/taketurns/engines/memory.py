"""How much memory there is."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import torch

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
