"""How much memory a piece of work takes at its peak, beside what was held before it."""

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
    """The `bytes` at the peak above the level before, None where there is no way to tell."""

    bytes: int | None = None


@contextmanager
def peak_memory(device: torch.device) -> Iterator[PeakMemory]:
    """Watch the process (a thread reads its resident size fifty times a second), or a GPU's
    allocator. What is given has its `bytes` when the block has ended."""
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
    """What is in memory now stays there: the garbage collector need not look at it again."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def release_unused() -> None:
    """Give what was freed back to the system, so that it does not hide what comes next."""
    gc.collect()
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)
