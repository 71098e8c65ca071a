"""The machine and the software of a measurement."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

import torch

import taketurns
from taketurns.utils.commits import source_commit

PACKAGES = ("torch", "transformers", "numpy")
ROOT = Path(__file__).parents[2]


def describe_setup(device: torch.device, dtype: str) -> dict[str, str | int]:
    """Plain values for the head of a report. The commit is that of the code and the benchmarks; it
    is "unknown" outside a repository."""
    machine: dict[str, str | int] = {
        "commit": source_commit(ROOT / "benchmarks", ROOT / "src") or "unknown",
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "dtype": dtype,
        "cpu": _cpu_name(),
        "cores": _usable_cores(),
        "threads": torch.get_num_threads(),
        "platform": platform.platform(terse=True),
        "python": platform.python_version(),
    }
    versions = {package: version(package) for package in PACKAGES}
    return machine | {"taketurns": taketurns.__version__} | versions


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
