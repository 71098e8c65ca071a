"""What Ray's actors do: a team in each, answering queries or rolling out prefixes."""

from __future__ import annotations

from taketurns.config.team_config import TeamConfig
from taketurns.generation.team import Team
from taketurns.runs.records import query_from_json, trace_to_json
from taketurns.runs.runner import Record
from taketurns.training.labels.job import RolloutJob
from taketurns.training.labels.rollouts import RolloutGenerator, rollouts_to_json


class Answering:
    """Answers queries: an item is a query's record."""

    def __init__(self, config: TeamConfig, concurrency: int) -> None:
        self.concurrency = concurrency
        self._team = Team.load(config)
        self._names = [candidate.name for candidate in config.candidates]

    async def work(self, item: Record) -> Record:
        return trace_to_json(await self._team.agenerate(query_from_json(item)), self._names)


class RollingOut:
    """Rolls out the prefixes of a plan: an item is the `number` of one."""

    def __init__(self, plan: RolloutJob) -> None:
        self.concurrency = plan.at_a_time
        self._plan = plan
        self._team = Team.load(plan.team)
        self._names = [candidate.name for candidate in plan.team.candidates]
        self._roller = RolloutGenerator(self._team, plan.allocation, plan.concurrency)

    async def work(self, item: Record) -> Record:
        rollouts = await self._roller.roll_out(self._plan.points[item["number"]])
        return rollouts_to_json(rollouts, self._names, self._team.policy)
