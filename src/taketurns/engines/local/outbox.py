"""Calls on their way from the threads that run the models to the event loops."""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress


class Outbox(threading.local):
    """Collects the calls of a round and hands them over with one wake-up per event loop. Each
    thread sees only its own calls, so whichever thread finishes an answer reports it."""

    def __init__(self) -> None:
        self._calls: defaultdict[asyncio.AbstractEventLoop, list[Callable[[], None]]]
        self._calls = defaultdict(list)

    @property
    def empty(self) -> bool:
        """Whether this thread has nothing to hand over."""
        return not self._calls

    def post(self, loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
        """Add a call that is to run in `loop`."""
        self._calls[loop].append(call)

    def flush(self) -> None:
        """Hand over this thread's calls."""
        for loop, calls in self._calls.items():
            with suppress(RuntimeError):  # the loop is closed, so nothing waits there
                loop.call_soon_threadsafe(_run_all, loop, calls)
        self._calls.clear()


def _run_all(loop: asyncio.AbstractEventLoop, calls: list[Callable[[], None]]) -> None:
    """Run callbacks; a failure in one of them does not affect the others."""
    for call in calls:
        try:
            call()
        except Exception as error:
            loop.call_exception_handler({"message": "a callback failed", "exception": error})
