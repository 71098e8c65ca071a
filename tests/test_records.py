import contextlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taketurns.errors import DataError, LostTextWarning
from taketurns.runs.records import (
    InvalidLine,
    decode_records,
    encode_record,
    query_from_json,
    query_to_json,
    read_queries,
    trace_from_json,
    trace_to_json,
)
from taketurns.types import Message, Patch, Query, Timing, Trace

NAMES = ["pretrained", "sft", "aligned"]

texts = st.text(st.characters(exclude_categories=["Cs"]))
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | texts
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
messages = st.builds(Message, st.sampled_from(["system", "user", "assistant"]), texts)
metadata = st.dictionaries(texts, json_values, max_size=3)
names = texts.filter(bool)
queries = st.builds(
    Query, id=names, text=texts, reference=json_values, metadata=metadata
) | st.builds(
    Query,
    id=names,
    messages=st.lists(messages, min_size=1, max_size=4).map(tuple),
    reference=json_values,
    metadata=metadata,
)
seconds = st.floats(0, 1e6)
patches = st.builds(
    Patch,
    speaker=st.none() | st.integers(0, 2),
    token_ids=st.lists(st.integers(0, 200_000), max_size=5).map(tuple),
    text=texts,
    finish=st.sampled_from(["length", "stop", "context"]),
    reason=st.sampled_from(["chosen", "opening", "closing", "fallback", "forced"]),
    probabilities=st.none() | st.lists(st.floats(0, 1), min_size=3, max_size=3).map(tuple),
    timing=st.builds(Timing, seconds, seconds),
)
traces = st.builds(
    Trace,
    query=queries,
    patches=st.lists(patches, max_size=4).map(tuple),
    seed=st.integers(0, 2**63),
    exact=st.booleans(),
    error=st.none() | texts,
)


@given(queries)
def test_a_query_is_read_as_it_was_written(query: Query) -> None:
    assert query_from_json(json.loads(encode_record(query_to_json(query)))) == query


@given(traces)
def test_a_trace_is_read_as_it_was_written(trace: Trace) -> None:
    line = encode_record(trace_to_json(trace, NAMES))
    assert line.count(b"\n") == 1
    record = json.loads(line)
    assert trace_from_json(record) == trace
    assert record["text"] == "".join(patch["text"] for patch in record["patches"])


def test_a_record_says_who_wrote_what() -> None:
    patch = Patch(2, (1, 2), " 4.", "stop", "chosen", (0.1, 0.2, 0.7), Timing(0.5, 1.0))
    forced = Patch(None, (3,), "So:", "length", "forced")
    trace = Trace(Query("q", text="2 + 2"), (forced, patch), seed=7)
    assert trace_to_json(trace, NAMES) == {
        "schema": "taketurns.trace/1",
        "id": "q",
        "text": "So: 4.",
        "finish": "stop",
        "tokens": 3,
        "error": None,
        "seed": 7,
        "exact": True,
        "handover": "ids",
        "query": {"id": "q", "text": "2 + 2"},
        "patches": [
            {
                "name": None,
                "speaker": None,
                "text": "So:",
                "token_ids": [3],
                "finish": "length",
                "reason": "forced",
                "probabilities": None,
                "timing": {"decide": 0.0, "write": 0.0},
            },
            {
                "name": "aligned",
                "speaker": 2,
                "text": " 4.",
                "token_ids": [1, 2],
                "finish": "stop",
                "reason": "chosen",
                "probabilities": [0.1, 0.2, 0.7],
                "timing": {"decide": 0.5, "write": 1.0},
            },
        ],
    }


@pytest.mark.parametrize(
    "record", [{}, {"schema": "taketurns.trace/2"}, {"schema": "taketurns.trace/1"}]
)
def test_another_schema_is_refused(record: dict) -> None:
    with pytest.raises(DataError):
        trace_from_json(record)


def test_prompts_in_every_form() -> None:
    data = (
        b'\xef\xbb\xbf{"id": "a", "text": "hi"}\r\n'
        b"\n"
        b'{"id": 7, "messages": [{"role": "user", "content": "hi"}], "level": 3}\n'
        b'{"id": "c", "text": "x", "reference": [1], "metadata": {"task": "t"}}'
    )
    first, second, third = read_queries(data, "prompts")
    assert first == Query("a", text="hi")
    assert second == Query("7", messages=(Message("user", "hi"),), metadata={"level": 3})
    assert third == Query("c", text="x", reference=[1], metadata={"task": "t"})


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"\xff\xfe", "not UTF-8"),
        (b'{"id": "a"', "not JSON: "),
        (b'{"id": "a", "text": NaN}', "not JSON: NaN is not a number"),
        (b'{"id": "a", "text": "x", "score": -1e999}', "the number -1e999 is too large"),
        (b'{"id": "a", "text": "\\ud800"}', "half of a surrogate pair"),
        (b"[" * 100_000, "nested too deeply"),
        (b'["a"]', "not an object"),
        (b'{"id": [1], "text": "hi"}', '"id" must be a non-empty string'),
        (b'{"id": "", "text": "hi"}', '"id" must be a non-empty string'),
        (b'{"id": true, "text": "hi"}', '"id" must be a non-empty string'),
        (b'{"id": "a"}', 'either "text" or "messages"'),
        (b'{"id": "a", "text": "b", "messages": []}', 'either "text" or "messages"'),
        (b'{"id": "a", "text": 3}', '"text" must be a string'),
        (b'{"id": "a", "text": "b", "metadata": 3}', '"metadata" must be an object'),
        (b'{"id": "a", "messages": []}', "at least one message"),
        (b'{"id": "a", "messages": [{"role": "user"}]}', 'needs "role" and "content"'),
        (b'{"id": "a", "messages": [{"role": "me", "content": ""}]}', "a role is one of"),
        (b'{"id": "a", "messages": [{"role": "user", "content": 1}]}', "must be a string"),
        (b'{"id": "a", "messages": [{"role": "assistant", "content": ""}]}', "must be the user's"),
    ],
)
def test_a_bad_line_is_reported_and_the_others_are_read(line: bytes, reason: str) -> None:
    data = b'{"id": "1", "text": "x"}\n' + line + b'\n{"id": "2", "text": "y"}\n'
    first, bad, second = read_queries(data, "prompts")
    assert isinstance(first, Query)
    assert isinstance(second, Query)
    assert isinstance(bad, InvalidLine)
    assert bad.line == 2
    assert reason in bad.reason


def test_an_id_that_occurs_twice_names_both_lines() -> None:
    data = b'{"id": "1", "text": "x"}\n{"id": 1, "text": "y"}\n'
    with pytest.raises(DataError, match="p:2: the id '1' was already used in line 1"):
        list(read_queries(data, "p"))


@pytest.mark.parametrize("data", [b"", b"\n\n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_refused(data: bytes) -> None:
    with pytest.raises(DataError, match="p is empty"):
        list(read_queries(data, "p"))


@given(st.binary())
def test_no_input_makes_the_reader_crash(data: bytes) -> None:
    with contextlib.suppress(DataError):
        list(read_queries(data, "p"))


def test_lines_that_are_no_records() -> None:
    assert list(decode_records([b'{"id": 1}\n'], "f")) == [{"id": 1}]
    for line in (b"[]\n", b'{"id": [1]}\n'):
        with pytest.raises(DataError, match="f:1"):
            list(decode_records([line], "f"))
    with pytest.raises(DataError, match="f:2"):
        list(decode_records([b"{}\n", b"{\n"], "f"))


def test_answers_that_may_lack_characters_are_named_when_they_are_read_again() -> None:
    """Versions that did not write how patches were handed over could lose digits and commas where
    it was as text."""
    patch = Patch(0, (1,), "7 clips", "stop", "chosen")
    made = trace_to_json(Trace(Query("q", text="?"), (patch,), 1, exact=False), NAMES)
    old = {key: value for key, value in made.items() if key != "handover"}
    assert list(
        decode_records([encode_record(made), encode_record(old | {"exact": True})], "new.jsonl")
    )
    with pytest.warns(LostTextWarning, match=r"old\.jsonl holds answers of an earlier version"):
        assert list(decode_records([encode_record(made), encode_record(old)], "old.jsonl")) == [
            made,
            old,
        ]


def test_the_command_line_says_it_in_one_sentence(
    invoke: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    patch = Patch(0, (1,), "7 clips", "stop", "chosen")
    made = trace_to_json(Trace(Query("q", text="?"), (patch,), 1, exact=False), NAMES)
    old = {key: value for key, value in made.items() if key != "handover"}
    lines = [encode_record(old | {"score": 1.0, "task": "t", "id": f"q{i}#0"}) for i in range(3)]
    (tmp_path / "old.jsonl").write_bytes(b"".join(lines))
    _, _, said = invoke("analyze", "--run", tmp_path / "old.jsonl", "--out", tmp_path / "out")
    told = [line for line in said.splitlines() if "earlier version of taketurns" in line]
    assert len(told) == 1
    assert told[0].startswith(f"taketurns: {tmp_path / 'old.jsonl'} holds answers")
