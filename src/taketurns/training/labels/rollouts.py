"""What each candidate's next patch is worth: prefix, branches, utilities (arXiv 2510.09913, 3.2).

An answer is drawn by switching at random and cut at a patch boundary, or at any token for a
switcher that will be asked at any (`DecisionPoint.cuts`). Every candidate writes one patch after
this prefix, and from each of these branches the answer is continued to its end several times; the
task's scorer gives each end its utility. Labels follow from them (`training/labels/labels.py`).

Every draw is named by the query, the number of the prefix, the branch and the number of the
rollout, so a record depends neither on what runs beside it nor on how many rollouts there are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, replace
from time import perf_counter
from typing import Any, TypeVar

from taketurns.config.policy import Policy
from taketurns.errors import EngineError
from taketurns.generation.loop import GenerationLoop
from taketurns.generation.state import GenerationState
from taketurns.generation.team import Team
from taketurns.runs.records import Record, handover, patch_to_json, query_to_json
from taketurns.runs.runner import describe
from taketurns.switchers.simple import RandomSwitcher
from taketurns.training.labels.allocation import Allocation, Arm
from taketurns.training.labels.decision_points import Cuts, DecisionPoint, Traces
from taketurns.training.labels.rollout_scoring import RolloutResult, score_rollouts
from taketurns.types import Patch, Timing
from taketurns.utils.seeds import derive, generator

SCHEMA = "taketurns.rollouts/1"
EARLIEST, LATEST = 0.1, 0.9  # where an answer may be cut, as a share of its tokens

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Branch:
    """What one candidate wrote after the prefix, and how the answer ended from there, in the order
    of the rollouts. A branch that `ended` the answer itself has one end."""

    speaker: int
    patch: Patch
    ended: bool
    ends: tuple[RolloutResult, ...]

    @property
    def utilities(self) -> tuple[float, ...]:
        return tuple(end.utility for end in self.ends if end.utility is not None)

    @property
    def failures(self) -> tuple[str, ...]:
        """Why rollouts have no utility."""
        return tuple(end.why or "" for end in self.ends if end.utility is None)


@dataclass(frozen=True, slots=True)
class Rollouts:
    """A prefix and a branch for every candidate. `best` are the branches that the allocation found
    best, if it says so; `tokens` were written for all of it, the part of the first answer that was
    cut off included."""

    occasion: DecisionPoint
    prefix: tuple[Patch, ...]
    exact: bool
    branches: tuple[Branch, ...]
    allocation: str
    best: tuple[int, ...] | None
    tokens: int

    @property
    def continued(self) -> int:
        """How many rollouts were written."""
        return sum(len(branch.ends) for branch in self.branches if not branch.ended)


class RolloutGenerator:
    """Makes rollouts with a team; `concurrency` bounds the continuations written at a time.

    Prefixes and continuations are written by random switching, or, where the occasion says
    "on-policy", with the team's own switcher. Opening and closing speakers, shares and a guard are
    left out: a label says who is best, not who is put there by a rule. Patches, the branches' too,
    end as the policy says; where a switcher that switches at random would have to say, at random
    lengths.
    """

    def __init__(self, team: Team, allocation: Allocation, concurrency: int = 64) -> None:
        policy = team.policy.without_rules()
        random = replace(policy.unfollowed, greedy_switcher=False)
        self._team: dict[Traces, Team] = {
            "random": Team(team.candidates, team.engine, RandomSwitcher(), random),
            "on-policy": team,
        }
        self._policy: dict[Traces, Policy] = {"random": random, "on-policy": policy}
        self._allocation = allocation
        self._free = asyncio.Semaphore(concurrency)

    async def roll_out(self, occasion: DecisionPoint) -> Rollouts:
        """Raises EngineError if the prefix or a branch cannot be written, or if all rollouts of a
        branch fail."""
        team, policy = self._team[occasion.traces], self._policy[occasion.traces]
        seed = derive(policy.seed, "rollouts", occasion.query.id, occasion.number)
        draft = await team.draft(occasion.query, policy)
        async with (
            team.answer(draft, seed, policy) as answer,
            answer.fork(derive(seed, "stem"), await cut(answer, seed, occasion.cuts)) as stem,
            AsyncExitStack() as stack,
        ):
            await stem.read()
            branches = [
                await stack.enter_async_context(stem.fork(derive(seed, "branch", speaker)))
                for speaker in range(len(team.candidates))
            ]
            length = _length(policy, seed)
            await together(branch.step(who, length) for who, branch in enumerate(branches))
            await together(branch.read() for branch in branches if not branch.ended)
            ends = await self._ends(occasion, branches, seed)
        made = tuple(
            Branch(
                speaker,
                branch.state.patches[-1],
                branch.ended,
                tuple(end for end in ends if end.speaker == speaker),
            )
            for speaker, branch in enumerate(branches)
        )
        for branch in made:
            if not branch.utilities:
                name, why = team.candidates[branch.speaker].name, branch.failures[0]
                raise EngineError(f"{occasion.id}: all rollouts after {name} failed: {why}")
        return Rollouts(
            occasion,
            prefix=tuple(stem.state.patches),
            exact=draft.exact,
            branches=made,
            allocation=self._allocation.name,
            best=self._allocation.best(_arms(branches, ends)),
            tokens=draft.tokens
            + sum(len(branch.patch.token_ids) for branch in made)
            + sum(end.tokens for end in ends),
        )

    async def _ends(
        self, occasion: DecisionPoint, branches: Sequence[GenerationLoop], seed: int
    ) -> list[RolloutResult]:
        """Continue the branches as often as the allocation asks."""
        ends = [RolloutResult(i, branch.text) for i, branch in enumerate(branches) if branch.ended]
        while True:
            ends = score_rollouts(occasion.task, occasion.query, ends)
            arms = _arms(branches, ends)
            if not any(more := self._allocation.more(arms)):
                return ends
            ends += await together(
                self._end(branches[i], i, derive(seed, "rollout", i, arms[i].spent + rollout))
                for i, rollouts in enumerate(more)
                for rollout in range(rollouts)
            )

    async def _end(self, branch: GenerationLoop, speaker: int, seed: int) -> RolloutResult:
        """One continuation of a branch; a failure is its result."""
        try:
            async with self._free, branch.fork(seed) as answer:
                await answer.write()
        except EngineError as error:
            return RolloutResult(speaker, None, why=describe(error))
        return RolloutResult(speaker, answer.text, answer.state.tokens - branch.state.tokens)


def _arms(branches: Sequence[GenerationLoop], ends: Sequence[RolloutResult]) -> list[Arm]:
    """What the allocation sees."""
    return [
        Arm(tuple(end.utility for end in ends if end.speaker == i), branch.ended)
        for i, branch in enumerate(branches)
    ]


def _length(policy: Policy, seed: int) -> int | None:
    """The most tokens of the branches' patches, if not the policy's: where lengths are random all
    of them have the same, so that they are compared at equal lengths."""
    if policy.patch is None or policy.patch.until != "random":
        return None
    return policy.patch.draw(generator(derive(seed, "length")).random())


async def cut(answer: GenerationLoop, seed: int, cuts: Cuts = "boundary") -> GenerationState:
    """Write a whole answer, draw a point of its middle 80 %, and go back to it, or, cutting at the
    boundary, to where the patch that holds this point begins: it is that patch's speaker who is
    chosen anew. The prefix is empty where this is the first patch."""
    boundaries = []
    while not answer.ended:
        boundaries.append(answer.state.copy())
        await answer.step()
    share = EARLIEST + (LATEST - EARLIEST) * generator(derive(seed, "cut")).random()
    point = share * answer.state.tokens
    before = max(
        (draft for draft in boundaries if draft.tokens <= point), key=lambda draft: draft.tokens
    )
    more = int(point) - before.tokens
    if cuts == "boundary" or not more:
        return before
    patch, inside = answer.state.patches[len(before.patches)], before.copy()
    inside.replay(patch, more)
    # Where the next speaker can only be given whole characters, that may be all of the patch.
    return inside if len(inside.patches[-1].token_ids) < len(patch.token_ids) else before


def rollouts_to_json(rollouts: Rollouts, names: Sequence[str], policy: Policy) -> Record:
    """The record of a prefix. `names` are the candidates', by index, `policy` is the team's.
    Timings are left out: the same command makes the same file."""
    occasion = rollouts.occasion
    return {
        "schema": SCHEMA,
        "id": occasion.id,
        "task": occasion.task.name,
        "category": occasion.task.category,
        "query": query_to_json(occasion.query),
        "candidates": list(names),
        "patch_size": policy.patch_size,
        "patch": None if policy.patch is None else asdict(policy.patch),
        "traces": occasion.traces,
        "cuts": occasion.cuts,
        "prefix": [_untimed(patch, names) for patch in rollouts.prefix],
        "exact": rollouts.exact,
        "handover": handover(rollouts.exact),
        "branches": [
            {
                "speaker": branch.speaker,
                "patch": _untimed(branch.patch, names),
                "ended": branch.ended,
                "utilities": list(branch.utilities),
                "failures": len(branch.failures),
                "failure": next(iter(branch.failures), None),
            }
            for branch in rollouts.branches
        ],
        "allocation": rollouts.allocation,
        "best": None if rollouts.best is None else list(rollouts.best),
        "tokens": rollouts.tokens,
        "error": None,
    }


def _untimed(patch: Patch, names: Sequence[str]) -> Record:
    return patch_to_json(replace(patch, timing=Timing()), names)


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run will cost, extrapolated from its first `sampled` prefixes, rolled out here."""

    prefixes: int
    sampled: int
    rollouts: int
    tokens: int
    seconds: float

    def __str__(self) -> str:
        took = f"{self.seconds / 3600:.1f} hours"
        if self.seconds < 5400:
            took = f"{self.seconds / 60:.0f} minutes" if self.seconds >= 90 else "a minute"
        return (
            f"{self.prefixes:,} prefixes, about {self.rollouts:,} rollouts and {self.tokens:,} "
            f"tokens, about {took} on this machine (from {self.sampled} prefixes rolled out here)"
        )


async def estimate(
    roller: RolloutGenerator, occasions: Sequence[DecisionPoint], sampled: int
) -> Estimate:
    """Roll out the first few prefixes and extrapolate. Nothing is written anywhere."""
    begun = perf_counter()
    made = await together(roller.roll_out(occasion) for occasion in occasions[:sampled])
    scale = len(occasions) / len(made)
    return Estimate(
        prefixes=len(occasions),
        sampled=len(made),
        rollouts=round(scale * sum(rollouts.continued for rollouts in made)),
        tokens=round(scale * sum(rollouts.tokens for rollouts in made)),
        seconds=scale * (perf_counter() - begun),
    )


async def together(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Results in order; the first failure is raised when none of the work is left running."""
    results = await asyncio.gather(*work, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [result for result in results if not isinstance(result, BaseException)]
