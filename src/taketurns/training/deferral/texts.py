"""The texts that a deferral head is trained on: a question and an answer a line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from taketurns.errors import DataError
from taketurns.runs.records import InvalidLine, read_queries
from taketurns.types import Query
from taketurns.utils.seeds import derive

ANSWER = "answer"  # its key in a line


@dataclass(frozen=True, slots=True)
class Text:
    """An answer to a query, as a model would have written it. If one did, `token_ids` are its
    tokens, and `defers` says of each of its first places whether the base should defer there."""

    query: Query
    answer: str
    token_ids: tuple[int, ...] = ()
    defers: tuple[bool, ...] | None = None


@dataclass(frozen=True, slots=True)
class Texts:
    """Texts for training, and those that choose the epoch."""

    train: tuple[Text, ...]
    validation: tuple[Text, ...]

    @classmethod
    def split(cls, texts: Sequence[Text], share: float, seed: int) -> Texts:
        """Hold out a share, at least one. Raises DataError for fewer than two texts."""
        if len(texts) < 2:
            raise DataError(
                "training needs at least two texts that fit the models, one of them for choosing "
                f"the epoch; here are {len(texts)}: add texts"
            )
        ranked = sorted(texts, key=lambda text: derive(seed, "validation", text.query.id))
        held_out = {text.query.id for text in ranked[: max(1, round(share * len(ranked)))]}
        return cls(
            tuple(text for text in texts if text.query.id not in held_out),
            tuple(text for text in texts if text.query.id in held_out),
        )


def read_texts(path: Path) -> tuple[Text, ...]:
    """The texts of a file. Raises DataError for one that cannot be read, and for a line without a
    question or an answer."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    texts = []
    for query in read_queries(data, str(path)):
        if isinstance(query, InvalidLine):
            raise DataError(f"{path}:{query.line}: {query.reason}")
        answer = query.metadata.get(ANSWER)
        if not isinstance(answer, str) or not answer:
            raise DataError(
                f"{path}: the record {query.id!r} has no answer to learn from: give each line the "
                'keys "text" (or "messages") and "answer", a text'
            )
        texts.append(Text(query, answer))
    return tuple(texts)
