"""A team on Ray Serve: the API is one deployment, each vLLM server another.

`taketurns launch --manifest ray-serve` makes the configuration for `serve run` and `serve deploy`.
Ray places each server on a node with free GPUs, checks its health and replaces it if it fails; it
runs the same `vllm serve` as on one host. A server gets a free port on its node, so the API asks it
for its address, and asks again when the address fails. The HTTP engine does the rest (the home
server of an answer, failures).
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

from taketurns.config.loading import load_team_config
from taketurns.engines.http.engine import HttpEngine
from taketurns.generation.team import Team
from taketurns.integrations.launch.forwarding import FindServer, ForwardingTransport
from taketurns.integrations.launch.plan import VllmServer
from taketurns.integrations.launch.supervise import Supervisor
from taketurns.server.app import make_app
from taketurns.server.config import default_name, read_settings
from taketurns.server.exporters import tracer_of_environment
from taketurns.server.logs import log_to_stderr
from taketurns.server.model_registry import ModelRegistry
from taketurns.server.serving import Serving

NAME = "taketurns"

_LOG = logging.getLogger("ray.serve")
_HEALTH_TIMEOUT = 20.0  # seconds
_SPARE = 64  # further requests: metrics, health, requests that are refused


class RayServeArguments(BaseModel):
    """The `args` of the application: the paths of the team file, the serve file and the vLLM
    program on the nodes, and the servers, with the URLs of the team file."""

    model_config = ConfigDict(extra="forbid")

    team: str
    config: Path | None = None
    vllm: str = "vllm"
    servers: tuple[VllmServer, ...] = ()


def build(args: dict[str, Any]) -> Any:
    """The application for Ray Serve. Raises ValidationError for invalid arguments."""
    arguments = RayServeArguments.model_validate(args)
    names = {server.url: server.name for server in arguments.servers}
    servers = [
        serve.deployment(VllmReplica, name=server.name, health_check_period_s=5).bind(
            server, arguments.vllm
        )
        for server in arguments.servers
    ]

    def app() -> FastAPI:
        handles = {url: serve.get_deployment_handle(name) for url, name in names.items()}
        return _app(arguments, {url: handle.url.remote for url, handle in handles.items()})

    limits = read_settings(arguments.config)
    ours = serve.deployment(
        serve.ingress(app)(),
        name=NAME,
        max_ongoing_requests=limits.max_running + limits.max_waiting + _SPARE,
    )
    return ours.bind(*servers)


class VllmReplica:
    """A vLLM server on the node of this replica. The replica does not restart it, but becomes
    unhealthy without it, and Ray replaces the replica."""

    async def __init__(self, server: VllmServer, program: str) -> None:  # type: ignore[misc]  # Ray awaits it
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
        """The URL where the server listens."""
        return self._server.url

    async def check_health(self) -> None:
        """Raise the error that ended the server, or the error of its health check."""
        if self._running.done():
            self._running.result()
        async with httpx.AsyncClient(timeout=_HEALTH_TIMEOUT) as client:
            (await client.get(f"{self._server.url}/health")).raise_for_status()

    async def end(self) -> None:
        """Stop the server and wait until it has stopped."""
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)


def _app(arguments: RayServeArguments, finds: Mapping[str, FindServer]) -> FastAPI:
    """The API; it starts after the servers run and the models are loaded."""
    log_to_stderr()
    settings = read_settings(arguments.config)
    team = Team.load(load_team_config(arguments.team))
    if isinstance(team.engine, HttpEngine):
        team.engine.connect = lambda: ForwardingTransport(finds)
    registry = ModelRegistry(team, settings.name or default_name(arguments.team))
    serving = Serving(registry, settings, tracer_of_environment() if settings.traces else None)
    app = make_app(serving)
    closing = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        for find in finds.values():
            await find()  # returns when the server runs
        await serving.load()
        async with closing(app):
            yield

    app.router.lifespan_context = lifespan
    return app


def _free_port(host: str) -> int:
    with socket.create_server((host, 0)) as listening:
        port: int = listening.getsockname()[1]
    return port
