"""The GPUs of this host, as `nvidia-smi` tells them."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass

from taketurns.errors import UsageError

_QUERY = ["nvidia-smi", "--query-gpu=index,memory.total", "--format=csv,noheader,nounits"]


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU and its memory in bytes."""

    index: int
    memory: int


def find_gpus() -> tuple[Gpu, ...]:
    """None where there is no `nvidia-smi`, or it finds no driver."""
    try:
        told = subprocess.run(_QUERY, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()
    return parse(told.stdout)


def parse(told: str) -> tuple[Gpu, ...]:
    """The GPUs in nvidia-smi's table. Raises UsageError for anything else."""
    gpus = []
    for line in told.splitlines():
        if not line.strip():
            continue
        index, comma, mebibytes = line.partition(",")
        if not comma or not index.strip().isdigit() or not mebibytes.strip().isdigit():
            raise UsageError(f"cannot read what nvidia-smi says of the GPUs: {line!r}")
        gpus.append(Gpu(int(index), int(mebibytes) << 20))
    return tuple(gpus)
