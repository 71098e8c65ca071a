"""One answer on servers. If a server fails within a patch, the next server continues after the last
token that was given out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Protocol

from taketurns.engines.base import OnToken, Prompt
from taketurns.engines.http.fleet import Fleet, ModelServers, RequestCounters
from taketurns.engines.http.patch_request import PatchRequest
from taketurns.engines.http.protocol import PromptUsage, read_scores, read_usage
from taketurns.engines.http.replicas import Replica
from taketurns.engines.http.requests import scoring_request
from taketurns.engines.logprobs_gate import Kind
from taketurns.engines.patch_tokens import scores_fit
from taketurns.types import Completion, Sampling
from taketurns.utils.seeds import derive


class Servers(Protocol):
    """What a session needs of its engine."""

    async def served(self, model: str) -> ModelServers:
        """The servers of a model. Raises ConfigError and UnavailableError."""
        ...

    def fleet(self) -> Fleet:
        """The connections and the state of the servers in this event loop."""
        ...

    def counters(self, model: str) -> RequestCounters:
        """The counters of requests to a model's servers."""
        ...


class HttpSession:
    """One answer: its seed, and the key `home` that selects the home server of it and its forks."""

    def __init__(self, servers: Servers, seed: int, home: int) -> None:
        self._servers = servers
        self._seed = seed
        self._home = home

    async def generate(
        self, model: str, prompt: Prompt, sampling: Sampling, on_token: OnToken | None = None
    ) -> Completion:
        """Continue `prompt`. Draws depend on the session's seed and the position, so another
        attempt draws the same. Raises PromptError for a prompt that is too long, which a server
        might cut. Raises UnavailableError if no server works."""
        served = await self._servers.served(model)
        ids = served.info.prompt_ids(prompt, sampling.max_tokens)
        if sampling.constraint is not None and sampling.constraint.allowed() is None:
            return Completion((), "stop", prompt_tokens=len(ids))  # all is written
        if sampling.choices and not scores_fit(served.info, len(ids), sampling):
            sampling = replace(sampling, choices=())
        fleet, counters = self._servers.fleet(), self._servers.counters(model)
        patch = PatchRequest(served, ids, sampling, on_token, derive(self._seed, model))

        async def attempt(replica: Replica, seconds: float) -> None:
            url = f"{replica.url}/v1/completions"
            await patch.go_on(fleet.client, url, seconds, fleet.settings.token_timeout)

        try:
            await fleet.request_with_retry(served, self._home, attempt, counters, patch.kind)
        finally:
            patch.count(counters)
        return patch.completion()

    async def score(self, model: str, prompt: Prompt, choices: Sequence[int]) -> list[float]:
        """Natural-log probabilities of `choices` as the next token, under the full softmax. If a
        server reports only the most probable tokens, other choices have `-inf`."""
        served = await self._servers.served(model)
        ids = served.info.prompt_ids(prompt, 1)
        served.info.check_ids(choices)
        fleet, counters = self._servers.fleet(), self._servers.counters(model)
        body = scoring_request(served.abilities, served.info, ids, choices)

        async def attempt(replica: Replica, seconds: float) -> list[float]:
            url = f"{replica.url}/v1/completions"
            reply = await fleet.client.post(url, body, served.key, seconds)
            scores = read_scores(reply, served.abilities, served.info, choices)
            counters.read(read_usage(reply) or PromptUsage())
            return scores

        kind: Kind = "given" if served.abilities.exact_scores else "plain"
        return await fleet.request_with_retry(served, self._home, attempt, counters, kind)

    @asynccontextmanager
    async def fork(self, seed: int) -> AsyncIterator[HttpSession]:
        """A session with its own draws and the same home, whose prefix cache has the answer so
        far."""
        yield HttpSession(self._servers, seed, self._home)
