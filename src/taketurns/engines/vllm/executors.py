"""vLLM's executors, in an engine process that ends with this one.

An engine process waits without end for the one that started it, also when that is gone (vLLM 0.32):
first for a greeting, before it loads the model, and then for requests. So a thread of it watches
its parent from the moment in which it gets its arguments, of which the executor is one. The workers
of an engine already end with it.
"""

from __future__ import annotations

import copyreg
import os
import signal
import threading
import time
from abc import ABCMeta
from typing import Any

from vllm.v1.executor.multiproc_executor import MultiprocExecutor
from vllm.v1.executor.uniproc_executor import UniProcExecutor

_EVERY = 1.0  # seconds between two looks at the parent
_GRACE = 10.0  # seconds for vLLM to end by itself


class Tied(ABCMeta):
    """Executors that tie the process to which they are sent to the one that sends them."""


class TiedUniProcExecutor(UniProcExecutor, metaclass=Tied):
    """One worker, in the engine process."""


class TiedMultiprocExecutor(MultiprocExecutor, metaclass=Tied):
    """A process for each worker."""


_TIED: dict[type[Any], type[Any]] = {
    UniProcExecutor: TiedUniProcExecutor,
    MultiprocExecutor: TiedMultiprocExecutor,
}


def tied(executor: type[Any], *, alone: bool) -> type[Any]:
    """The executor whose engine process ends with this one; others (Ray's) are kept. `alone`: the
    engine's only worker needs no process of its own."""
    if alone and executor is MultiprocExecutor:
        executor = UniProcExecutor
    return _TIED.get(executor, executor)


def _send(executor: type[Any]) -> tuple[Any, ...]:
    """How such a class is pickled."""
    return _arrive, (executor.__name__, os.getpid())


def _arrive(name: str, parent: int) -> type[Any]:
    threading.Thread(target=_watch, args=(parent,), name="parent", daemon=True).start()
    return next(each for each in _TIED.values() if each.__name__ == name)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_EVERY)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE)
    os.kill(os.getpid(), signal.SIGKILL)


copyreg.pickle(Tied, _send)
