"""The student's token rows: its own prompt, then the answer with its end token.

The prompt, and text that was forced into the answer, have no loss. If the vocabularies are equal,
the tokens are those that were written; otherwise the student's tokenizer encodes the exact text.
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
    """An answer as the student reads it. `answer` has the token ids after the prompt, including the
    end token if the answer was ended; `speakers` has the candidate that wrote each of them, None
    for forced text, which has no loss."""

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
        """The number of tokens with a loss."""
        return sum(speaker is not None for speaker in self.speakers)


@dataclass(frozen=True, slots=True)
class Readers:
    """The candidates and the student with their tokenizers and prompts, without weights."""

    candidates: tuple[CandidateRuntime, ...]
    student: CandidateRuntime

    @property
    def vocabulary(self) -> SharedVocabulary | None:
        """The vocabulary of the candidates and the student; None if ids differ."""
        return SharedVocabulary.of(r.info.codec for r in (*self.candidates, self.student))

    def one_vocabulary(self) -> SharedVocabulary:
        """The common vocabulary, over which token distributions are compared. Raises ConfigError if
        there is none."""
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
    """One row per answer, and the number of answers that do not fit the student's context and are
    left out. Raises DataError if none fits."""
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
    """Training rows, and held-out rows of other questions, on which the loss is only measured:
    `share` of the questions, rounded down."""
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
    """Prompt ids, answer ids and speakers, with the token ids as they were written; None if the
    student has other ids, or if the tokens hold more than the answer's text."""
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
        return None  # the tokens include a stop string, which is not part of the answer
    return prompt, ids, [speaker for _, speaker in pairs]


def _respelled(
    trace: Trace, student: CandidateRuntime
) -> tuple[list[int], list[int], list[int | None]]:
    """Prompt ids, answer ids and speakers, with the text encoded by the student's tokenizer. A
    token belongs to the patch that completes it."""
    asked, written = student.prompt(trace.query), ""
    prompt = ids = list(asked.ids)
    speakers: list[int | None] = []
    for patch in trace.patches:
        written += patch.text
        longer = student.encode(asked.rendered, written)
        same = _common(ids, longer)
        if same < len(prompt):  # the prompt's end and the answer's beginning share a token
            prompt = longer[:same]
        speakers = speakers[: same - len(prompt)]
        speakers += [patch.speaker] * (len(longer) - same)
        ids = longer
    return prompt, ids[len(prompt) :], speakers


def _common(first: Sequence[int], second: Sequence[int]) -> int:
    """The length of the common beginning of two sequences."""
    pairs = zip(first, second, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))


def _last_speaker(patches: Sequence[Patch]) -> int | None:
    return next((p.speaker for p in reversed(patches) if p.speaker is not None), None)
