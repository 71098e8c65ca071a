"""Tensors whose memory on a CPU is real only where something was written.

On Linux their pages come from the system when they are first written, and `discard` gives pages
back while the tensor lives. So a tensor may be made as large as it may ever be needed: what is not
used costs nothing. Elsewhere a tensor takes its memory at once and keeps it."""

from __future__ import annotations

import mmap
import sys
from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

PAGE = mmap.PAGESIZE
_FLAGS = (
    mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
    if sys.platform == "linux"
    else 0
)


def is_elastic(device: torch.device | str) -> bool:
    """Whether tensors on `device` take memory only where they are written."""
    return str(device) == "cpu" and sys.platform == "linux"


class Reclaimable:
    """A tensor of zeros, `data`, whose memory can be given back in parts."""

    def __init__(self, shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> None:
        self._pages: mmap.mmap | None = None
        self.data: Tensor
        size = prod(shape) * dtype.itemsize
        if size and is_elastic(device):
            # The tensor holds the mapping, which the system takes back with it.
            self._pages = mmap.mmap(-1, size, flags=_FLAGS)
            self.data = torch.frombuffer(self._pages, dtype=dtype).view(*shape)
        else:
            self.data = torch.zeros(tuple(shape), dtype=dtype, device=device)

    def discard(self, start: int, stop: int) -> None:
        """Give back the pages that lie wholly in elements `start` to `stop` of the flat tensor,
        with what was in them. Does nothing where memory is not elastic."""
        if self._pages is None:
            return
        size = self.data.element_size()
        first = -(-start * size // PAGE) * PAGE
        last = stop * size // PAGE * PAGE
        if last > first:
            self._pages.madvise(mmap.MADV_DONTNEED, first, last - first)
