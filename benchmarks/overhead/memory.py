"""How much memory a piece of work takes at its peak, beside what was held before it."""

from __future__ import annotations

import ctypes
import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType

import torch

from benchmarks.processes import PROC, resident_bytes

PERIOD = 0.02


class PeakMemory:
    """Watches the process (a thread reads its resident size fifty times a second), or a GPU's
    allocator.

    `bytes` is the peak above the level at entry, None where there is no way to tell.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._before = 0
        self._peak: int | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="memory", daemon=True)

    @property
    def bytes(self) -> int | None:
        return None if self._peak is None else max(0, self._peak - self._before)

    def __enter__(self) -> PeakMemory:
        release_unused()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self._device)
            self._before = torch.cuda.memory_allocated(self._device)
        elif PROC.exists():
            self._before = self._peak = resident_bytes()
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._device.type == "cuda":
            self._peak = torch.cuda.max_memory_allocated(self._device)
        elif self._thread.is_alive():
            self._over.set()
            self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(PERIOD):
            self._peak = max(self._peak or 0, resident_bytes())


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
