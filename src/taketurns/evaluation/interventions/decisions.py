"""The switcher's probabilities at decision points of held-out answers, and the utility of each
candidate there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from taketurns.config.policy import Policy
from taketurns.evaluation.interventions.calibration import SwitcherDecision
from taketurns.generation.team import Team
from taketurns.runs.output import failed
from taketurns.runs.records import Record, patch_from_json, query_from_json
from taketurns.switchers.sampling import normalise, nucleus
from taketurns.training.labels.decision_points import DecisionPoint
from taketurns.training.labels.rollouts import SCHEMA, RolloutGenerator, rollouts_to_json
from taketurns.types import Patch, Query
from taketurns.utils.seeds import derive


class DecisionProber:
    """Makes records of decisions with a team."""

    def __init__(self, team: Team, generator: RolloutGenerator) -> None:
        self._team = team
        self._generator = generator
        self._names = [candidate.name for candidate in team.candidates]

    async def measure(self, point: DecisionPoint) -> Record:
        """Make rollouts at a decision point and ask the switcher. Raises EngineError."""
        rollouts = await self._generator.roll_out(point)
        record = rollouts_to_json(rollouts, self._names, self._team.policy)
        return {**await self.ask(record), "tokens": rollouts.tokens}

    async def ask(self, rollouts: Mapping[str, Any]) -> Record:
        """Ask the switcher at the decision point of a record of rollouts, which must have the same
        candidates. Raises EngineError."""
        query = query_from_json(rollouts["query"])
        prefix = tuple(map(patch_from_json, rollouts["prefix"]))
        branches = sorted(rollouts["branches"], key=lambda branch: int(branch["speaker"]))
        return {
            "id": rollouts["id"],
            "task": rollouts["task"],
            "query": query.id,
            "position": len(prefix),
            "probabilities": list(await probabilities(self._team, query, prefix)),
            "utilities": [branch["utilities"] for branch in branches],
            "error": None,
        }


async def probabilities(team: Team, query: Query, prefix: Sequence[Patch]) -> tuple[float, ...]:
    """The switcher's probabilities after these patches of an answer. Raises EngineError, and
    PromptError if the text does not fit."""
    policy = team.policy.without_rules()
    draft = await team.draft(query, policy)
    draft.resume(prefix)
    async with team.answer(draft, derive(policy.seed, "consider"), policy) as answer:
        return await answer.switcher_probabilities()


def decision_from_json(record: Mapping[str, Any], policy: Policy) -> SwitcherDecision:
    """A record as a decision; `policy` says how the next speaker is drawn."""
    switcher = tuple(record["probabilities"])
    if policy.greedy_switcher:
        top = max(range(len(switcher)), key=switcher.__getitem__)
        drawn = tuple(float(index == top) for index in range(len(switcher)))
    else:
        drawn = normalise(nucleus(switcher, policy.top_p))
    utilities = tuple(map(tuple, record["utilities"]))
    return SwitcherDecision(
        record["query"], record["task"], record["position"], switcher, drawn, utilities
    )


def has_all_utilities(record: Mapping[str, Any]) -> bool:
    """Is this a record of rollouts in which every candidate has a utility?"""
    whole = record.get("schema") == SCHEMA and not failed(record)
    return whole and all(branch["utilities"] for branch in record["branches"])
