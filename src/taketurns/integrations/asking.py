"""What every harness needs of a team: many questions answered at once, by a harness's settings."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from taketurns.config.loading import load_team_config
from taketurns.config.policy import Policy
from taketurns.errors import ConfigError, EngineError, LengthError
from taketurns.generation.team import Team
from taketurns.runs.terminal import Progress
from taketurns.types import Query, Trace
from taketurns.utils.sync import run_sync

LOG = logging.getLogger("taketurns.integrations")
NO_LIKELIHOOD = (
    "a team gives no log-likelihood of a text: which candidates would have written which part of "
    "it is not determined; choose tasks that generate their answers"
)


def load_team(name: str, settings: Mapping[str, Any], speaker: str | None = None) -> Team:
    """A team by file, folder or name, with settings as `--set` takes them (`policy.patch_size`);
    `speaker` is one candidate alone. Raises ConfigError."""
    team = Team.load(load_team_config(name, dict(settings)))
    return team if speaker is None else team.alone(speaker)


def sampled_as(
    policy: Policy,
    *,
    max_tokens: int | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
    stop: Sequence[str] = (),
    seed: int | None = None,
) -> Policy:
    """A policy with what a harness asks for in place of the team's own; None leaves it."""
    changes: dict[str, Any] = {
        "max_tokens": max_tokens,
        "temperature": temperature,
        "speaker_top_p": top_p,
        "seed": seed,
    }
    stops = tuple(dict.fromkeys((*policy.stop, *(text for text in stop if text))))
    given = {key: value for key, value in changes.items() if value is not None}
    return replace(policy, stop=stops, **given)


async def answer(team: Team, query: Query, policy: Policy) -> Trace:
    """One answer. Raises EngineError if it fails, ConfigError or PromptError if it cannot be
    asked."""
    trace = await team.agenerate(query, policy=policy)
    if trace.error is not None:
        raise EngineError(f"{query.id}: {trace.error}")
    return trace


def answers(
    team: Team, asked: Sequence[tuple[Query, Policy]], concurrency: int
) -> list[Trace | None]:
    """Every answer, in order, at most `concurrency` under way; None for a prompt that does not fit
    a candidate's context, of which a warning says how many there are. Raises as `answer` does, and
    LengthError if no prompt fits."""
    if concurrency < 1:
        raise ConfigError(f"concurrency must be at least 1, not {concurrency}")
    too_long: list[LengthError] = []

    async def all_of_them() -> list[Trace | None]:
        free = asyncio.Semaphore(concurrency)

        async def one(query: Query, policy: Policy) -> Trace | None:
            async with free:
                try:
                    trace = await answer(team, query, policy)
                except LengthError as error:
                    too_long.append(error)
                    progress.advance(0)
                    return None
            progress.advance(trace.tokens)
            return trace

        with Progress("answering", len(asked)) as progress:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(*pair)) for pair in asked]
        return [task.result() for task in tasks]

    try:
        found = run_sync(all_of_them())
    except ExceptionGroup as group:
        raise group.exceptions[0] from None
    if too_long and len(too_long) == len(asked):
        raise too_long[0]
    if too_long:
        LOG.warning(
            "%d of %d prompts are too long and have empty answers; the first: %s",
            *(len(too_long), len(asked), too_long[0]),
        )
    return found
