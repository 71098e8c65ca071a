"""The time of the pocket team for questions whose answers end by themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from time import perf_counter
from typing import Any

from benchmarks.overhead.impartial import ImpartialSwitcher
from benchmarks.overhead.public import PublicAnswer, PublicLoop
from benchmarks.overhead.variants import tagged_trace
from benchmarks.overhead.weights import engine_on
from benchmarks.overhead.workload import random_turns
from taketurns.config.policy import Policy
from taketurns.engines.local.loading import Weights
from taketurns.errors import EngineError
from taketurns.generation.handover import CandidateRuntime
from taketurns.generation.team import SWITCHER, Team
from taketurns.runs.runner import map_ordered
from taketurns.switchers.lm import LMSwitcher
from taketurns.types import Candidate, ModelSpec, Query


@dataclass(frozen=True, slots=True)
class Questions:
    """Seconds to finish some questions, `batch` at a time: the team with kept caches and a switcher
    of a candidate's size, and the public loop, which uses the same budget for every answer. In
    `rounds` an end token ends the patch of the public loop. Tokens are those of the answers."""

    models: str
    batch: int
    questions: int
    budget: int
    team_seconds: float
    public_seconds: float
    rounds_seconds: float
    team_tokens: int
    public_tokens: int
    rounds_tokens: int

    @property
    def public_over_team(self) -> float:
        return self.public_seconds / self.team_seconds

    @property
    def rounds_over_team(self) -> float:
        return self.rounds_seconds / self.team_seconds

    def to_json(self) -> dict[str, Any]:
        return {
            "what": "questions",
            **asdict(self),
            "public_over_team": self.public_over_team,
            "rounds_over_team": self.rounds_over_team,
        }


@dataclass(frozen=True, slots=True)
class _Finished:
    seconds: float
    tokens: int


@dataclass(frozen=True, slots=True)
class Race:
    """Ways to answer the same questions with the same models and the same draws of speakers.

    `weights` has the candidates by name, and the switcher's model as SWITCHER; `policy` has the
    patch size and the budget.
    """

    name: str
    candidates: tuple[Candidate, ...]
    switcher: ModelSpec
    weights: Weights
    policy: Policy

    def run(self, asked: Sequence[Query], batch: int, repeats: int) -> Questions:
        """Finish all questions in each way, `repeats` times in turn; medians of the seconds."""
        readers = asyncio.run(self._readers())
        ours, full, rounds = [], [], []
        for _ in range(repeats):
            ours.append(asyncio.run(self._team(asked, batch)))
            full.append(self._public(asked, batch, readers, full=True))
            rounds.append(self._public(asked, batch, readers, full=False))
        return Questions(
            models=self.name,
            batch=batch,
            questions=len(asked),
            budget=self.policy.max_tokens,
            team_seconds=median(run.seconds for run in ours),
            public_seconds=median(run.seconds for run in full),
            rounds_seconds=median(run.seconds for run in rounds),
            team_tokens=ours[-1].tokens,
            public_tokens=full[-1].tokens,
            rounds_tokens=rounds[-1].tokens,
        )

    async def _team(self, asked: Sequence[Query], batch: int) -> _Finished:
        specs = {candidate.name: candidate.spec for candidate in self.candidates}
        engine = engine_on(self.weights, specs | {SWITCHER: self.switcher})
        switcher = ImpartialSwitcher(LMSwitcher(SWITCHER))
        async with Team(self.candidates, engine, switcher, self.policy) as team:
            await team.prepare()
            async with engine.session(0, 1):  # the switcher's model loads with the first session
                pass
            begun = perf_counter()
            traces = [trace async for trace in map_ordered(list(asked), team.agenerate, batch)]
            seconds = perf_counter() - begun
        if errors := [trace.error for trace in traces if trace.error is not None]:
            raise EngineError(errors[0])
        return _Finished(seconds, sum(trace.tokens for trace in traces))

    def _public(
        self, asked: Sequence[Query], batch: int, readers: Sequence[CandidateRuntime], *, full: bool
    ) -> _Finished:
        speakers = [self.weights.load(candidate.name).model for candidate in self.candidates]
        switcher = self.weights.load(SWITCHER).model
        loop = PublicLoop(speakers, switcher, self.policy, full=full)
        answers = [self._answer(query, loop.rounds, readers) for query in asked]
        begun = perf_counter()
        for start in range(0, len(answers), batch):
            loop.run(answers[start : start + batch])
        seconds = perf_counter() - begun
        return _Finished(seconds, sum(len(answer.token_ids) for answer in answers))

    def _answer(
        self, query: Query, rounds: int, readers: Sequence[CandidateRuntime]
    ) -> PublicAnswer:
        return PublicAnswer(
            prompts=[list(reader.prompt(query).ids) for reader in readers],
            tagged=tagged_trace(readers[-1].info.codec, query),
            turns=random_turns(self.policy, query.id, len(readers), rounds),
        )

    async def _readers(self) -> list[CandidateRuntime]:
        engine = engine_on(self.weights, {c.name: c.spec for c in self.candidates})
        try:
            return [CandidateRuntime(c, await engine.info(c.name)) for c in self.candidates]
        finally:
            await engine.close()
