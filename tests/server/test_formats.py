"""Structured output as stock clients ask for it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import openai
import pytest
from pydantic import BaseModel

from taketurns import Candidate, ModelSpec, Policy, Team
from taketurns.engines.local.engine import LocalEngine
from taketurns.switchers.simple import RandomSwitcher

from .conftest import Running, running

ASK: Any = [{"role": "user", "content": "?"}]


class City(BaseModel):
    """A record of the kind that people ask for."""

    kind: Literal["town", "port"]
    old: bool
    people: int


SCHEMA = City.model_json_schema()
SCHEMA["properties"]["people"] |= {"minimum": 0, "maximum": 99}
SCHEMA["additionalProperties"] = False


@pytest.fixture(scope="module")
def served(make_model: Callable[..., Path], other_tokenizer: Any) -> Iterator[Running]:
    """Two models that share no vocabulary."""
    specs = {
        "one": ModelSpec(str(make_model(1)), prompt="{text}"),
        "two": ModelSpec(str(make_model(2, tokenizer=other_tokenizer)), prompt="{text}"),
    }
    policy = Policy(max_tokens=200, patch_size=5, temperature=1.0)
    candidates = [Candidate(name, spec) for name, spec in specs.items()]
    with running(Team(candidates, LocalEngine(specs), RandomSwitcher(), policy)) as server:
        yield server


@pytest.mark.parametrize(
    "fields",
    [
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "city", "strict": True, "schema": SCHEMA},
            }
        },
        {"response_format": {"type": "json_object", "schema": SCHEMA}},
        {"response_format": {"type": "json_object", "value": SCHEMA}},
        {"extra_body": {"structured_outputs": {"json": SCHEMA}}},
        {"extra_body": {"structured_outputs": {"json": json.dumps(SCHEMA)}}},
        {"extra_body": {"guided_json": SCHEMA, "guided_decoding_backend": "xgrammar"}},
    ],
)
def test_a_schema_is_kept_to(served: Running, fields: Any) -> None:
    client = served.client()
    asked: dict[str, Any] = {"model": "team", "messages": ASK, "seed": 1, **fields}
    choice = client.chat.completions.create(**asked).choices[0]
    assert choice.finish_reason == "stop"
    assert City.model_validate_json(choice.message.content or "")
    stream = client.chat.completions.create(**asked, stream=True)
    pieces = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
    assert "".join(pieces) == choice.message.content
    speakers = {patch["speaker"] for patch in choice.taketurns["patches"]}  # type: ignore[attr-defined]
    assert speakers == {0, 1}


def test_parse_gives_an_object(served: Running) -> None:
    reply = served.client().chat.completions.parse(
        model="team", messages=ASK, seed=2, response_format=Flag
    )
    assert isinstance(reply.choices[0].message.parsed, Flag)


class Flag(BaseModel):
    """One that a small model comes to the end of."""

    on: bool


@pytest.mark.parametrize(
    ("fields", "pattern"),
    [
        ({"structured_outputs": {"regex": "[ab]{4}-[0-9]{2}"}}, "[ab]{4}-[0-9]{2}"),
        ({"structured_outputs": {"choice": ["yes", "no"]}}, "yes|no"),
        ({"structured_outputs": {"grammar": 'root ::= "a" [0-9] [0-9] "b"'}}, "a[0-9][0-9]b"),
        ({"guided_regex": "x{3}"}, "xxx"),
        ({"guided_choice": ["left", "right"]}, "left|right"),
        ({"guided_grammar": 'start: "a" /[0-9]{3}/'}, "a[0-9]{3}"),
        ({"response_format": {"type": "text"}, "guided_choice": ["z"]}, "z"),
    ],
)
@pytest.mark.parametrize("path", ["chat/completions", "completions"])
def test_vllms_names(served: Running, path: str, fields: Any, pattern: str) -> None:
    asked = {"prompt": "?"} if path == "completions" else {"messages": ASK}
    with served.http() as http:
        choice = http.post(f"/v1/{path}", json={**asked, **fields, "seed": 3}).json()["choices"][0]
    text = choice["text"] if path == "completions" else choice["message"]["content"]
    assert re.fullmatch(pattern, text)
    assert choice["finish_reason"] == "stop"


def test_an_answer_that_its_budget_cuts_says_length(served: Running) -> None:
    reply = served.client().chat.completions.create(
        model="team", messages=ASK, max_tokens=3, extra_body={"guided_regex": "a{50}"}
    )
    assert reply.choices[0].finish_reason == "length"
    assert reply.choices[0].message.content == "aaa"


@pytest.mark.parametrize(
    "fields",
    [
        {"response_format": None, "structured_outputs": None, "guided_json": None},
        {"structured_outputs": {}},
        {"structured_outputs": {"json": None, "disable_any_whitespace": False}},
        {"guided_json_object": False},
        {"response_format": {"type": "text"}},
    ],
)
@pytest.mark.parametrize("path", ["chat/completions", "completions"])
def test_values_that_ask_for_nothing_are_taken(served: Running, path: str, fields: Any) -> None:
    asked = {"prompt": "?"} if path == "completions" else {"messages": ASK}
    with served.http() as http:
        plain = http.post(f"/v1/{path}", json={**asked, "seed": 3, "max_tokens": 9})
        reply = http.post(f"/v1/{path}", json={**asked, **fields, "seed": 3, "max_tokens": 9})
    first, second = (answer.json()["choices"][0] for answer in (plain, reply))
    assert first.get("text") == second.get("text")
    assert first.get("message") == second.get("message")


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        (
            {"structured_outputs": {"json": {"properties": {"a": {"uniqueItems": True}}}}},
            "structured_outputs.json",
            'json.properties.a: "uniqueItems" is not supported',
        ),
        ({"guided_regex": "(a"}, "guided_regex", "unclosed group"),
        ({"guided_choice": []}, "guided_choice", "a list of at least one text"),
        ({"guided_grammar": 'start: "a" start'}, "guided_grammar", "no end|too long"),
        ({"response_format": {"type": "json_schema"}}, "response_format", "schema is required"),
        ({"response_format": {"type": "xml"}}, "response_format.type", "should be 'text'"),
        (
            {"guided_regex": "a", "structured_outputs": {"choice": ["a"]}},
            "structured_outputs.choice",
            "guided_regex and structured_outputs.choice ask for one each",
        ),
        (
            {"structured_outputs": {"structural_tag": "{}"}},
            "structured_outputs.structural_tag",
            "not supported",
        ),
        (
            {"structured_outputs": {"regex": "a" * 200_000}},
            "structured_outputs.regex",
            "at most|most",
        ),
        (
            {"structured_outputs": {"json": json.loads('{"items":' * 99 + "{}" + "}" * 99)}},
            "structured_outputs.json",
            "levels deep",
        ),
    ],
)
def test_a_format_that_is_wrong_is_refused_with_its_path(
    served: Running, fields: Any, param: str, words: str
) -> None:
    with served.http() as http:
        reply = http.post("/v1/chat/completions", json={"messages": ASK, **fields})
    error = reply.json()["error"]
    assert reply.status_code == 400
    assert error["param"] == param
    assert re.search(words, error["message"])


def test_the_bundled_team_says_what_it_cannot_spell(pocket: Running) -> None:
    with pytest.raises(openai.BadRequestError, match="no token for 'kind\"'"):
        pocket.client().chat.completions.create(
            model="team",
            messages=ASK,
            response_format={"type": "json_schema", "json_schema": {"name": "c", "schema": SCHEMA}},
        )
