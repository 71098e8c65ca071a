"""A team's answers for a harness: many concurrently, with the harness's generation settings."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from taketurns.config.loading import load_team_config
from taketurns.config.policy import Policy
from taketurns.errors import ConfigError, EngineError, LengthError, UsageError
from taketurns.generation.team import Team
from taketurns.runs.progress import Progress
from taketurns.runs.runner import map_ordered
from taketurns.types import Query, Trace
from taketurns.utils.sync import run_sync

LOG = logging.getLogger("taketurns.integrations")


class GeneratesOnly:
    """A model of a harness that raises UsageError for log-likelihoods."""

    def loglikelihood(self, requests: Any) -> Any:
        raise UsageError(
            "a team gives no log-likelihood of a text, because it is not determined which "
            "candidates would have written which part; choose tasks that generate answers "
            "(generate_until)"
        )

    loglikelihood_rolling = loglikelihood


def load_team(name: str, settings: Mapping[str, Any], speaker: str | None = None) -> Team:
    """A team by file, folder or name, with settings as in `--set` (`policy.patch_size`); with
    `speaker`, only the candidate of this name. Raises ConfigError."""
    team = Team.load(load_team_config(name, dict(settings)))
    return team if speaker is None else team.alone(speaker)


def with_sampling(
    policy: Policy,
    *,
    max_tokens: int | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
    stop: Sequence[str] = (),
    seed: int | None = None,
) -> Policy:
    """`policy` with a harness's settings; None keeps the team's own. Stop strings are added."""
    settings: dict[str, Any] = {
        "max_tokens": max_tokens,
        "temperature": temperature,
        "speaker_top_p": top_p,
        "seed": seed,
    }
    stops = tuple(dict.fromkeys((*policy.stop, *(text for text in stop if text))))
    changes = {key: value for key, value in settings.items() if value is not None}
    return replace(policy, stop=stops, **changes)


async def answer_query(team: Team, query: Query, policy: Policy) -> Trace:
    """One answer. Raises EngineError if it fails, ConfigError or PromptError if it cannot begin."""
    trace = await team.agenerate(query, policy=policy)
    if trace.error is not None:
        raise EngineError(f"{query.id}: {trace.error}")
    return trace


def answer_all(
    team: Team, requests: Sequence[tuple[Query, Policy]], concurrency: int
) -> list[Trace | None]:
    """The answers to all queries, in order, written at most `concurrency` at a time. A prompt that
    does not fit a candidate's context gives None, and a warning counts these. Raises as
    `answer_query`, ConfigError for a `concurrency` below 1, and LengthError if no prompt fits."""
    if concurrency < 1:
        raise ConfigError(f"concurrency must be at least 1, not {concurrency}")
    too_long: list[LengthError] = []

    async def answer_one(request: tuple[Query, Policy]) -> Trace | None:
        try:
            trace = await answer_query(team, *request)
        except LengthError as error:
            too_long.append(error)
            progress.advance(0)
            return None
        progress.advance(trace.tokens)
        return trace

    async def run() -> list[Trace | None]:
        async with aclosing(map_ordered(requests, answer_one, concurrency)) as traces:
            return [trace async for trace in traces]

    with Progress("answering", len(requests)) as progress:
        traces = run_sync(run())
    if too_long and len(too_long) == len(requests):
        raise too_long[0]
    if too_long:
        LOG.warning(
            "%d of %d prompts are too long and have empty answers; the first: %s",
            *(len(too_long), len(requests), too_long[0]),
        )
    return traces
