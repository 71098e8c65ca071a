"""An answer in a format is in it whole, whoever writes its patches and in whatever tokens."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taketurns.config.answer_format import read_format
from taketurns.config.policy import Policy
from taketurns.engines.local.engine import LocalEngine
from taketurns.generation.formats.grammar import CompiledFormat, compile_format
from taketurns.generation.formats.limits import FormatLimits
from taketurns.generation.team import Team
from taketurns.switchers.simple import FixedSwitcher, RandomSwitcher
from taketurns.types import Candidate, ModelSpec

TOKENS = 160


@pytest.fixture(scope="module")
def teams(
    make_model: Callable[..., Path], byte_tokenizer: Any, other_tokenizer: Any
) -> Iterator[dict[str, Team]]:
    """Two models that share a vocabulary, and two that do not."""
    specs = {
        "one": ModelSpec(str(make_model(1))),
        "two": ModelSpec(str(make_model(2))),
        "unlike": ModelSpec(str(make_model(3, tokenizer=other_tokenizer))),
    }
    candidates = {name: Candidate(name, spec) for name, spec in specs.items()}
    engine = LocalEngine(specs)
    policy = Policy(max_tokens=TOKENS, patch_size=7, temperature=1.0)
    yield {
        "ids": Team([candidates["one"], candidates["two"]], engine, RandomSwitcher(), policy),
        "text": Team([candidates["one"], candidates["unlike"]], engine, RandomSwitcher(), policy),
    }
    Team([candidates["one"]], engine, RandomSwitcher()).close()


def scalar() -> st.SearchStrategy[dict[str, Any]]:
    """Schemas whose texts are short, so that answers come to their ends."""
    return st.one_of(
        st.just({"type": "null"}),
        st.just({"type": "boolean"}),
        st.builds(
            lambda low, more: {"type": "integer", "minimum": low, "maximum": low + more},
            st.integers(-50, 50),
            st.integers(0, 90),
        ),
        st.builds(
            lambda low, more: {"type": "string", "minLength": low, "maxLength": low + more},
            st.integers(0, 3),
            st.integers(0, 4),
        ),
        st.lists(
            st.one_of(st.text('abé"\\n 1', max_size=5), st.integers(-9, 9), st.none()),
            min_size=1,
            max_size=3,
        ).map(lambda values: {"enum": values}),
        st.sampled_from(["^[a-c]{2,4}$", "^(x|yy)*z$", "^[0-9]{3}-é?$"]).map(
            lambda pattern: {"type": "string", "pattern": pattern}
        ),
        st.sampled_from(["date", "time", "ipv4"]).map(
            lambda name: {"type": "string", "format": name}
        ),
    )


def compound(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    def an_object(properties: dict[str, Any], optional: int) -> dict[str, Any]:
        return {
            "type": "object",
            "properties": properties,
            "required": list(properties)[optional:],
            "additionalProperties": False,
        }

    return st.one_of(
        st.builds(
            an_object,
            st.dictionaries(st.text("abcé", min_size=1, max_size=4), inner, max_size=3),
            st.integers(0, 1),
        ),
        st.builds(
            lambda items, most: {"type": "array", "items": items, "maxItems": most},
            inner,
            st.integers(0, 3),
        ),
        st.lists(inner, min_size=1, max_size=2).map(lambda some: {"anyOf": some}),
    )


SCHEMAS = st.recursive(scalar(), compound, max_leaves=4)


@settings(max_examples=40)
@given(
    schema=SCHEMAS,
    size=st.sampled_from([1, 2, 3, 7, 50]),
    order=st.lists(st.integers(0, 1), min_size=1, max_size=5),
    seed=st.integers(0, 9),
    which=st.sampled_from(["ids", "text"]),
)
def test_an_answer_that_ends_by_itself_is_valid_whoever_writes_it(
    teams: dict[str, Team], schema: Any, size: int, order: Sequence[int], seed: int, which: str
) -> None:
    team = teams[which].switched_by(FixedSwitcher(order))
    policy = replace(team.policy, patch_size=size, format=read_format({"json": schema}))
    trace = team.generate("write", seed=seed, policy=policy)
    assert trace.error is None
    assert trace.exact == (which == "ids")
    if trace.finish == "stop":
        jsonschema.validate(json.loads(trace.text), schema, cls=jsonschema.Draft202012Validator)
    else:
        assert trace.finish == "length"
        assert sum(len(patch.token_ids) for patch in trace.patches) >= TOKENS


def values(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """What is valid by one of `SCHEMAS`, an object's keys in the order in which it names them."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "anyOf" in schema:
        return st.one_of([values(option) for option in schema["anyOf"]])
    if schema["type"] == "array":
        return st.lists(values(schema["items"]), max_size=schema["maxItems"])
    if schema["type"] == "object":
        properties = {key: values(inner) for key, inner in schema["properties"].items()}
        optional = {key for key in properties if key not in schema["required"]}
        return st.tuples(
            st.fixed_dictionaries(properties),
            st.sets(st.sampled_from(sorted(optional))) if optional else st.just(set()),
        ).map(lambda pair: {key: pair[0][key] for key in properties if key not in pair[1]})
    if schema["type"] == "string" and "pattern" in schema:
        return st.from_regex(schema["pattern"].removesuffix("$") + r"\Z")
    if schema["type"] == "string" and "format" in schema:
        examples = {"date": "2026-02-28", "time": "12:30:05Z", "ipv4": "10.0.0.255"}
        return st.just(examples[schema["format"]])
    return {
        "null": st.none,
        "boolean": st.booleans,
        "integer": lambda: st.integers(schema["minimum"], schema["maximum"]),
        "string": lambda: st.text(
            st.characters(codec="utf-8", exclude_categories=["Cc"]),
            min_size=schema["minLength"],
            max_size=schema["maxLength"],
        ),
    }[schema["type"]]()


@settings(max_examples=60)
@given(st.data())
def test_what_is_valid_can_be_written(data: st.DataObject) -> None:
    schema = data.draw(SCHEMAS)
    value = data.draw(values(schema))
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    assert accepts({"json": schema}, text)
    pretty = json.dumps(value, ensure_ascii=False, indent=2)
    assert accepts({"json": schema}, pretty)


def accepts(entry: Any, text: str) -> bool:
    """Is the text in the format, whole?"""
    from taketurns.checkpoints.grammar_vocabulary import byte_vocabulary

    matcher = compiled(entry).start(byte_vocabulary())
    ids = byte_vocabulary().spell(text.encode())
    return matcher.try_consume_tokens(ids) == len(ids) and matcher.is_accepting()


def compiled(entry: Any, limits: FormatLimits | None = None) -> CompiledFormat:
    answer_format = read_format(entry)
    assert answer_format is not None
    return compile_format(answer_format, limits)
