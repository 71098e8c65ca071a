"""The thread in which vLLM runs. Its engines belong to one event loop for as long as they live, and
a team may be asked from many, one after the other."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from taketurns.engines.base import OnToken
from taketurns.errors import EngineError
from taketurns.types import Token

T = TypeVar("T")
_CLOSED = "the engine is closed"


class EngineThread:
    """An event loop in a thread, which starts with the first call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._closed = False
        self._outbox: dict[asyncio.AbstractEventLoop, list[Callable[[], None]]] = {}

    async def run(
        self,
        work: Callable[[OnToken | None], Coroutine[Any, Any, T]],
        on_token: OnToken | None = None,
    ) -> T:
        """The result of `work`, which runs in the thread. It is given what shows a token to
        `on_token`, in the caller's event loop. If the caller is cancelled, the work is too, and no
        more tokens are shown. Raises EngineError if the engine is closed."""
        caller = asyncio.get_running_loop()
        shown = True

        def show(token: Token) -> None:
            if shown and on_token is not None:
                on_token(token)

        emit = None if on_token is None else lambda token: self._post(caller, lambda: show(token))
        loop = self._running()
        try:
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work(emit), loop))
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._closed and (task is None or not task.cancelling()):
                raise EngineError(_CLOSED) from None  # the work was cancelled, not its caller
            raise
        finally:
            shown = False

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` in the thread, and do not wait for it; it does not run in a closed one."""
        with self._lock:
            loop = None if self._closed else self._loop
        if loop is None:
            work.close()
        else:
            asyncio.run_coroutine_threadsafe(work, loop)

    def close(self) -> None:
        """End the thread; its work is cancelled."""
        with self._lock:
            self._closed = True
            loop, thread = self._loop, self._thread
        if loop is not None and thread is not None and thread.is_alive():
            loop.call_soon_threadsafe(loop.stop)
            thread.join()

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._closed:
                raise EngineError(_CLOSED)
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._main, args=(self._loop,), name="vllm", daemon=True
                )
                self._thread.start()
            return self._loop

    @staticmethod
    def _main(loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
        finally:
            tasks = asyncio.all_tasks(loop)
            for task in tasks:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()

    def _post(self, caller: asyncio.AbstractEventLoop, action: Callable[[], None]) -> None:
        """Run `action` in the caller's loop. All actions of a step go over together, because each
        crossing wakes the other thread."""
        waiting = self._outbox.get(caller)
        if waiting is not None:
            waiting.append(action)
            return
        self._outbox[caller] = [action]
        asyncio.get_running_loop().call_soon(self._flush, caller)

    def _flush(self, caller: asyncio.AbstractEventLoop) -> None:
        actions = self._outbox.pop(caller)

        def run() -> None:
            for action in actions:
                action()

        try:
            caller.call_soon_threadsafe(run)
        except RuntimeError:  # that loop has ended, and its answers with it
            return
