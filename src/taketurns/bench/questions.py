"""How long the pocket team takes to finish questions whose answers end by themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from time import perf_counter
from typing import Any

from taketurns.bench.impartial import ImpartialSwitcher
from taketurns.bench.models import engine_on
from taketurns.bench.public import Answer, PublicLoop
from taketurns.bench.setting import random_turns
from taketurns.bench.variants import tagged_trace
from taketurns.draft import Reader
from taketurns.engines.loading import Weights
from taketurns.errors import EngineError
from taketurns.policy import Policy
from taketurns.runner import ordered
from taketurns.switchers import LMSwitcher
from taketurns.team import SWITCHER, Team
from taketurns.types import Candidate, ModelSpec, Query, Trace


@dataclass(frozen=True, slots=True)
class Questions:
    """Seconds to finish some questions, `batch` at a time: the team with kept caches and a switcher
    as large as a candidate, and the public loop. Both have the same budget; tokens are those of
    the answers."""

    models: str
    batch: int
    questions: int
    budget: int
    team_seconds: float
    public_seconds: float
    team_tokens: int
    public_tokens: int
    public_rounds: int

    @property
    def public_over_team(self) -> float:
        return self.public_seconds / self.team_seconds

    def to_json(self) -> dict[str, Any]:
        return {"what": "questions", **asdict(self), "public_over_team": self.public_over_team}


@dataclass(frozen=True, slots=True)
class Race:
    """Two ways to answer the same questions with the same models and the same draws of speakers.

    `weights` knows the candidates by name, and the switcher's model as SWITCHER; `policy` has the
    patch size and the budget.
    """

    name: str
    candidates: tuple[Candidate, ...]
    switcher: ModelSpec
    weights: Weights
    policy: Policy

    def run(self, asked: Sequence[Query], batch: int, repeats: int) -> Questions:
        """Finish all questions in both ways, `repeats` times in turn; medians of the seconds."""
        readers = asyncio.run(self._readers())
        ours, theirs = [], []
        for _ in range(repeats):
            seconds, traces = asyncio.run(self._team(asked, batch))
            ours.append(seconds)
            seconds, answers = self._public(asked, batch, readers)
            theirs.append(seconds)
        return Questions(
            models=self.name,
            batch=batch,
            questions=len(asked),
            budget=self.policy.max_tokens,
            team_seconds=median(ours),
            public_seconds=median(theirs),
            team_tokens=sum(trace.tokens for trace in traces),
            public_tokens=sum(len(answer.token_ids) for answer in answers),
            public_rounds=sum(len(answer.patches) for answer in answers),
        )

    async def _team(self, asked: Sequence[Query], batch: int) -> tuple[float, list[Trace]]:
        specs = {candidate.name: candidate.spec for candidate in self.candidates}
        engine = engine_on(self.weights, specs | {SWITCHER: self.switcher})
        switcher = ImpartialSwitcher(LMSwitcher(SWITCHER))
        async with Team(self.candidates, engine, switcher, self.policy) as team:
            await team.prepare()
            async with engine.session(0, 1):  # the switcher's model loads with the first session
                pass
            begun = perf_counter()
            traces = [trace async for trace in ordered(list(asked), team.agenerate, batch)]
            seconds = perf_counter() - begun
        if errors := [trace.error for trace in traces if trace.error is not None]:
            raise EngineError(errors[0])
        return seconds, traces

    def _public(
        self, asked: Sequence[Query], batch: int, readers: Sequence[Reader]
    ) -> tuple[float, list[Answer]]:
        speakers = [self.weights.load(candidate.name).model for candidate in self.candidates]
        loop = PublicLoop(speakers, self.weights.load(SWITCHER).model, self.policy)
        answers = [self._answer(query, loop.rounds, readers) for query in asked]
        begun = perf_counter()
        for start in range(0, len(answers), batch):
            loop.run(answers[start : start + batch])
        return perf_counter() - begun, answers

    def _answer(self, query: Query, rounds: int, readers: Sequence[Reader]) -> Answer:
        return Answer(
            prompts=[reader.encode(reader.prompt(query)) for reader in readers],
            tagged=tagged_trace(readers[-1].info.codec, query),
            turns=random_turns(self.policy, query.id, len(readers), rounds),
        )

    async def _readers(self) -> list[Reader]:
        engine = engine_on(self.weights, {c.name: c.spec for c in self.candidates})
        try:
            return [Reader(c, await engine.info(c.name)) for c in self.candidates]
        finally:
            await engine.close()
