"""The HTTP engine: models on servers, with any number of replicas per model.

Between the patches of an answer the engine keeps only the answer's home server: every request has
the whole prompt, and the server's prefix cache avoids reading it again. Before the first answer the
engine asks the servers once what they can do (`probe`).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx

from taketurns.checkpoints.model_config import (
    context_length,
    end_token_ids,
    suppressed_token_ids,
    vocabulary_size,
)
from taketurns.checkpoints.text import TextCodec
from taketurns.config.team_config import EngineConfig
from taketurns.engines.base import Capability, ModelInfo
from taketurns.engines.http.client import Key
from taketurns.engines.http.connections import connections
from taketurns.engines.http.faults import RetryableError
from taketurns.engines.http.fleet import Fleet, ModelServers, RequestCounters, common
from taketurns.engines.http.options import options_of
from taketurns.engines.http.probe import probe
from taketurns.engines.http.replicas import FIRST_COOLDOWN
from taketurns.engines.http.requests import ServerCapabilities
from taketurns.engines.http.session import HttpSession
from taketurns.errors import ConfigError, EngineError, UnavailableError, concerning
from taketurns.types import Candidate, Endpoint, ModelSpec


@dataclass(frozen=True, slots=True)
class ServerReport:
    """The result of asking the server at `url`: its `abilities`, or the `problem`. If the server is
    `down`, the problem may be temporary."""

    url: str
    abilities: ServerCapabilities | None
    problem: str | None = None
    down: bool = False


class HttpEngine:
    """Sends requests to the servers of `models`; each model needs an endpoint. `first_cooldown` is
    the number of seconds without requests after a server's first failure. `connect` makes the
    transport, once per event loop; it may be replaced before the first request."""

    def __init__(
        self,
        models: Sequence[Candidate],
        settings: EngineConfig | None = None,
        *,
        first_cooldown: float = FIRST_COOLDOWN,
    ) -> None:
        self._models = {model.name: model for model in models}
        self._settings = settings or EngineConfig(kind="http")
        self._first_cooldown = first_cooldown
        self.connect: Callable[[], httpx.AsyncBaseTransport] = connections
        self._codecs: dict[str, TextCodec] = {}
        self._served: dict[str, ModelServers] = {}
        self._counters = {model.name: RequestCounters() for model in models}
        self._fleets: dict[asyncio.AbstractEventLoop, Fleet] = {}

    async def info(self, model: str) -> ModelInfo:
        """Facts about a model, from its servers and its tokenizer. Raises ConfigError if they serve
        another model, UnavailableError if none of them can be reached."""
        return (await self.served(model)).info

    async def load(self, model: str) -> None:
        """Check that the model is served."""
        await self.served(model)

    @asynccontextmanager
    async def session(self, seed: int, tokens: int | None = None) -> AsyncIterator[HttpSession]:
        """Open an answer. This never waits, because servers queue requests themselves."""
        yield HttpSession(self, seed, seed)

    async def close(self) -> None:
        """Close the connections."""
        fleet = self._fleets.pop(asyncio.get_running_loop(), None)
        if fleet is not None:
            await fleet.close()

    @property
    def models(self) -> tuple[str, ...]:
        """The names of its models."""
        return tuple(self._models)

    def counters(self, model: str) -> RequestCounters:
        """The counters of requests to a model's servers."""
        return self._counters[model]

    def fleet(self) -> Fleet:
        """The connections and the state of the servers in this event loop."""
        loop = asyncio.get_running_loop()
        if loop not in self._fleets:
            for old in list(self._fleets):
                if old.is_closed():  # and its connections are closed too
                    self._fleets.pop(old, None)
            self._fleets[loop] = Fleet(self._settings, self._first_cooldown, self.connect)
        return self._fleets[loop]

    async def served(self, model: str) -> ModelServers:
        """The servers of a model. Raises as `info` does."""
        if model not in self._served:
            async with self.fleet().probing:
                if model not in self._served:
                    self._served[model] = await self._find(model)
        return self._served[model]

    async def inspect(self, model: str) -> list[ServerReport]:
        """The abilities of each server of a model, or its problem."""
        candidate, endpoint = self._candidate(model)
        codec = await self._codec(model)
        key = _key(candidate.name, endpoint)

        async def ask(url: str) -> ServerReport:
            replica, clock = self.fleet().replica(url), asyncio.get_running_loop().time
            try:
                async with replica.gate.passing("given"):  # another model's requests may run there
                    began = clock()
                    able = await probe(self.fleet().client, url, key, candidate, codec)
            except RetryableError as fault:
                replica.failed(fault, began)
                return ServerReport(url, None, str(fault), down=True)
            except (ConfigError, EngineError) as error:
                return ServerReport(url, None, str(error))
            return ServerReport(url, able)

        return list(await asyncio.gather(*map(ask, endpoint.urls)))

    async def _find(self, model: str) -> ModelServers:
        candidate, endpoint = self._candidate(model)
        reports = await self.inspect(model)
        able = [report.abilities for report in reports if report.abilities is not None]
        wrong = [report for report in reports if report.abilities is None]
        down = [report for report in wrong if report.down]
        if misfit := [report for report in wrong if not report.down]:
            raise ConfigError(f"{misfit[0].url}: {misfit[0].problem}")
        if not able:
            why = "; ".join(f"{report.url}: {report.problem}" for report in down)
            raise UnavailableError(
                f"no server of {model} can be reached ({why}): start one, or correct its urls"
            )
        if len(names := sorted({server.served_as for server in able})) > 1:
            raise ConfigError(
                f"the servers of {model} give it different names, {' and '.join(names)}: set "
                f"served_as of {model}"
            )
        abilities = common(able)
        codec = await self._codec(model)
        async with self.fleet().reading:
            ends = await asyncio.to_thread(end_token_ids, candidate.spec, codec.tokenizer)
            suppressed = await asyncio.to_thread(suppressed_token_ids, candidate.spec)
            context, vocabulary = abilities.context, abilities.vocabulary
            if context is None:
                context = await asyncio.to_thread(context_length, candidate.spec)
            if vocabulary is None:
                vocabulary = await asyncio.to_thread(_vocabulary, candidate.spec)
        info = ModelInfo(
            name=model,
            context=context,
            codec=codec,
            end_token_ids=ends,
            capabilities=_capabilities(abilities),
            suppressed_token_ids=suppressed,
            vocabulary=vocabulary,
            options=options_of(token_ids=abilities.token_ids, verbose=abilities.verbose),
        )
        return ModelServers(info, endpoint.urls, _key(model, endpoint), abilities)

    def _candidate(self, model: str) -> tuple[Candidate, Endpoint]:
        if model not in self._models:
            raise ConfigError(
                f"there is no model {model!r}; the models are {', '.join(self._models)}"
            )
        candidate = self._models[model]
        if candidate.endpoint is None or not candidate.endpoint.urls:
            raise ConfigError(f"{model} has no servers: give it urls")
        return candidate, candidate.endpoint

    async def _codec(self, model: str) -> TextCodec:
        async with self.fleet().reading:  # two threads cannot import transformers at the same time
            if model not in self._codecs:
                spec = self._models[model].spec
                with concerning(model):
                    self._codecs[model] = await asyncio.to_thread(TextCodec.load, spec)
        return self._codecs[model]


def _key(model: str, endpoint: Endpoint) -> Key:
    if endpoint.api_key_env is None:
        return Key()
    value = os.environ.get(endpoint.api_key_env, "")
    if not value.strip() or not value.isascii():
        raise ConfigError(
            f"the environment variable {endpoint.api_key_env}, which must hold the API key of "
            f"{model}, is not set or not ASCII"
        )
    return Key(endpoint.api_key_env, value.strip())


def _vocabulary(spec: ModelSpec) -> int | None:
    """The number of ids that the model knows; None if its configuration is not on this machine."""
    try:
        return vocabulary_size(spec)
    except ConfigError:
        return None


def _capabilities(abilities: ServerCapabilities) -> frozenset[Capability]:
    capabilities: set[Capability] = {"fork"}
    if abilities.token_ids:
        capabilities.add("token_ids")
    if abilities.exact_scores or abilities.top_logprobs:
        capabilities.add("score")
        if abilities.token_ids:
            capabilities.update(("entropy", "next_token"))
    if abilities.exact_scores:
        capabilities.add("exact_score")
    if abilities.formats:
        capabilities.add("format_start")
    return frozenset(capabilities)
