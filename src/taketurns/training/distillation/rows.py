"""What the student reads and what it learns: its own prompt, then the answer with its end.

The prompt and whatever text was forced into the answer are read and never learned. Tokens are taken
as they were written where the vocabularies agree; otherwise the student's tokenizer spells the
exact text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from taketurns.checkpoints.text import SharedVocabulary
from taketurns.config.team_config import TeamConfig
from taketurns.errors import ConfigError, DataError
from taketurns.generation.handover import CandidateRuntime
from taketurns.training.distillation.sampling import TeamAnswer
from taketurns.types import Candidate, ModelSpec, Patch, Trace


@dataclass(frozen=True, slots=True)
class StudentRow:
    """An answer as the student reads it. `answer` is the token ids after the prompt, the end of the
    answer among them if it was ended; `speakers` says of each who wrote it, None for what was
    forced and is not learned."""

    id: str
    question: str
    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    speakers: tuple[int | None, ...]

    @property
    def length(self) -> int:
        return len(self.prompt) + len(self.answer)

    @property
    def learned(self) -> int:
        """How many tokens are learned."""
        return sum(speaker is not None for speaker in self.speakers)


@dataclass(frozen=True, slots=True)
class Readers:
    """The candidates and the student as they read prompts; no weights are needed."""

    candidates: tuple[CandidateRuntime, ...]
    student: CandidateRuntime

    @property
    def vocabulary(self) -> SharedVocabulary | None:
        """What the candidates and the student share, None where ids differ."""
        return SharedVocabulary.of(r.info.codec for r in (*self.candidates, self.student))

    def one_vocabulary(self) -> SharedVocabulary:
        """What token distributions are compared over. Raises ConfigError where they cannot be."""
        mine = self.student.info.codec
        for reader in self.candidates:
            if SharedVocabulary.of((reader.info.codec, mine)) is None:
                raise ConfigError(
                    f"the vocabularies of {reader.candidate.name} and the student "
                    f"({self.student.candidate.name}) differ, so their distributions cannot be "
                    "compared: use --loss sft, which needs only the text"
                )
        assert self.vocabulary is not None, "each candidate shares the student's"
        return self.vocabulary


async def read_models(team: TeamConfig, student: ModelSpec, name: str) -> Readers:
    """Tokenizers, templates and contexts of the candidates and of the student."""
    from taketurns.engines.local.engine import LocalEngine

    learner = Candidate(f"(student {name})", student)
    every = [*team.candidates, learner]
    engine = LocalEngine({candidate.name: candidate.spec for candidate in every})
    try:
        infos = [await engine.info(candidate.name) for candidate in every]
    finally:
        await engine.close()
    return Readers(
        tuple(map(CandidateRuntime, team.candidates, infos[:-1])),
        CandidateRuntime(Candidate(name, student), infos[-1]),
    )


def make_rows(answers: Sequence[TeamAnswer], readers: Readers) -> tuple[list[StudentRow], int]:
    """A row an answer, and how many were left out because they do not fit the student's context.
    Raises DataError if none fits."""
    fitting = [
        row for a in answers if (row := _row(a, readers)).length <= readers.student.info.context
    ]
    if not fitting:
        raise DataError(
            f"no answer fits the context of {readers.student.candidate.name}, "
            f"{readers.student.info.context} tokens: choose a student with a longer context, or "
            "lower policy.max_tokens of the team"
        )
    return fitting, len(answers) - len(fitting)


def split(
    rows: Sequence[StudentRow], share: float, seed: int
) -> tuple[list[StudentRow], list[StudentRow]]:
    """Rows to learn, and rows of other questions on which the loss is only measured: this share of
    the questions, none if that is less than one."""
    from taketurns.utils.seeds import derive

    asked = sorted({row.question for row in rows}, key=lambda q: derive(seed, "held out", q))
    held = set(asked[: int(share * len(asked))])
    return (
        [row for row in rows if row.question not in held],
        [row for row in rows if row.question in held],
    )


def _row(answer: TeamAnswer, readers: Readers) -> StudentRow:
    trace, student = answer.trace, readers.student
    spelled = _as_written(trace, readers) if trace.exact else None
    prompt, ids, speakers = spelled or _respelled(trace, student)
    if trace.finish == "stop":
        end = student.info.codec.tokenizer.eos_token_id
        ids, speakers = [*ids, int(end)], [*speakers, _last_speaker(trace.patches)]
    question = f"{answer.task}\n{trace.query.id}"
    return StudentRow(answer.id, question, tuple(prompt), tuple(ids), tuple(speakers))


def _as_written(
    trace: Trace, readers: Readers
) -> tuple[list[int], list[int], list[int | None]] | None:
    """The ids that were handed from speaker to speaker; None where the student's are others, or
    where they are more than the answer."""
    vocabulary = readers.vocabulary
    if vocabulary is None:
        return None
    pairs = [
        (token, patch.speaker)
        for patch in trace.patches
        for token in vocabulary.ordinary(patch.token_ids)
    ]
    student, ids = readers.student, [token for token, _ in pairs]
    prompt = list(student.prompt(trace.query).ids)
    stream = student.info.codec.stream(prompt)
    if stream.push(*ids) + stream.flush() != trace.text:
        return None  # a stop string was written, which is no part of the answer
    return prompt, ids, [speaker for _, speaker in pairs]


def _respelled(
    trace: Trace, student: CandidateRuntime
) -> tuple[list[int], list[int], list[int | None]]:
    """The whole text in the student's tokens. Each belongs to the patch that completes it."""
    asked, written = student.prompt(trace.query), ""
    prompt = ids = list(asked.ids)
    speakers: list[int | None] = []
    for patch in trace.patches:
        written += patch.text
        longer = student.encode(asked.rendered, written)
        same = _common(ids, longer)
        if same < len(prompt):  # its last token and the answer's first are one
            prompt = longer[:same]
        speakers = speakers[: same - len(prompt)]
        speakers += [patch.speaker] * (len(longer) - same)
        ids = longer
    return prompt, ids[len(prompt) :], speakers


def _common(first: Sequence[int], second: Sequence[int]) -> int:
    """How many ids two sequences begin with alike."""
    pairs = zip(first, second, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))


def _last_speaker(patches: Sequence[Patch]) -> int | None:
    return next((p.speaker for p in reversed(patches) if p.speaker is not None), None)
