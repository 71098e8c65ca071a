"""Existing answers, matched with their questions.

One line per answer: `{"id", "text"}`, or `{"id", "texts": [...]}` if a task judges several answers
to a question together. `taketurns generate` writes such a file. The id is that of the question,
with or without the task's name before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from taketurns.errors import DataError
from taketurns.types import Query
from taketurns.utils.json_files import parse_json


@dataclass(frozen=True, slots=True)
class QuestionAnswers:
    """The texts that answer a question: one, or several that are judged together. `failed` is the
    error if the answer failed."""

    query: Query
    texts: tuple[str, ...]
    failed: str | None = None


def match_answers(
    data: bytes, source: str, queries: Sequence[Query], *, several: bool
) -> list[QuestionAnswers]:
    """An answer for every question, in the questions' order; `several` allows more than one.

    Identical lines count once. Raises DataError for a line that is not an answer, and if an answer
    is missing, is given twice, or belongs to no question.
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
            raise DataError(f"{where}: no question has the id {record.get('id')!r}; {_like(ids)}")
        answers, named = _answers(query, record, where, several), str(record["id"])
        if query.id in matched:
            first, *before = matched[query.id]
            if before == [named, answers]:
                continue
            raise DataError(
                f"{where}: line {first} already has an answer with the id {record['id']!r}: "
                + (
                    'put several answers into one line, as "texts"'
                    if several
                    else "remove one of the lines"
                )
            )
        matched[query.id] = number, named, answers
    missing = [query.id for query in queries if query.id not in matched]
    if missing:
        raise DataError(
            f"{source} answers {len(matched)} of {len(queries)} questions; the first without an "
            f"answer is {missing[0]!r}: add the missing answers"
        )
    return [matched[query.id][2] for query in queries]


def _ids(queries: Sequence[Query]) -> dict[str, Query]:
    """Questions by their ids, and by their ids without the part before the first slash, if that is
    not the id of another question."""
    whole = {query.id: query for query in queries}
    short: dict[str, Query] = {}
    for query in queries:
        short.setdefault(query.id.partition("/")[2], query)
    return {**short, **whole}


def _like(ids: Mapping[str, Query]) -> str:
    query = next(iter(ids.values()), None)
    if query is None:
        return "this split of the task has no questions"
    return f"give the ids of this split's questions, such as {query.id!r}"


def _record(line: bytes, where: str) -> dict[str, object]:
    try:
        record = parse_json(line)
    except ValueError as error:
        raise DataError(f"{where}: not JSON: {error}") from error
    if not isinstance(record, dict) or "id" not in record:
        raise DataError(f'{where}: a line must be an object {{"id": …, "text": …}}')
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
        raise DataError(
            f'{where}: this task takes one answer per question: write "text", not "texts"'
        )
    if not isinstance(texts, list) or not texts or not all(isinstance(t, str) for t in texts):
        field = "texts" if "texts" in record else "text"
        what = "a list of texts" if field == "texts" else "a text"
        raise DataError(f"{where}: the field {field!r} must be {what}")
    return QuestionAnswers(query, tuple(texts))
