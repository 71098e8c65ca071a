"""Queries and traces as JSON, one object per line.

A line of a prompts file is `{"id", "text"}` or `{"id", "messages": [{"role", "content"}, …]}`, with
optional `reference`, `answer_format` and `metadata`; other keys are added to the metadata. The
default id is the number of the line. A trace is written with all its fields and read back equal, if
its reference and metadata are JSON values.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, get_args

from taketurns.config.answer_format import format_to_json, read_format
from taketurns.errors import ConfigError, DataError, LostTextWarning
from taketurns.types import Message, Patch, Query, RejectedPatch, Role, Timing, Trace
from taketurns.utils.json_files import parse_json

TRACE_SCHEMA = "taketurns.trace/1"
SAMPLE = "sample_questions"  # their key in the metrics.json of a training

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class InvalidLine:
    """A line that is not a query: its number, from 1, and the reason."""

    line: int
    reason: str


def read_queries(data: bytes, name: str) -> Iterator[Query | InvalidLine]:
    """The queries of a prompts file, in order, and the invalid lines. Blank lines are skipped; the
    id of a query without one is the number of its line, from 1.

    Raises DataError for an id that occurs twice and for a file without any line.
    """
    seen: dict[str, int] = {}
    empty = True
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if not line.strip():
            continue
        empty = False
        query = _read_query(line, number)
        if isinstance(query, Query):
            if query.id in seen:
                first = seen[query.id]
                raise DataError(
                    f"{name}:{number}: the id {query.id!r} was already used in line {first}; give "
                    "each prompt its own id"
                )
            seen[query.id] = number
        yield query
    if empty:
        raise DataError(f"{name} is empty: it must have one prompt per line")


def _read_query(line: bytes, number: int) -> Query | InvalidLine:
    try:
        record = parse_json(line.decode("utf-8"))
        json.dumps(record, ensure_ascii=False).encode("utf-8")  # fails for half of a surrogate pair
        if isinstance(record, dict) and record.get("id") is None:
            record["id"] = str(number)
        query = query_from_json(record)
        if query.conversation[-1].role != "user":
            return InvalidLine(number, "the last message must be the user's")
        return query
    except UnicodeDecodeError:
        return InvalidLine(number, "not UTF-8")
    except UnicodeEncodeError:
        return InvalidLine(number, "half of a surrogate pair in a string")
    except json.JSONDecodeError as error:
        return InvalidLine(number, f"not JSON: {error.msg} at character {error.pos + 1}")
    except (DataError, ValueError) as error:
        return InvalidLine(number, str(error))
    except RecursionError:
        return InvalidLine(number, "nested too deeply")


def query_from_json(record: Any) -> Query:
    """A query from its JSON object. Raises DataError, which names the wrong part, for anything
    else."""
    if not isinstance(record, dict):
        raise DataError('not an object with an id and a text: write {"id": "1", "text": "…"}')
    rest = dict(record)
    identifier, text, messages = (rest.pop(key, None) for key in ("id", "text", "messages"))
    reference, metadata = rest.pop("reference", None), rest.pop("metadata", None)
    try:
        answer_format = read_format(rest.pop("answer_format", None))
    except ConfigError as error:
        raise DataError(f'"answer_format": {error}') from error
    if isinstance(identifier, int) and not isinstance(identifier, bool):
        identifier = str(identifier)
    if not isinstance(identifier, str) or not identifier:
        raise DataError('"id" must be a non-empty string')
    if (text is None) == (messages is None):
        raise DataError('either "text" or "messages" is needed, not both')
    if text is not None and not isinstance(text, str):
        raise DataError('"text" must be a string')
    if not isinstance(metadata, dict | None):
        raise DataError('"metadata" must be an object')
    return Query(
        id=identifier,
        messages=None if messages is None else _messages(messages),
        text=text,
        reference=reference,
        metadata={**rest, **(metadata or {})},
        format=answer_format,
    )


def _messages(messages: Any) -> tuple[Message, ...]:
    if not isinstance(messages, list) or not messages:
        raise DataError('"messages" must be a list of at least one message')
    for message in messages:
        if not isinstance(message, dict) or message.keys() != {"role", "content"}:
            raise DataError('a message needs "role" and "content", nothing else')
        if message["role"] not in get_args(Role):
            raise DataError(
                f"a role is one of {', '.join(get_args(Role))}, not {message['role']!r}"
            )
        if not isinstance(message["content"], str):
            raise DataError('"content" must be a string')
    return tuple(Message(message["role"], message["content"]) for message in messages)


def query_to_json(query: Query) -> Record:
    """A query as a JSON object; keys without a value are left out."""
    record: Record = {"id": query.id}
    if query.messages is not None:
        record["messages"] = [{"role": m.role, "content": m.content} for m in query.messages]
    else:
        record["text"] = query.text
    if query.reference is not None:
        record["reference"] = query.reference
    if query.format is not None:
        record["answer_format"] = format_to_json(query.format)
    if query.metadata:
        record["metadata"] = dict(query.metadata)
    return record


def sample_questions(asked: Iterable[tuple[str, Query]]) -> dict[str, Record]:
    """The first question of each task, by task name, from (task, question) pairs. A training's
    folder keeps them, so that later commands know the tasks' questions."""
    first: dict[str, Record] = {}
    for task, query in asked:
        first.setdefault(task, query_to_json(query))
    return first


def trace_to_json(trace: Trace, names: Sequence[str]) -> Record:
    """A trace as one JSON object; `names` are the candidates' names, by index.

    `id`, `text`, `finish`, `tokens` and a patch's `name` are for the reader; `trace_from_json`
    needs the other keys.
    """
    return {
        "schema": TRACE_SCHEMA,
        "id": trace.query.id,
        "text": trace.text,
        "finish": trace.finish,
        "tokens": trace.tokens,
        "error": trace.error,
        "seed": trace.seed,
        "exact": trace.exact,
        "handover": handover(trace.exact),
        "query": query_to_json(trace.query),
        "patches": [patch_to_json(patch, names) for patch in trace.patches],
    }


def handover(exact: bool) -> str:
    """The kind of hand-over, as records name it. Records without it are from versions that could
    lose characters when text was handed over."""
    return "ids" if exact else "text"


def warn_of_lost_text(record: Mapping[str, Any], name: str) -> None:
    """Issue a LostTextWarning for a record in which characters may be missing."""
    if record.get("exact") is False and "handover" not in record:
        warnings.warn(
            f"{name} holds answers of an earlier version of taketurns, which lost digits and "
            "punctuation if the candidates' tokenizers differ; if they do in this team, generate "
            "the answers again into another file",
            LostTextWarning,
            stacklevel=2,
        )


def patch_to_json(patch: Patch, names: Sequence[str]) -> Record:
    """A patch as one JSON object; `name` is for the reader. The keys of a guard are left out if
    there is none."""
    record: Record = {
        "name": None if patch.speaker is None else names[patch.speaker],
        "speaker": patch.speaker,
        "text": patch.text,
        "token_ids": list(patch.token_ids),
        "finish": patch.finish,
        "reason": patch.reason,
        "probabilities": None if patch.probabilities is None else list(patch.probabilities),
        "timing": {"decide": patch.timing.decide, "write": patch.timing.write},
    }
    if patch.timing.guard:
        record["timing"]["guard"] = patch.timing.guard
    if patch.withheld:
        record["withheld"] = [
            {
                "name": names[rejected.speaker],
                "speaker": rejected.speaker,
                "tokens": rejected.tokens,
            }
            for rejected in patch.withheld
        ]
    return record


def trace_from_json(record: Mapping[str, Any]) -> Trace:
    """The trace of a record of `trace_to_json`. Raises DataError for anything else."""
    if record.get("schema") != TRACE_SCHEMA:
        raise DataError(f"not a {TRACE_SCHEMA} record: its schema is {record.get('schema')!r}")
    try:
        return Trace(
            query=query_from_json(record["query"]),
            patches=tuple(patch_from_json(patch) for patch in record["patches"]),
            seed=record["seed"],
            exact=record["exact"],
            error=record["error"],
        )
    except (KeyError, TypeError) as error:
        raise DataError(
            f"the trace {record.get('id')!r} is incomplete or damaged: {error!r}"
        ) from error


def patch_from_json(record: Mapping[str, Any]) -> Patch:
    """The patch of a record of `patch_to_json`. Raises KeyError or TypeError for anything else."""
    probabilities = record["probabilities"]
    return Patch(
        speaker=record["speaker"],
        token_ids=tuple(record["token_ids"]),
        text=record["text"],
        finish=record["finish"],
        reason=record["reason"],
        probabilities=None if probabilities is None else tuple(probabilities),
        timing=Timing(**record["timing"]),
        withheld=tuple(
            RejectedPatch(rejected["speaker"], rejected["tokens"])
            for rejected in record.get("withheld", ())
        ),
        name=record.get("name") or "",
    )


def encode_record(record: Mapping[str, Any]) -> bytes:
    """A record as a line of JSON in UTF-8, with its newline. Raises ValueError for NaN, infinity
    and text that UTF-8 cannot encode."""
    return json.dumps(record, ensure_ascii=False, allow_nan=False).encode("utf-8") + b"\n"


def json_safe(record: Mapping[str, Any]) -> Record:
    """The record; if it has NaN or infinity, a copy with null in their places and an `error` that
    names the first of them, so that the rest of the record is kept."""
    replaced: list[str] = []

    def safe(value: Any, path: str) -> Any:
        if isinstance(value, Mapping):
            return {key: safe(inner, f"{path}.{key}") for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [safe(inner, f"{path}[{place}]") for place, inner in enumerate(value)]
        if isinstance(value, float) and not isfinite(value):
            replaced.append(f"{value} in {path.removeprefix('.')}")
            return None
        return value

    clean: Record = safe(record, "")
    if not replaced:
        return dict(record)
    if clean.get("error") is None:
        clean["error"] = f"{replaced[0]} is not a finite number"
    return clean


def decode_records(lines: Iterable[bytes], name: str) -> Iterator[Record]:
    """The records of a file that this package wrote. Raises DataError, which names the line, for a
    line that is not a record."""
    for number, line in enumerate(lines, start=1):
        try:
            record = parse_json(line)
        except ValueError as error:
            raise DataError(f"{name}:{number}: not a record: {error}") from error
        if not isinstance(record, dict):
            raise DataError(f"{name}:{number}: not a record: it must be a JSON object")
        if not isinstance(record.get("id"), str | int | None):
            raise DataError(f"{name}:{number}: not a record: its id must be a string or a number")
        warn_of_lost_text(record, name)
        yield record
