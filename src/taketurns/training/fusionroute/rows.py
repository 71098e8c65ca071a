"""Texts as the candidates and the router read them: each after its own prompt, with equal ids of
the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from taketurns.config.team_config import TeamConfig
from taketurns.generation.handover import CandidateRuntime
from taketurns.generation.state import GenerationState
from taketurns.training.deferral.texts import Text
from taketurns.types import Candidate, ModelSpec

if TYPE_CHECKING:
    from taketurns.engines.local.ensembles import Shared

ROUTER = "(router)"


@dataclass(frozen=True, slots=True)
class FusionRow:
    """A text as token ids: the `prompts` of the candidates and, last, of the router, and the
    `answer` that follows each of them. A place is before each token of the answer, and its end."""

    prompts: tuple[tuple[int, ...], ...]
    answer: tuple[int, ...]

    def ids(self, reader: int) -> tuple[int, ...]:
        """What a reader has read at the last place."""
        return self.prompts[reader] + self.answer

    @property
    def places(self) -> int:
        """Their number."""
        return len(self.answer) + 1

    @property
    def length(self) -> int:
        """The tokens that the router reads."""
        return len(self.prompts[-1]) + len(self.answer)


@dataclass(frozen=True, slots=True)
class FusionRows:
    """A row for each text, None for one that does not fit every context or has a token that not
    all models know, and the `outcomes` that the candidates and, last, the router share."""

    rows: tuple[FusionRow | None, ...]
    outcomes: Shared


async def read_rows(team: TeamConfig, start: ModelSpec, texts: Sequence[Text]) -> FusionRows:
    """Encode texts for the candidates and for a router that starts from `start`; no weights are
    loaded. Raises ConfigError for different vocabularies and for an engine of another kind than
    local, PromptError for a prompt that does not fit."""
    from taketurns.engines.local.engine import LocalEngine
    from taketurns.engines.local.ensembles import Shared

    members = (*team.candidates, Candidate(ROUTER, start))
    engine = LocalEngine.configured({one.name: one.spec for one in members}, team.engine)
    try:
        infos = [await engine.info(one.name) for one in members]
    finally:
        await engine.close()
    outcomes = Shared.of(infos)
    readers = tuple(map(CandidateRuntime, members, infos))

    def row(text: Text) -> FusionRow | None:
        state = GenerationState(text.query, readers, ())
        prompts = tuple(tuple(state.prompt(place)) for place in range(len(readers)))
        answer = state.force(len(readers) - 1, text.answer).token_ids
        columns = outcomes.columns
        known = all(token < len(columns) and columns[token] >= 0 for token in answer)
        fits = all(
            len(prompt) + len(answer) < info.context
            for prompt, info in zip(prompts, infos, strict=True)
        )
        return FusionRow(prompts, answer) if fits and known else None

    return FusionRows(tuple(await asyncio.to_thread(lambda: list(map(row, texts)))), outcomes)
