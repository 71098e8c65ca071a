"""The peak memory of a piece of work, above the level before it."""

from __future__ import annotations

import ctypes
import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import torch

from benchmarks.processes import PROC, resident_bytes

PERIOD = 0.02


class PeakMemory:
    """The `bytes` of the peak above the level before; None if it cannot be measured."""

    bytes: int | None = None


@contextmanager
def peak_memory(device: torch.device) -> Iterator[PeakMemory]:
    """Watch the process (a thread reads its resident size fifty times per second), or a GPU's
    allocator. The yielded object has its `bytes` after the block."""
    peak = PeakMemory()
    release_unused()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield peak
        peak.bytes = max(0, torch.cuda.max_memory_allocated(device) - before)
    elif PROC.exists():
        over = threading.Event()
        levels = [resident_bytes()]

        def watch() -> None:
            while not over.wait(PERIOD):
                levels.append(resident_bytes())

        thread = threading.Thread(target=watch, name="memory", daemon=True)
        thread.start()
        try:
            yield peak
        finally:
            over.set()
            thread.join()
        peak.bytes = max(levels) - levels[0]
    else:
        yield peak


@contextmanager
def settled() -> Iterator[None]:
    """Freeze the objects in memory, so that the garbage collector skips them."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def release_unused() -> None:
    """Return freed memory to the system, so that it does not hide later peaks."""
    gc.collect()
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)
