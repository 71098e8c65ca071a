"""vLLM's executors, in an engine process that ends with this one.

An engine process waits for requests without end when the process that started it is gone, however
it went (vLLM 0.32), and keeps its memory. Here a thread of it waits for the end of its parent. With
several workers, each of them already ends with its engine process.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from multiprocessing.connection import wait
from typing import Any

from vllm.v1.executor.multiproc_executor import MultiprocExecutor
from vllm.v1.executor.uniproc_executor import UniProcExecutor

_GRACE = 10.0  # seconds for vLLM to end by itself


class TiedUniProcExecutor(UniProcExecutor):
    """One worker, in the engine process."""

    def _init_executor(self) -> None:
        end_with_parent()
        super()._init_executor()


class TiedMultiprocExecutor(MultiprocExecutor):
    """A process for each worker."""

    def _init_executor(self) -> None:
        end_with_parent()
        super()._init_executor()


def tied(executor: type[Any]) -> type[Any]:
    """The executor whose engine process ends with its parent; others (Ray's) are kept."""
    return {UniProcExecutor: TiedUniProcExecutor, MultiprocExecutor: TiedMultiprocExecutor}.get(
        executor, executor
    )


def end_with_parent() -> None:
    """End this process, which `multiprocessing` started, when its parent ends."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        watch = threading.Thread(target=_watch, args=(parent.sentinel,), daemon=True)
        watch.name = "parent"
        watch.start()


def _watch(parent: int) -> None:
    wait([parent])
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE)
    os.kill(os.getpid(), signal.SIGKILL)
