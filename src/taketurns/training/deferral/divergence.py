"""Where the answers of two models part (R2R, arXiv 2505.21600).

The other model answers a question. At each of its tokens the base's most probable token is compared
with it. Where they differ, the base's token is taken instead and the other model goes on from it:
if that leads to another answer, the base should have deferred there. All decoding is greedy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from taketurns.checkpoints.text import SharedVocabulary
from taketurns.config.team_config import SwitcherConfig, TeamConfig
from taketurns.engines.base import PromptScoringSession
from taketurns.errors import ConfigError, DataError
from taketurns.generation.loop import GenerationLoop
from taketurns.generation.state import GenerationState
from taketurns.generation.team import Team
from taketurns.runs.manifest import Manifest
from taketurns.runs.output import failed, open_run
from taketurns.runs.records import Record, decode_records
from taketurns.runs.runner import run
from taketurns.tasks.base import CanonicalTask, Task, canonical_answer
from taketurns.training.deferral.texts import Text
from taketurns.training.labels.decision_points import training_queries
from taketurns.types import Patch, Query, Sampling

AT_A_TIME = 32  # questions


@dataclass(frozen=True, slots=True)
class AskedQuestion:
    """A question of a task."""

    task: Task
    query: Query

    @property
    def id(self) -> str:
        return self.query.id


@dataclass(frozen=True, slots=True)
class Divergences:
    """The other model's answers, and of their places how many are `compared`, at how many the next
    tokens `differ`, and at how many the answers part, so that the base should defer."""

    texts: tuple[Text, ...]
    compared: int
    differ: int
    part: int


def questions_of(tasks: Sequence[Task], limit: int) -> list[AskedQuestion]:
    """The first `limit` train questions of each task. Raises DataError if train questions repeat or
    occur in dev or test."""
    asked = training_queries(tasks)
    return [AskedQuestion(task, query) for task in tasks for query in asked[task.name][:limit]]


async def find_divergences(
    team: TeamConfig,
    base: int,
    questions: Sequence[AskedQuestion],
    path: Path,
    manifest: Manifest,
) -> Divergences:
    """Write a record for each question to `path`, keeping those that it has. Raises ConfigError for
    candidates with different vocabularies, DataError if no question could be answered."""
    policy = team.policy.without_rules()
    policy = replace(policy, patch=None, patch_size=policy.max_tokens, temperature=0.0)
    team = replace(team, switcher=SwitcherConfig(), judge=None, policy=policy)
    async with Team.load(team) as greedy:
        infos = [await greedy.engine.info(candidate.name) for candidate in team.candidates]
        if SharedVocabulary.of(info.codec for info in infos) is None:
            names = " and ".join(info.name for info in infos)
            raise ConfigError(
                f"the tokenizers of {names} differ, so their next tokens cannot be compared: train "
                "the head on texts, with --texts"
            )

        async def compared(question: AskedQuestion) -> Record:
            state = await greedy.draft(question.query)
            async with greedy.answer(state, 0) as answer:
                return await _compare(answer, base, question, infos[base].end_token_ids)

        with open_run(path, manifest) as output:
            await run(questions, compared, output, concurrency=AT_A_TIME, label="comparing")
    records = list(decode_records(path.read_bytes().splitlines(True), str(path)))
    known = {question.id: question.query for question in questions}
    if not (made := [record for record in records if not failed(record)]):
        why = records[0]["error"] if records else "there is none"
        raise DataError(
            f"no train question could be answered and compared, the first one because {why}: name "
            "other tasks with --task"
        )
    return Divergences(
        tuple(
            Text(known[r["id"]], r["answer"], tuple(r["token_ids"]), tuple(r["defers"]))
            for r in made
            if r["token_ids"]
        ),
        compared=sum(len(record["defers"]) for record in made),
        differ=sum(record["differ"] for record in made),
        part=sum(sum(record["defers"]) for record in made),
    )


async def _compare(
    answer: GenerationLoop, base: int, question: AskedQuestion, ends: frozenset[int]
) -> Record:
    """One question's record."""
    start, name = answer.state.copy(), answer.models[base]
    most = answer.policy.max_tokens
    patch, state = await answer.step(1 - base, most), answer.state
    ends |= frozenset(state.end_token_ids)
    first = len(start.prompt(base))
    written = tuple(state.prompt(base)[first:])  # without control tokens
    patch = replace(patch, token_ids=written)
    scoring = cast(PromptScoringSession, answer.session)
    read = await scoring.prompt_logprobs(name, state.prompt(base), 1)
    likely = [token.top[0][0] for token in read[first:]]
    same = [top == token for top, token in zip(likely, written, strict=True)]
    if state.end_token is not None:  # it ended by a token, which is compared too
        last = await answer.session.generate(name, state.prompt(base), Sampling(1, temperature=0.0))
        same.append(last.finish == "stop" or last.token_ids[0] in ends)
    whole = patch.text
    defers = [
        not equal and await _parts(answer, base, question, _after(start, patch, place), whole)
        for place, equal in enumerate(same)
    ]
    return {
        "id": question.id,
        "task": question.task.name,
        "answer": whole,
        "token_ids": list(written),
        "defers": defers,
        "differ": len(same) - sum(same),
        "tokens": len(written),
        "error": None,
    }


def _after(start: GenerationState, patch: Patch, place: int) -> GenerationState:
    """The answer after its first `place` tokens."""
    here = start.copy()
    if place:
        here.replay(patch, place)
    return here


async def _parts(
    answer: GenerationLoop, base: int, question: AskedQuestion, here: GenerationState, whole: str
) -> bool:
    """Whether the answer becomes another one if the base writes its next token."""
    most = answer.policy.max_tokens
    async with answer.fork(0, here) as fork:
        await fork.step(base, 1)
        while not fork.ended:
            await fork.step(1 - base, most)
        other = fork.text
    task, query = question.task, question.query
    if isinstance(task, CanonicalTask):
        return canonical_answer(task, query, other) != canonical_answer(task, query, whole)
    return task.score(query, other).value != task.score(query, whole).value
