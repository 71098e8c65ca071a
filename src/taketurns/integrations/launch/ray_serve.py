"""A team on Ray Serve: our API is one deployment, each vLLM server another.

`taketurns launch --manifest ray-serve` makes the configuration, `serve run` and `serve deploy` take
it. Ray finds each server a node with free GPUs, asks whether it is well, and replaces it; what runs
is the same `vllm serve` as on one host. A server gets a free port where it lands, so ours asks it
where it is, and again when it is not there any more. All else (which server an answer is at home
at, what is done when one fails) is the HTTP engine's.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import ray
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict
from ray import serve

from taketurns.cli.serve import called_after, read_settings
from taketurns.config.loading import load_team_config
from taketurns.engines.http.engine import HttpEngine
from taketurns.generation.team import Team
from taketurns.integrations.launch.forwarding import Find, Forwarding
from taketurns.integrations.launch.plan import Server
from taketurns.integrations.launch.supervise import Supervisor
from taketurns.server.app import make_app
from taketurns.server.exporters import tracer_of_environment
from taketurns.server.logs import log_to_stderr
from taketurns.server.model_registry import ModelRegistry
from taketurns.server.serving import Serving

NAME = "taketurns"

_LOG = logging.getLogger("ray.serve")
_ASK = 20.0  # seconds in which a server that is well says so
_SPARE = 64  # requests beside answers: metrics, health, what our own gate refuses


class Arguments(BaseModel):
    """The `args` of the application: a team file and a serve file as the nodes see them, vLLM's
    program there, and the servers, each by the URL that the team file has for it."""

    model_config = ConfigDict(extra="forbid")

    team: str
    config: Path | None = None
    vllm: str = "vllm"
    servers: tuple[Server, ...] = ()


def build(args: dict[str, Any]) -> Any:
    """The application of Ray Serve. Raises ValidationError for arguments that are none."""
    asked = Arguments.model_validate(args)
    names = {server.url: server.name for server in asked.servers}
    servers = [
        serve.deployment(Vllm, name=server.name, health_check_period_s=5).bind(server, asked.vllm)
        for server in asked.servers
    ]

    def app() -> FastAPI:
        handles = {url: serve.get_deployment_handle(name) for url, name in names.items()}
        return _app(asked, {url: handle.url.remote for url, handle in handles.items()})

    limits = read_settings(asked.config)
    ours = serve.deployment(
        serve.ingress(app)(),
        name=NAME,
        max_ongoing_requests=limits.max_running + limits.max_waiting + _SPARE,
    )
    return ours.bind(*servers)


class Vllm:
    """A vLLM server on the node of this replica. It is not started again here: without it the
    replica is not well, and Ray makes another."""

    async def __init__(self, server: Server, program: str) -> None:  # type: ignore[misc]  # Ray awaits it
        self.__del__ = self.end  # Ray calls it; Python, which looks at the class, does not
        host = ray.util.get_node_ip_address()
        self._server = server.at(host, _free_port(host))
        supervisor = Supervisor([self._server], program, _LOG.info, restarts=0)
        self._running = asyncio.create_task(supervisor.keep())
        ready = asyncio.create_task(supervisor.ready())
        await asyncio.wait({self._running, ready}, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        await self.check_health()

    async def url(self) -> str:
        """Where it listens."""
        return self._server.url

    async def check_health(self) -> None:
        """Raise what ended it, or what is wrong with it."""
        if self._running.done():
            self._running.result()
        async with httpx.AsyncClient(timeout=_ASK) as client:
            (await client.get(f"{self._server.url}/health")).raise_for_status()

    async def end(self) -> None:
        """Stop the server, and return when it has stopped."""
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)


def _app(asked: Arguments, finds: Mapping[str, Find]) -> FastAPI:
    """Our API, whose models are loaded before it is open."""
    log_to_stderr()
    settings = read_settings(asked.config)
    team = Team.load(load_team_config(asked.team))
    if isinstance(team.engine, HttpEngine):
        team.engine.connect = lambda: Forwarding(finds)
    roster = ModelRegistry(team, settings.name or called_after(asked.team))
    serving = Serving(roster, settings, tracer_of_environment() if settings.traces else None)
    app = make_app(serving)
    closing = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        for find in finds.values():
            await find()  # returns when it runs
        await serving.load()
        async with closing(app):
            yield

    app.router.lifespan_context = lifespan
    return app


def _free_port(host: str) -> int:
    with socket.create_server((host, 0)) as listening:
        port: int = listening.getsockname()[1]
    return port
