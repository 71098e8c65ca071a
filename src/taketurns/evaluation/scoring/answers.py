"""Answers that are written already, matched with the questions they answer.

A line an answer: `{"id", "text"}`, or `{"id", "texts": [...]}` where a task judges several answers
to a question beside each other. What `taketurns generate` writes is such a file. The id is the
question's, with or without its task's name before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from taketurns.errors import DataError
from taketurns.types import Query
from taketurns.utils.json_files import parse_json


@dataclass(frozen=True, slots=True)
class QuestionAnswers:
    """The texts that answer a question: one, or several to be judged together. `failed` says why
    there is none."""

    query: Query
    texts: tuple[str, ...]
    failed: str | None = None


def match_answers(
    data: bytes, source: str, queries: Sequence[Query], *, several: bool
) -> list[QuestionAnswers]:
    """An answer for every question, in the questions' order; `several` allows more than one.

    A line that repeats another, its id and all that it says, counts once. Raises DataError for a
    line that is none, and if answers are missing, doubled, or belong to no question.
    """
    ids = _ids(queries)
    matched: dict[str, tuple[int, str, QuestionAnswers]] = {}
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if not line.strip():
            continue
        where = f"{source}:{number}"
        record = _record(line, where)
        query = ids.get(str(record.get("id")))
        if query is None:
            raise DataError(f"{where}: the id {record.get('id')!r} is no question's; {_like(ids)}")
        answers, named = _answers(query, record, where, several), str(record["id"])
        if query.id in matched:
            first, *before = matched[query.id]
            if before == [named, answers]:
                continue
            raise DataError(
                f"{where}: the id {record['id']!r} was already answered in line {first}"
                + ("; several answers go into one line, as texts" if several else "")
            )
        matched[query.id] = number, named, answers
    missing = [query.id for query in queries if query.id not in matched]
    if missing:
        raise DataError(
            f"{source} answers {len(matched)} of {len(queries)} questions; the first without an "
            f"answer is {missing[0]!r}"
        )
    return [matched[query.id][2] for query in queries]


def _ids(queries: Sequence[Query]) -> dict[str, Query]:
    """Questions by their ids, whole and without what stands before the first slash, where that is
    no other's id."""
    whole = {query.id: query for query in queries}
    short: dict[str, Query] = {}
    for query in queries:
        short.setdefault(query.id.partition("/")[2], query)
    return {**short, **whole}


def _like(ids: Mapping[str, Query]) -> str:
    query = next(iter(ids.values()), None)
    return f"ids are like {query.id!r}" if query is not None else "there are no questions"


def _record(line: bytes, where: str) -> dict[str, object]:
    try:
        record = parse_json(line)
    except ValueError as error:
        raise DataError(f"{where}: not JSON: {error}") from error
    if not isinstance(record, dict) or "id" not in record:
        raise DataError(f"{where}: not an object with an id and a text")
    return record


def _answers(
    query: Query, record: Mapping[str, object], where: str, several: bool
) -> QuestionAnswers:
    if record.get("error") is not None:
        return QuestionAnswers(query, (str(record.get("text") or ""),), str(record["error"]))
    texts = record.get("texts")
    if texts is None:
        texts = [record.get("text")]
    elif not several:
        raise DataError(f"{where}: this task takes one answer a question, as text")
    if not isinstance(texts, list) or not texts or not all(isinstance(t, str) for t in texts):
        field = "texts" if "texts" in record else "text"
        what = "a list of texts" if field == "texts" else "a text"
        raise DataError(f"{where}: the field {field!r} must be {what}")
    return QuestionAnswers(query, tuple(texts))
