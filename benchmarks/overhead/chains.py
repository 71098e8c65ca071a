"""The bundled team on problems with more and more steps: correctness, and speakers by position."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from statistics import fmean
from typing import Any

from recipes.pocket.long import LongTask
from taketurns.config.loading import load_team_config
from taketurns.errors import EngineError
from taketurns.evaluation.statistics import share
from taketurns.generation.team import Team
from taketurns.switchers.simple import RandomSwitcher
from taketurns.types import Trace

EDGES = (0, 64, 128, 256, 512, 1024, 2048)
TOKENS_A_STEP = 24


@dataclass(frozen=True, slots=True)
class Chain:
    """One way of writing on problems with `steps` steps. `right` is the mean share of steps before
    the first wrong one, with its interval `low` to `high`; `whole` is the share of answers that are
    right to the end. `shares` are the speakers' shares of the tokens between consecutive `EDGES`,
    None if no answer is that long."""

    steps: int
    who: str
    questions: int
    right: float
    low: float
    high: float
    whole: float
    tokens: float
    shares: tuple[dict[str, float] | None, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"what": "chain", "edges": list(EDGES), **asdict(self)}


def measure(steps: Sequence[int], questions: int, say: Callable[[str], None]) -> list[Chain]:
    """The last candidate alone, random switching and the team's switcher, at every length."""
    return asyncio.run(_measure(steps, questions, say))


async def _measure(steps: Sequence[int], questions: int, say: Callable[[str], None]) -> list[Chain]:
    chains = []
    async with Team.load(load_team_config("pocket")) as team:
        last = team.candidates[-1].name
        ways = {
            f"{last} alone": team.alone(last),
            "random": team.switched_by(RandomSwitcher()),
            "switcher": team,
        }
        for count in steps:
            task = LongTask(count)
            asked = task.queries("test")[:questions]
            budget = 32 + TOKENS_A_STEP * count
            for who, way in ways.items():
                say(f"pocket: {count} steps, {who}")
                size = budget if way.policy.patch_size == team.policy.max_tokens else 16
                policy = replace(way.policy, max_tokens=budget, patch_size=size, patch=None)
                traces = await asyncio.gather(*(way.agenerate(q, policy=policy) for q in asked))
                names = [candidate.name for candidate in way.candidates]
                chains.append(_chain(task, who, traces, names))
    return chains


def _chain(task: LongTask, who: str, traces: Sequence[Trace], names: Sequence[str]) -> Chain:
    for trace in traces:
        if trace.error is not None:
            raise EngineError(trace.error)
    values = [task.score(trace.query, trace.text).value or 0.0 for trace in traces]
    right = share([[value] for value in values])
    return Chain(
        steps=task.steps,
        who=who,
        questions=len(traces),
        right=right.mean,
        low=right.low,
        high=right.high,
        whole=fmean(float(value == 1) for value in values),
        tokens=fmean(trace.tokens for trace in traces),
        shares=tuple(_shares(traces, names, first, end) for first, end in pairwise(EDGES)),
    )


def _shares(
    traces: Sequence[Trace], names: Sequence[str], first: int, end: int
) -> dict[str, float] | None:
    """The speakers' shares of tokens `first` to `end` of the answers."""
    wrote = dict.fromkeys(names, 0)
    for trace in traces:
        at = 0
        for patch in trace.patches:
            inside = min(at + len(patch.token_ids), end) - max(at, first)
            if patch.speaker is not None:
                wrote[names[patch.speaker]] += max(inside, 0)
                at += len(patch.token_ids)
    total = sum(wrote.values())
    return {name: round(count / total, 4) for name, count in wrote.items()} if total else None
