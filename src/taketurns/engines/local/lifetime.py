"""Whether an engine can still run models, and the requests that wait for it.

All threads of an engine share one lifetime. An answer needs several models, so if one thread ends,
no request of any thread can be trusted to end: all fail with the same sentence."""

from __future__ import annotations

import threading
from collections.abc import Callable

from taketurns.errors import EngineError

Failed = Callable[[Exception], None]


class Lifetime:
    """Open, then closed or failed. `enter` and `leave` frame each request."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: set[Failed] = set()
        self._closed = False
        self._failure: str | None = None

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def failure(self) -> str | None:
        """Why the engine has failed; None if it has not."""
        return self._failure

    def enter(self, failed: Failed) -> None:
        """Register a request; `failed` is called if the engine ends first. Raises EngineError if it
        is closed or has failed."""
        with self._lock:
            if self._closed:
                raise EngineError("the engine is closed")
            if self._failure is not None:
                raise EngineError(self._failure)
            self._waiting.add(failed)

    def leave(self, failed: Failed) -> None:
        """A request has its result, or its caller was cancelled."""
        with self._lock:
            self._waiting.discard(failed)

    def fail(self, failure: str) -> None:
        """Reject the waiting requests, and all later ones. The first failure counts."""
        with self._lock:
            if self._failure is not None:
                return
            self._failure = failure
        self.reject_waiting(EngineError(failure))

    def close(self) -> bool:
        """Reject later requests; False if the engine was closed already."""
        with self._lock:
            before, self._closed = self._closed, True
        return not before

    def reject_waiting(self, error: EngineError) -> None:
        """Reject the requests that have no result."""
        with self._lock:
            waiting = list(self._waiting)
        for failed in waiting:
            failed(error)
