"""Rollouts: the utility of each candidate's next patch (arXiv 2510.09913, section 3.2).

An answer is written by random switching and cut at a patch boundary, or at any token for a switcher
that is asked at every token, or where the team's switcher compares patches
(`DecisionPoint.cut_at`). After this prefix every candidate writes one patch, and each of these
branches is continued to the end of the answer several times; the task's scorer gives each answer
its utility. `labels.py` makes labels of them.

The seed of every draw is derived from the query, the number of the prefix, the branch and the
number of the rollout, so a record depends neither on what runs at the same time nor on the number
of rollouts.
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
from taketurns.runs.runner import describe_error
from taketurns.switchers.simple import RandomSwitcher
from taketurns.training.labels.allocation import Allocation, Arm
from taketurns.training.labels.decision_points import CutAt, DecisionPoint, Traces
from taketurns.training.labels.rollout_scoring import RolloutResult, score_rollouts
from taketurns.types import Patch, Timing
from taketurns.utils.seeds import derive, generator

SCHEMA = "taketurns.rollouts/1"
EARLIEST, LATEST = 0.1, 0.9  # where an answer may be cut, as a share of its tokens

T = TypeVar("T")


NOTHING = "the switcher compares no patches in this answer"


class NothingToLabelError(EngineError):
    """The switcher compares no patches in an answer."""


@dataclass(frozen=True, slots=True)
class RolloutBranch:
    """One candidate's patch after the prefix, and the results of its rollouts, in order. A branch
    that `ended` the answer has one result."""

    speaker: int
    patch: Patch
    ended: bool
    results: tuple[RolloutResult, ...]

    @property
    def utilities(self) -> tuple[float, ...]:
        return tuple(result.utility for result in self.results if result.utility is not None)

    @property
    def failures(self) -> tuple[str, ...]:
        """The reasons why rollouts have no utility."""
        return tuple(result.why or "" for result in self.results if result.utility is None)


@dataclass(frozen=True, slots=True)
class Rollouts:
    """A prefix and a branch for every candidate. `best` are the best branches by the allocation, if
    it chooses them; `tokens` is the number of tokens written for all of it, including the part of
    the first answer that was cut off."""

    point: DecisionPoint
    prefix: tuple[Patch, ...]
    exact: bool
    branches: tuple[RolloutBranch, ...]
    allocation: str
    best: tuple[int, ...] | None
    tokens: int

    @property
    def continued(self) -> int:
        """The number of rollouts that were written."""
        return sum(len(branch.results) for branch in self.branches if not branch.ended)


class RolloutGenerator:
    """Makes rollouts with a team; at most `concurrency` continuations are written at a time.

    Prefixes and continuations are written by random switching, or, for "on-policy" points, with the
    team's own switcher. Opening and closing speakers, shares and a guard are not applied: a label
    shows which candidate is best, not which one a rule demands. Patches end by the policy's rule; a
    rule that needs the switcher is replaced by random lengths under random switching.
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

    async def record(self, point: DecisionPoint) -> Record:
        """The record of a decision point; of an answer with nothing to label it is `{"id",
        "left_out"}`, with the reason. Raises EngineError as `roll_out` does."""
        team = self._team["on-policy"]
        rollouts = await self.roll_out_if_any(point)
        if rollouts is None:
            return {"id": point.id, "left_out": NOTHING}
        return rollouts_to_json(rollouts, [c.name for c in team.candidates], team.policy)

    async def roll_out_if_any(self, point: DecisionPoint) -> Rollouts | None:
        """As `roll_out`; None if the switcher compares no patches in the answer."""
        try:
            return await self.roll_out(point)
        except NothingToLabelError:
            return None

    async def roll_out(self, point: DecisionPoint) -> Rollouts:
        """The rollouts of a decision point. Raises EngineError if the prefix or a branch cannot be
        written, or if all rollouts of a branch fail."""
        team, policy = self._team[point.traces], self._policy[point.traces]
        seed = derive(policy.seed, "rollouts", point.query.id, point.number)
        state = await team.draft(point.query, policy)
        compares = point.cut_at == "comparison"
        if compares:
            state = state.called(point.id)  # by which the places of comparisons are drawn
        async with (
            team.answer(state, seed, policy) as answer,
            answer.fork(
                derive(seed, "stem"), await cut_prefix(answer, seed, point.cut_at)
            ) as prefix,
            AsyncExitStack() as stack,
        ):
            await prefix.read()
            branches = [
                await stack.enter_async_context(prefix.fork(derive(seed, "branch", speaker)))
                for speaker in range(len(team.candidates))
            ]
            length = _length(policy, seed)
            await gather_all(
                branch.trial(who) if compares else branch.step(who, length)
                for who, branch in enumerate(branches)
            )
            await gather_all(branch.read() for branch in branches if not branch.ended)
            results = await self._continue(point, branches, seed)
        written = tuple(
            RolloutBranch(
                speaker,
                branch.state.patches[-1],
                branch.ended,
                tuple(result for result in results if result.speaker == speaker),
            )
            for speaker, branch in enumerate(branches)
        )
        for branch in written:
            if not branch.utilities:
                name, why = team.candidates[branch.speaker].name, branch.failures[0]
                raise EngineError(f"{point.id}: all rollouts of the branch of {name} failed: {why}")
        return Rollouts(
            point,
            prefix=tuple(prefix.state.patches),
            exact=state.exact,
            branches=written,
            allocation=self._allocation.name,
            best=self._allocation.best(_arms(branches, results)),
            tokens=state.tokens
            + sum(len(branch.patch.token_ids) for branch in written)
            + sum(result.tokens for result in results),
        )

    async def _continue(
        self, point: DecisionPoint, branches: Sequence[GenerationLoop], seed: int
    ) -> list[RolloutResult]:
        """Continue the branches until the allocation asks for no more rollouts."""
        results = [
            RolloutResult(i, branch.text) for i, branch in enumerate(branches) if branch.ended
        ]
        while True:
            results = score_rollouts(point.task, point.query, results)
            arms = _arms(branches, results)
            if not any(more := self._allocation.more(arms)):
                return results
            results += await gather_all(
                self._rollout(branches[i], i, derive(seed, "rollout", i, arms[i].spent + rollout))
                for i, rollouts in enumerate(more)
                for rollout in range(rollouts)
            )

    async def _rollout(self, branch: GenerationLoop, speaker: int, seed: int) -> RolloutResult:
        """One continuation of a branch; if it fails, the result has the reason."""
        try:
            async with self._free, branch.fork(seed) as answer:
                await answer.write()
        except EngineError as error:
            return RolloutResult(speaker, None, why=describe_error(error))
        return RolloutResult(speaker, answer.text, answer.state.tokens - branch.state.tokens)


def _arms(branches: Sequence[GenerationLoop], results: Sequence[RolloutResult]) -> list[Arm]:
    """The branches as the allocation reads them."""
    return [
        Arm(tuple(result.utility for result in results if result.speaker == i), branch.ended)
        for i, branch in enumerate(branches)
    ]


def _length(policy: Policy, seed: int) -> int | None:
    """The maximal length of the branches' patches in tokens; None means the policy's. Where lengths
    are random, one length is drawn for all branches, so that they are compared at equal lengths."""
    if policy.patch is None or policy.patch.until != "random":
        return None
    return policy.patch.draw(generator(derive(seed, "length")).random())


async def cut_prefix(
    answer: GenerationLoop, seed: int, cut_at: CutAt = "boundary"
) -> GenerationState:
    """Write a whole answer, draw a token of its middle 80 %, and return the state there; with
    `cut_at` "boundary", the state at the beginning of the patch with this token, whose speaker is
    then selected again. The prefix is empty if that is the first patch. With `cut_at` "comparison",
    draw one of the places where the switcher compares patches; raises NothingToLabelError if there
    is none."""
    boundaries = []
    while not answer.ended:
        if cut_at != "comparison" or await answer.rivals():
            boundaries.append(answer.state.copy())
        await answer.step()
    uniform = generator(derive(seed, "cut")).random()
    if cut_at == "comparison":
        if not boundaries:
            query = answer.state.query.id
            raise NothingToLabelError(
                f"{query}: {NOTHING}, so it has no label: raise switcher.rate"
            )
        return boundaries[int(uniform * len(boundaries))]
    share = EARLIEST + (LATEST - EARLIEST) * uniform
    point = share * answer.state.tokens
    before = max(
        (state for state in boundaries if state.tokens <= point), key=lambda state: state.tokens
    )
    more = int(point) - before.tokens
    if cut_at == "boundary" or not more:
        return before
    patch, inside = answer.state.patches[len(before.patches)], before.copy()
    inside.replay(patch, more)
    # Text is handed over in whole characters, so the prefix may get all tokens of the patch.
    return inside if len(inside.patches[-1].token_ids) < len(patch.token_ids) else before


def rollouts_to_json(rollouts: Rollouts, names: Sequence[str], policy: Policy) -> Record:
    """The record of a prefix. `names` are the candidates' names by index, `policy` is the team's.
    Timings are left out, so the same command makes the same file."""
    point = rollouts.point
    return {
        "schema": SCHEMA,
        "id": point.id,
        "task": point.task.name,
        "category": point.task.category,
        "query": query_to_json(point.query),
        "candidates": list(names),
        "patch_size": policy.patch_size,
        "patch": None if policy.patch is None else asdict(policy.patch),
        "traces": point.traces,
        "cuts": point.cut_at,
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
class CostEstimate:
    """The cost of a run, extrapolated from its first `sampled` prefixes on this machine."""

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


async def estimate_cost(
    rollout_generator: RolloutGenerator, points: Sequence[DecisionPoint], sampled: int
) -> CostEstimate:
    """Roll out the first `sampled` prefixes and extrapolate. Writes nothing."""
    begun = perf_counter()
    tried = points[:sampled]
    found = await gather_all(map(rollout_generator.roll_out_if_any, tried))
    sample = [rollouts for rollouts in found if rollouts is not None]
    scale = len(points) / len(tried)
    return CostEstimate(
        prefixes=len(points),
        sampled=len(tried),
        rollouts=round(scale * sum(rollouts.continued for rollouts in sample)),
        tokens=round(scale * sum(rollouts.tokens for rollouts in sample)),
        seconds=scale * (perf_counter() - begun),
    )


async def gather_all(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """The results in order. The first exception is raised after all work has ended."""
    results = await asyncio.gather(*work, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [result for result in results if not isinstance(result, BaseException)]
