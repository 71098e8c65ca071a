"""The workers in Ray's actors: each has a team and answers queries or rolls out prefixes."""

from __future__ import annotations

from taketurns.config.team_config import TeamConfig
from taketurns.generation.team import Team
from taketurns.runs.records import Record, query_from_json, trace_to_json
from taketurns.training.labels.job import RolloutJob
from taketurns.training.labels.rollouts import RolloutGenerator


class AnswerWorker:
    """Answers queries: an item is a query's record."""

    def __init__(self, config: TeamConfig, concurrency: int) -> None:
        self.concurrency = concurrency
        self._team = Team.load(config)
        self._names = [candidate.name for candidate in config.candidates]

    async def work(self, item: Record) -> Record:
        return trace_to_json(await self._team.agenerate(query_from_json(item)), self._names)


class RolloutWorker:
    """Rolls out the prefixes of a job: an item is the `number` of one."""

    def __init__(self, job: RolloutJob) -> None:
        self.concurrency = job.at_a_time
        self._points = job.points
        self._generator = RolloutGenerator(Team.load(job.team), job.allocation, job.concurrency)

    async def work(self, item: Record) -> Record:
        return await self._generator.record(self._points[item["number"]])
