"""The servers of an engine in one event loop: their connections, their health, and the attempts of
a request until a server answers it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import TypeVar

import httpx

from taketurns.config.team_config import EngineConfig
from taketurns.engines.base import ModelInfo
from taketurns.engines.http.client import Client, Key
from taketurns.engines.http.connections import connections
from taketurns.engines.http.faults import RetryableError
from taketurns.engines.http.probe import PROBE_SECONDS, models
from taketurns.engines.http.protocol import PromptUsage
from taketurns.engines.http.replicas import Replica
from taketurns.engines.http.requests import ServerCapabilities
from taketurns.engines.http.routing import Router, Unreachable
from taketurns.engines.http.time_limit import TIMES, Allowance
from taketurns.engines.logprobs_gate import Kind
from taketurns.errors import EngineError, UnavailableError

T = TypeVar("T")

_BACK_OFF, _LONGEST_BACK_OFF = 0.1, 2.0  # seconds
_DAY = 86_400.0  # seconds


@dataclass(frozen=True, slots=True)
class ModelServers:
    """A model and its servers; `abilities` is what all of them can do."""

    info: ModelInfo
    urls: tuple[str, ...]
    key: Key
    abilities: ServerCapabilities


@dataclass
class RequestCounters:
    """Counts of the requests to a model's servers. `faults` has all failures by reason, also those
    after which another attempt succeeded. Prompt and cached tokens are as the servers count."""

    requests: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    written_tokens: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0

    def read(self, usage: PromptUsage) -> None:
        """Add a prompt that a server has read."""
        self.prompt_tokens += usage.prompt
        self.cached_tokens += usage.cached


class Fleet:
    """The servers in one event loop, until that ends or until `close`."""

    def __init__(
        self,
        settings: EngineConfig,
        first_cooldown: float,
        connect: Callable[[], httpx.AsyncBaseTransport] = connections,
    ) -> None:
        self.settings = settings
        self.client = Client(connect)
        self.probing = asyncio.Lock()
        self.reading = asyncio.Lock()
        self._first_cooldown = first_cooldown
        self._replicas: dict[str, Replica] = {}
        self._routers: dict[str, Router] = {}
        self._jitter = Random()
        # When a loop ends, it cancels its tasks and waits for them; this one closes connections.
        self._keeper = asyncio.create_task(self._keep())

    async def close(self) -> None:
        """Close the connections; running requests fail."""
        self._keeper.cancel()
        await asyncio.gather(self._keeper, return_exceptions=True)

    def replica(self, url: str) -> Replica:
        """The server at `url`; a server of several models has one `Replica`."""
        if url not in self._replicas:
            clock = asyncio.get_running_loop().time
            limit = self.settings.concurrency
            self._replicas[url] = Replica(url, limit, clock, self._first_cooldown)
        return self._replicas[url]

    def router(self, served: ModelServers) -> Router:
        """The router that selects among the servers of a model."""
        name = served.info.name
        if name not in self._routers:
            replicas = [self.replica(url) for url in served.urls]
            try_out = partial(self._try_out, served)
            self._routers[name] = Router(replicas, try_out, self.settings.retries + 1)
        return self._routers[name]

    async def request_with_retry(
        self,
        served: ModelServers,
        key: int,
        attempt: Callable[[Replica, float], Awaitable[T]],
        counters: RequestCounters,
        kind: Kind = "plain",
    ) -> T:
        """Call `attempt` with one server after another until it raises no RetryableError, and
        return its result. The second argument of `attempt` is its time limit in seconds, and `kind`
        says which log-probabilities it asks for. Raises UnavailableError, with the last failure of
        each server, after `retries` repetitions, when the time is up, or if no server is healthy.
        Time in the queue of a busy server does not count."""
        router, tried, faults = self.router(served), list[Replica](), dict[str, str]()
        clock, timeout = asyncio.get_running_loop().time, self.settings.timeout
        allowance = Allowance(TIMES * timeout, clock)
        for number in range(self.settings.retries + 1):
            if number > 1:
                longest = min(_BACK_OFF * 2**number, _LONGEST_BACK_OFF)
                with allowance.spending():
                    await asyncio.sleep(longest * self._jitter.random())
            try:
                replica = await router.acquire(key, tried, allowance)
            except Unreachable as error:
                raise UnavailableError(
                    f"no server of {served.info.name} can be reached ({error}): see its log, or "
                    "run taketurns check"
                ) from error
            try:
                async with replica.gate.passing(kind):
                    began = clock()
                    counters.requests += 1
                    with allowance.spending():
                        result = await attempt(replica, min(timeout, allowance.left))
            except RetryableError as fault:
                replica.failed(fault, began)
                counters.faults[str(fault)] += 1
                tried.append(replica)
                faults[replica.url] = str(fault)
            else:
                replica.succeeded()
                return result
            finally:
                replica.give_back()
            if allowance.left <= 0:
                break
        why = "; ".join(f"{url}: {fault}" for url, fault in faults.items())
        late = f" in {allowance.seconds:g} seconds" if allowance.left <= 0 else ""
        raise UnavailableError(
            f"{served.info.name} gave no answer after {len(tried)} attempts{late} ({why})"
        )

    def _try_out(self, served: ModelServers, replica: Replica) -> None:
        if replica.trial is None or replica.trial.done():
            replica.trial = asyncio.create_task(self._trial(served, replica))

    async def _trial(self, served: ModelServers, replica: Replica) -> None:
        """Ask a server after its cooldown for its models; it is healthy if it lists this one."""
        began = asyncio.get_running_loop().time()
        try:
            listed = await self.client.get(f"{replica.url}/v1/models", served.key, PROBE_SECONDS)
            if served.abilities.served_as not in [entry["id"] for entry in models(listed)]:
                raise RetryableError(f"it no longer serves {served.abilities.served_as}")
        except (RetryableError, EngineError) as error:
            replica.failed(
                error if isinstance(error, RetryableError) else RetryableError(str(error)), began
            )
        else:
            replica.listed()
        replica.wake_all()

    async def _keep(self) -> None:
        try:
            # A loop holds its tasks weakly, but its timers strongly. An engine dropped without
            # `close` would otherwise be collected with its connections open.
            while True:
                await asyncio.sleep(_DAY)
        finally:
            trials = [r.trial for r in self._replicas.values() if r.trial is not None]
            for trial in trials:
                trial.cancel()
            await asyncio.gather(*trials, return_exceptions=True)
            await self.client.close()


def common(abilities: Sequence[ServerCapabilities]) -> ServerCapabilities:
    """The abilities that all servers of a model have."""
    contexts = [server.context for server in abilities if server.context is not None]
    sizes = [server.vocabulary for server in abilities if server.vocabulary is not None]
    alike = len({server.verbose for server in abilities}) == 1  # one form of request for all
    return ServerCapabilities(
        software=", ".join(dict.fromkeys(server.software for server in abilities)),
        served_as=abilities[0].served_as,
        context=min(contexts, default=None),
        prompt_ids=all(server.prompt_ids for server in abilities),
        token_ids=alike and all(server.token_ids for server in abilities),
        exact_scores=all(server.exact_scores for server in abilities),
        top_logprobs=min(server.top_logprobs for server in abilities),
        verbose=all(server.verbose for server in abilities),
        vocabulary=min(sizes, default=None),
        only=any(server.only for server in abilities),
        formats=all(server.formats for server in abilities),
    )
