"""The team's answers to train questions with their utilities, one record per answer.

The file depends only on the team and the tasks, and a larger number of answers begins with the same
ones, so answers can be appended and any number of students can use the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

from taketurns.config.team_config import TeamConfig
from taketurns.errors import DataError, EngineError
from taketurns.generation.team import Team
from taketurns.runs.description import describe_run
from taketurns.runs.manifest import Manifest
from taketurns.runs.output import failed, open_run, without_repeats
from taketurns.runs.records import (
    Record,
    decode_records,
    encode_record,
    query_to_json,
    trace_from_json,
    trace_to_json,
)
from taketurns.runs.runner import Failures, run
from taketurns.tasks.base import Task
from taketurns.tasks.own_parts import own_parts
from taketurns.training.distillation.settings import SamplingConfig
from taketurns.training.labels.decision_points import training_queries
from taketurns.training.labels.rollout_scoring import RolloutResult, score_rollouts
from taketurns.types import Query, Timing, Trace

NO_BRANCH = -1


@dataclass(frozen=True, slots=True)
class TeamAnswer:
    """An answer of the team, and its utility; None, with the reason `why`, if it could not be
    scored."""

    id: str
    task: str
    trace: Trace
    utility: float | None
    why: str | None = None


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """An answer to sample: the question, and its number among the answers to this question, from
    0."""

    task: Task
    query: Query
    number: int

    @property
    def id(self) -> str:
        return f"{self.query.id}#{self.number}"


def sample_requests(tasks: Sequence[Task], config: SamplingConfig) -> list[SampleRequest]:
    """The answers to sample: the first answer to every question, the tasks taking turns, then the
    second ones. Raises DataError if train questions repeat or occur in dev or test."""
    queries = training_queries(tasks)
    columns = [[(task, q) for q in queries[task.name][: config.questions]] for task in tasks]
    turns = [pair for row in zip_longest(*columns) for pair in row if pair is not None]
    return [SampleRequest(task, q, number) for number in range(config.answers) for task, q in turns]


async def sample(
    team: TeamConfig, tasks: Sequence[Task], config: SamplingConfig, path: Path
) -> Failures:
    """Write the team's answers to `path`, continuing an earlier run; returns the failures. Raises
    DataError if the file belongs to another run, PromptError if a question does not fit."""
    items = sample_requests(tasks, config)
    manifest = sampling_manifest(team, tasks)
    async with Team.load(team) as asked:
        for item in items:
            await asked.check_prompt(item.query)
        with open_run(path, manifest) as output:
            if not output.missing(items):
                return Failures()
            await asked.prepare()
            return await run(
                items,
                partial(_answer, asked),
                output,
                concurrency=config.concurrency,
                label="sampling",
            )


def read_answers(path: Path, asked: Sequence[SampleRequest]) -> Iterator[TeamAnswer]:
    """The answers of a file that are in `asked`, without failures. Raises DataError for a file that
    `sample` did not write."""
    ids = {item.id for item in asked}
    try:
        with path.open("rb") as file:
            for record in without_repeats(decode_records(file, str(path))):
                if record.get("id") in ids and not failed(record):
                    yield _read(record)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    except KeyError as error:
        raise DataError(
            f"{path}: a record has no {error}; remove the file, and the same command samples the "
            "answers again"
        ) from error


def sampling_manifest(team: TeamConfig, tasks: Sequence[Task]) -> Manifest:
    """The inputs that decide the answers."""
    queries = [query for task in tasks for query in task.queries("train")]
    data = b"".join(encode_record(query_to_json(query)) for query in queries)
    manifest = describe_run("distill", team, data, tasks=[task.name for task in tasks])
    return manifest.with_inputs(**own_parts(tasks))


async def _answer(team: Team, item: SampleRequest) -> Record:
    """The record of an answer, without timings, so that the same command makes the same file.
    Raises EngineError if the answer cannot be written."""
    trace = await team.agenerate(item.query, seed=team.policy.seed + item.number)
    if trace.error is not None:
        raise EngineError(trace.error)
    untimed = replace(trace, patches=tuple(replace(p, timing=Timing()) for p in trace.patches))
    (result,) = score_rollouts(item.task, item.query, [RolloutResult(NO_BRANCH, trace.text)])
    return {
        **trace_to_json(untimed, [candidate.name for candidate in team.candidates]),
        "id": item.id,
        "task": item.task.name,
        "utility": result.utility,
        "why": result.why,
    }


def _read(record: Mapping[str, Any]) -> TeamAnswer:
    return TeamAnswer(
        record["id"], record["task"], trace_from_json(record), record["utility"], record["why"]
    )
