"""The visible GPUs of this host, as `nvidia-smi` lists them."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass

from taketurns.errors import UsageError

_QUERY = ["nvidia-smi", "--query-gpu=index,uuid,memory.total", "--format=csv,noheader,nounits"]


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU and its memory in bytes."""

    index: int
    memory: int


def find_gpus() -> tuple[Gpu, ...]:
    """The GPUs of CUDA_VISIBLE_DEVICES, or all if it is not set; empty without a working
    `nvidia-smi`. Raises as `parse_gpus`."""
    try:
        listing = subprocess.run(_QUERY, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()
    return parse_gpus(listing.stdout, os.environ.get("CUDA_VISIBLE_DEVICES"))


def parse_gpus(table: str, visible: str | None = None) -> tuple[Gpu, ...]:
    """The GPUs in nvidia-smi's `table` that are among the `visible` ones: indices or UUIDs
    separated by commas, as for CUDA (None: all). Raises UsageError for a line that is not a GPU,
    and if `visible` names none of them."""
    wanted = None if visible is None else [name.strip() for name in visible.split(",")]
    gpus = []
    for line in table.splitlines():
        if not line.strip():
            continue
        index, uuid, mebibytes, *rest = [*map(str.strip, line.split(",")), "", ""]
        if any(rest) or not index.isdigit() or not mebibytes.isdigit():
            raise UsageError(
                f"cannot read this line of nvidia-smi's list of GPUs: {line!r}; run nvidia-smi and "
                "correct what it reports"
            )
        if wanted is None or any(name == index or _is_uuid_prefix(uuid, name) for name in wanted):
            gpus.append(Gpu(int(index), int(mebibytes) << 20))
    if not gpus and visible not in (None, "", "-1"):
        raise UsageError(
            f"CUDA_VISIBLE_DEVICES is {visible!r}, which names no GPU of this host: unset it, or "
            "give indices or UUIDs that nvidia-smi lists"
        )
    return tuple(gpus)


def _is_uuid_prefix(uuid: str, name: str) -> bool:
    return name.startswith("GPU-") and uuid.startswith(name)
