"""A randomised experiment on speakers: two different sequences of speakers are forced at the same
random boundary of an answer, and both answers are continued with the switcher.

The answer is drawn with the team's own switcher and cut as for a label. Both sequences are drawn
evenly from all sequences of their length and continued with the same random draws, so the two
answers differ only in the speakers. Opening and closing speakers are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from taketurns.errors import EngineError
from taketurns.evaluation.interventions.effects import SpeakerSequence
from taketurns.generation.loop import GenerationLoop
from taketurns.generation.team import Team
from taketurns.training.labels.decision_points import DecisionPoint
from taketurns.training.labels.rollout_scoring import RolloutResult, score_rollouts
from taketurns.training.labels.rollouts import cut_prefix, gather_all
from taketurns.utils.seeds import derive, generator

LENGTHS = (2, 3)


@dataclass(frozen=True, slots=True)
class ForcedAnswer:
    """An answer continued with these speakers; `taken` of them wrote a patch before it ended."""

    speakers: SpeakerSequence
    taken: int
    text: str
    tokens: int


class Forcer:
    """Runs trials with a team. The decision point of a trial is a query and the number of the trial
    on it; the boundary is drawn from these."""

    def __init__(self, team: Team, lengths: Sequence[int] = LENGTHS) -> None:
        self._team = team
        self._policy = team.policy.without_rules()
        self._lengths = tuple(lengths)

    async def trial(self, point: DecisionPoint) -> dict[str, Any]:
        """The record of a trial: the position of the cut, and a pair of arms for each length.
        Raises EngineError if an answer cannot be written or scored."""
        team, policy, query = self._team, self._policy, point.query
        seed = derive(policy.seed, "sequences", query.id, point.number)
        draft = await team.draft(query, policy)
        drawn = {length: draw_pair(len(team.candidates), length, seed) for length in self._lengths}
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
        scores = _scores(point, [answer.text for answer in forced])
        arms = [
            {"speakers": list(answer.speakers), "taken": answer.taken, "score": score}
            for answer, score in zip(forced, scores, strict=True)
        ]
        return {
            "id": point.id,
            "task": point.task.name,
            "category": point.task.category,
            "query": query.id,
            "position": position,
            "written": [patch.speaker for patch in draft.patches],
            "pairs": [arms[at : at + 2] for at in range(0, len(arms), 2)],
            "tokens": draft.tokens + sum(answer.tokens for answer in forced),
            "error": None,
        }


def all_sequences(candidates: int, length: int) -> list[SpeakerSequence]:
    """All sequences of this length."""
    return list(product(range(candidates), repeat=length))


def draw_pair(candidates: int, length: int, seed: int) -> tuple[SpeakerSequence, SpeakerSequence]:
    """Two different sequences, drawn evenly."""
    every = all_sequences(candidates, length)
    first, second = generator(derive(seed, "pair", length)).choice(len(every), 2, replace=False)
    return every[first], every[second]


async def _force(stem: GenerationLoop, speakers: SpeakerSequence, seed: int) -> ForcedAnswer:
    taken = 0
    async with stem.fork(seed) as answer:
        for speaker in speakers:
            if answer.ended:
                break
            await answer.step(speaker)
            taken += 1
        await answer.write()
        return ForcedAnswer(speakers, taken, answer.text, answer.state.tokens - stem.state.tokens)


def _scores(point: DecisionPoint, texts: Sequence[str]) -> list[float]:
    scores = []
    rollouts = [RolloutResult(0, text) for text in texts]
    for rollout in score_rollouts(point.task, point.query, rollouts):
        if rollout.utility is None:
            raise EngineError(
                f"an answer at the decision point {point.id} has no score: {rollout.why}"
            )
        scores.append(rollout.utility)
    return scores
