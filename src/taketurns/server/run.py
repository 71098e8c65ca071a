"""Runs a served team with uvicorn until a signal stops it.

The socket listens before the models are loaded, so liveness and readiness differ. The first SIGTERM
or Ctrl-C lets running answers finish; the second stops at once.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import webbrowser
from collections.abc import Callable
from types import FrameType

import uvicorn

from taketurns.errors import TakeTurnsError, UsageError
from taketurns.generation.team import Team
from taketurns.server.app import make_app
from taketurns.server.config import ServeConfig
from taketurns.server.connection import timeout_protocol
from taketurns.server.exporters import tracer_of_environment
from taketurns.server.logs import LOG, log_to_stderr
from taketurns.server.middleware import is_loopback
from taketurns.server.model_registry import ModelRegistry
from taketurns.server.serving import Serving

_CLOSE_TIMEOUT = 5  # seconds for connections to close after the last answer


def serve(
    team: Team,
    config: ServeConfig,
    name: str,
    say: Callable[[str], None],
    *,
    open_page: bool = False,
) -> None:
    """Serve `team` as `name`; returns after an orderly shutdown. `open_page` opens the page in a
    browser, if there is a screen.

    Raises UsageError if it cannot listen, ConfigError or EngineError if a model cannot be loaded.
    """
    registry = ModelRegistry(team, config.name or name)
    serving = Serving(registry, config, tracer_of_environment() if config.traces else None)
    with listen(config) as listening:
        log_to_stderr()
        host, port = listening.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        url = f"http://{shown}:{port}"
        say(f"serving {next(iter(registry)).name} at {url}")
        if not config.api_keys and not is_loopback(config.host):
            say("no API key is set (--api-key): anyone who can reach this machine can use the team")
        server = TeamServer(serving, url if open_page and _has_screen() else None)
        server.run(sockets=[listening])
    if server.failure is not None:
        raise server.failure


def listen(config: ServeConfig) -> socket.socket:
    """A listening socket. Raises UsageError if the address cannot be used."""
    try:
        family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
        return socket.create_server((config.host, config.port), family=family, backlog=2048)
    except OSError as error:
        where = f"{config.host}:{config.port}"
        raise UsageError(
            f"cannot listen on {where}: {error.strerror or error}; choose another --port or --host"
        ) from error


def _has_screen() -> bool:
    """Whether a browser can open a window; otherwise it would open in the terminal."""
    if sys.platform in ("darwin", "win32"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


class TeamServer(uvicorn.Server):
    """A uvicorn server that loads the models while it listens, and finishes running answers before
    it stops.

    `failure` is the error that ended the loading; `page` is a URL to open when it is ready."""

    def __init__(self, serving: Serving, page: str | None = None) -> None:
        super().__init__(
            uvicorn.Config(
                make_app(serving),
                http=timeout_protocol(serving.config.stall),
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=_CLOSE_TIMEOUT,
            )
        )
        self.failure: TakeTurnsError | None = None
        self._serving = serving
        self._page = page
        self._leaving = False
        self._tasks: list[asyncio.Task[None]] = []
        self.loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.loop = asyncio.get_running_loop()
        self._tasks.append(asyncio.create_task(self._load()))

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._leaving or self.loop is None:
            self.should_exit = self.force_exit = True
            return
        self._leaving = True
        LOG.info("leaving", extra={"fields": {"signal": signal.Signals(sig).name}})
        self.loop.call_soon_threadsafe(self._start_leaving)

    def _start_leaving(self) -> None:
        self._tasks.append(asyncio.create_task(self._leave()))

    async def _load(self) -> None:
        try:
            await self._serving.load()
        except TakeTurnsError as error:
            if not self._leaving:  # otherwise the shutdown ended the loading
                self.failure = error
                self.should_exit = True
            return
        LOG.info(
            "ready", extra={"fields": {"models": [model.name for model in self._serving.registry]}}
        )
        if self._page is not None:
            await asyncio.to_thread(webbrowser.open, self._page)

    async def _leave(self) -> None:
        await self._serving.leave()
        self.should_exit = True
