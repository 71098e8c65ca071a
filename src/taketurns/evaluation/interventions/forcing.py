"""A randomised experiment on who speaks: a sequence of speakers is forced at a random boundary of a
running answer, another one at the same boundary, and both answers go on under the switcher.

The answer is drawn with the team's own switcher and cut as it is for a label. Both sequences are
drawn evenly from all of their length, so what they differ in is nothing but who speaks; both go on
with the same draws. Opening and closing speakers are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from taketurns.errors import EngineError
from taketurns.generation.loop import GenerationLoop
from taketurns.generation.team import Team
from taketurns.training.labels.decision_points import DecisionPoint
from taketurns.training.labels.rollout_scoring import RolloutResult, score_rollouts
from taketurns.training.labels.rollouts import cut_prefix, gather_all
from taketurns.utils.seeds import derive, generator

LENGTHS = (2, 3)

Speakers = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Forced:
    """An answer that went on with these speakers. `taken` of them spoke before it ended."""

    speakers: Speakers
    taken: int
    text: str
    tokens: int


class Forcer:
    """Runs trials with a team, each on an occasion: a query, and which boundary drawn for it."""

    def __init__(self, team: Team, lengths: Sequence[int] = LENGTHS) -> None:
        self._team = team
        self._policy = team.policy.without_rules()
        self._lengths = tuple(lengths)

    async def trial(self, occasion: DecisionPoint) -> dict[str, Any]:
        """The record of a trial: where the answer was cut, and the pair of each length. Raises
        EngineError if an answer cannot be written or scored."""
        team, policy, query = self._team, self._policy, occasion.query
        seed = derive(policy.seed, "sequences", query.id, occasion.number)
        draft = await team.draft(query, policy)
        drawn = {length: pair(len(team.candidates), length, seed) for length in self._lengths}
        async with (
            team.answer(draft, seed, policy) as answer,
            answer.fork(derive(seed, "stem"), await cut_prefix(answer, seed)) as stem,
        ):
            await stem.read()
            forced = await gather_all(
                _force(stem, speakers, derive(seed, "forced", length))
                for length, two in drawn.items()
                for speakers in two
            )
        position = len(stem.state.patches)
        scores = _scores(occasion, [one.text for one in forced])
        arms = [
            {"speakers": list(one.speakers), "taken": one.taken, "score": score}
            for one, score in zip(forced, scores, strict=True)
        ]
        return {
            "id": occasion.id,
            "task": occasion.task.name,
            "category": occasion.task.category,
            "query": query.id,
            "position": position,
            "written": [patch.speaker for patch in draft.patches],
            "pairs": [arms[at : at + 2] for at in range(0, len(arms), 2)],
            "tokens": draft.tokens + sum(one.tokens for one in forced),
            "error": None,
        }


def sequences(candidates: int, length: int) -> list[Speakers]:
    """All of a length."""
    return list(product(range(candidates), repeat=length))


def pair(candidates: int, length: int, seed: int) -> tuple[Speakers, Speakers]:
    """Two different sequences, each as probable as any other."""
    every = sequences(candidates, length)
    first, second = generator(derive(seed, "pair", length)).choice(len(every), 2, replace=False)
    return every[first], every[second]


async def _force(stem: GenerationLoop, speakers: Speakers, seed: int) -> Forced:
    taken = 0
    async with stem.fork(seed) as answer:
        for speaker in speakers:
            if answer.ended:
                break
            await answer.step(speaker)
            taken += 1
        await answer.write()
        return Forced(speakers, taken, answer.text, answer.state.tokens - stem.state.tokens)


def _scores(occasion: DecisionPoint, texts: Sequence[str]) -> list[float]:
    found = []
    for end in score_rollouts(
        occasion.task, occasion.query, [RolloutResult(0, text) for text in texts]
    ):
        if end.utility is None:
            raise EngineError(f"{occasion.id}: an answer has no score: {end.why}")
        found.append(end.utility)
    return found
