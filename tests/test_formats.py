"""An answer in a format is in it whole, whoever writes its patches and in whatever tokens."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taketurns.checkpoints.text import TextCodec
from taketurns.config.answer_format import format_to_json, read_format
from taketurns.config.loading import load_team_config
from taketurns.config.policy import Guard, PatchRule, Policy
from taketurns.engines.base import TogetherSession
from taketurns.engines.local.engine import LocalEngine
from taketurns.engines.scripted import ScriptedEngine
from taketurns.errors import ConfigError
from taketurns.evaluation.methods.logits import average_logprobs
from taketurns.generation.formats.grammar import CompiledFormat, compile_format
from taketurns.generation.formats.limits import FormatLimits
from taketurns.generation.team import Team
from taketurns.runs.records import query_from_json, query_to_json
from taketurns.switchers.simple import FixedSwitcher, RandomSwitcher
from taketurns.tasks.custom import load_task_file
from taketurns.types import AnswerFormat, Candidate, Completion, ModelSpec, Query, Sampling

from .test_handover import CODECS, NAMES

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


@settings(max_examples=25)
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


@settings(max_examples=40)
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


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        (
            "jsn",
            "a format must have one key, json, regex, choice, grammar or json_object, not 'jsn'",
        ),
        ({"regex": "a", "choice": ["b"]}, "a format must have one key"),
        ({"jsn": {}}, "a format's key is json, .* not 'jsn'"),
        ({"json": False}, "json must be a schema, an object, not False"),
        ({"json": '{"type":'}, "json is not a schema in JSON: Expecting value"),
        ({"json": {"type": float("nan")}}, "json is not a schema that JSON can hold"),
        ({"choice": []}, "choice must be a list of at least one text"),
        ({"choice": ["a", ""]}, "choice must be a list of texts, none empty; '' is not one"),
        ({"regex": ""}, "regex must be some text, not ''"),
        ({"json": {"type": "strng"}}, "json: Invalid type: strng"),
        ({"json": {"not": {}}}, 'json: "not" is not supported: leave it out'),
        (
            {"json": {"properties": {"a": {"properties": {"b": {"uniqueItems": True}}}}}},
            r'json\.properties\.a\.properties\.b: "uniqueItems" is not supported',
        ),
        (
            {
                "json": {
                    "$defs": {"x": {"enum": []}},
                    "properties": {"a": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/x"}]}},
                    "required": ["a"],
                }
            },
            r"json.*: Unsatisfiable schema",
        ),
        ({"json": {"minimum": 5, "maximum": 3, "type": "integer"}}, "minimum .5. is greater"),
        ({"json": {"$ref": "#/$defs/nope"}}, "json: Pointer '/.defs/nope' does not exist"),
        (
            {
                "json": {
                    "$ref": "#/$defs/a",
                    "$defs": {
                        "a": {
                            "type": "object",
                            "properties": {"a": {"$ref": "#/$defs/a"}},
                            "required": ["a"],
                            "additionalProperties": False,
                        }
                    },
                }
            },
            "json: no end was found: does it refer to itself without a way out",
        ),
        ({"regex": "(a"}, "regex: unclosed group"),
        ({"regex": "(?=a)b"}, "regex: look-around"),
        ({"regex": r"[^\s\S]"}, "regex: no text has this format"),
        ({"grammar": "start: nothing"}, 'grammar: .*unknown name: "nothing"'),
        ({"grammar": 'start: "a" start'}, "grammar: (no end was found|what must follow)"),
        ({"grammar": "x"}, "grammar: neither Lark nor GBNF"),
    ],
)
def test_a_format_that_no_answer_can_have_is_refused(entry: Any, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        compiled(entry)


@pytest.mark.parametrize(
    ("limits", "entry", "sentence"),
    [
        (FormatLimits(size=20), {"regex": "a" * 21}, "regex has 21 characters; the most .* are 20"),
        (
            FormatLimits(depth=3),
            {"json": {"items": {"items": {"items": {"type": "null"}}}}},
            "lies more than 3 levels deep",
        ),
        (FormatLimits(symbols=5), {"grammar": 'start: a+\na: "x" | "y" a | "z" a a'}, "grammar: "),
        (FormatLimits(fuel=10), {"regex": "(a|b){1,100}(c|d){1,100}"}, "regex: "),
        (FormatLimits(states=4), {"regex": "[ab]{5}c(d|e){7}"}, "regex: "),
    ],
)
def test_what_a_format_may_cost_is_bounded(limits: FormatLimits, entry: Any, sentence: str) -> None:
    compiled(entry)
    with pytest.raises(ConfigError, match=sentence):
        compiled(entry, limits)


def test_a_search_for_an_end_stops_at_its_limit() -> None:
    far = {"json": {"type": "string", "minLength": 20_000}}
    assert compiled(far, FormatLimits(search_seconds=0.05)).example is None
    assert compiled({"json": {"type": "string", "minLength": 20}}).example is not None


@pytest.mark.parametrize(
    ("entry", "text", "other"),
    [
        ("json_object", '{"a": [1, {"b": null}]}', "[1]"),
        ({"json": True}, "[1]", "[1"),
        ({"json": '{"type": "integer"}'}, "-12", "1.5"),
        ({"regex": r"^\d{3}-[a-z/]+$"}, "123-a/b", "12-a"),
        ({"choice": ["yes", "no", 'say "é"\n', "a.c", "yes"]}, 'say "é"\n', "abc"),
        ({"grammar": 'start: "a" /[0-9]+/'}, "a12", "a"),
        ({"grammar": 'root ::= "a" [0-9]+ ("x" | "y")*'}, "a1xy", "ax"),
    ],
)
def test_each_kind_of_format(entry: Any, text: str, other: str) -> None:
    assert accepts(entry, text)
    assert not accepts(entry, other)


@given(st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=4), st.text(max_size=5))
def test_a_choice_is_one_of_its_texts(choices: list[str], other: str) -> None:
    choices = [text.encode("utf-8", "ignore").decode() or "x" for text in choices]
    assert all(accepts({"choice": choices}, text) for text in choices)
    assert accepts({"choice": choices}, other) == (other in choices)


def test_thousands_of_choices_are_no_trouble() -> None:
    assert accepts({"choice": [f"word{i}" for i in range(3000)]}, "word2999")


def test_a_format_is_written_as_it_was_read() -> None:
    for entry in ({"json": {"type": "null"}}, {"regex": "a"}, {"choice": ["x"]}, {"grammar": "g"}):
        answer_format = read_format(entry)
        assert answer_format is not None
        assert format_to_json(answer_format) == entry
    query = Query("1", text="?", format=AnswerFormat("regex", "a+"))
    assert query_from_json(query_to_json(query)) == query


def test_the_bundled_team_has_no_letters_for_a_schema_and_says_so() -> None:
    schema = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
    with Team.load("pocket", format={"json": schema}) as team:
        with pytest.raises(ConfigError, match=r"cannot write this .* token for 'name\"'"):
            team.generate("what does rebol fonul work as?")
        digits = {"items": {"enum": [1, 2]}, "type": "array", "minItems": 2, "maxItems": 3}
        policy = replace(team.policy, format=read_format({"json": digits}))
        answer = json.loads(team.generate("what does rebol fonul work as?", policy=policy).text)
        assert jsonschema.Draft202012Validator(digits).is_valid(answer)


def test_the_bundled_team_keeps_to_a_choice_of_its_words() -> None:
    with Team.load("pocket") as team:
        plain = team.generate("what does rebol fonul work as?").text
        words = plain.split()
        other = " ".join(reversed(words)) + f" {words[0]}"
        space = " " if plain.startswith(" ") else ""
        policy = replace(team.policy, format=read_format({"choice": [space + other]}))
        assert team.generate("what does rebol fonul work as?", policy=policy).text == space + other


def test_an_engine_that_cannot_keep_to_a_format_is_refused() -> None:
    engine = ScriptedEngine({"a": ["x"], "b": ["y"]})
    policy = Policy(format=AnswerFormat("regex", "x"))
    team = Team([Candidate(n, ModelSpec(n)) for n in "ab"], engine, RandomSwitcher(), policy)
    with pytest.raises(ConfigError, match="a cannot be held to a format where it runs"):
        team.generate("?")


def test_text_that_the_format_does_not_know_is_refused(teams: dict[str, Team]) -> None:
    policy = Policy(closing=0, closing_cue="So", format=AnswerFormat("regex", "x"))
    with pytest.raises(ConfigError, match="closing_cue puts text into the answer"):
        teams["ids"].generate("?", policy=policy)


@pytest.mark.parametrize("which", ["ids", "text"])
@pytest.mark.parametrize(
    "changes",
    [
        {"temperature": 0.0},
        {"patch": PatchRule("sentence", min=1, max=6)},
        {"patch": PatchRule("uncertainty", min=1, max=6, rise=0.01)},
        {"closing": 1, "closing_on_end": True},
        {"guard": Guard(1, patterns=("c",))},
        {"stop": ("zzz",)},
    ],
)
def test_every_way_of_taking_turns_keeps_to_the_format(
    teams: dict[str, Team], which: str, changes: Any
) -> None:
    answer_format = AnswerFormat("regex", "[ab]{3}(c|d)[é.]{4}(fg){2,5}h")
    policy = replace(teams[which].policy, format=answer_format, patch_size=3, **changes)
    traces = teams[which].generate(["one", "two", "three"], policy=policy)
    for trace in traces:
        assert trace.error is None
        if trace.finish == "stop":
            assert re.fullmatch(answer_format.value, trace.text)
    assert any(trace.finish == "stop" for trace in traces)


@pytest.mark.parametrize("which", ["ids", "text"])
def test_forks_and_earlier_states_stand_in_the_format_where_they_are(
    teams: dict[str, Team], which: str
) -> None:
    team = teams[which]
    answer_format = AnswerFormat("regex", "[a-c]{20}é{3}!")

    async def fork() -> list[str]:
        policy = replace(team.policy, format=answer_format, patch_size=4)
        state = await team.draft(Query("0", text="?"), policy)
        async with team.answer(state, 0, policy) as answer:
            await answer.step()
            before = answer.state.copy()
            await answer.step()
            texts = []
            for start in (None, before):
                async with answer.fork(1, start) as fork:
                    await fork.write()
                    texts.append(fork.text)
            await answer.write()
            return [*texts, answer.text]

    texts = asyncio.run(fork())
    assert all(re.fullmatch(answer_format.value, text) for text in texts)
    assert texts[0][:8] == texts[2][:8]
    assert texts[1][:4] == texts[2][:4]


def test_models_that_write_together_keep_to_the_format(teams: dict[str, Team]) -> None:
    team = teams["ids"]
    answer_format = AnswerFormat("regex", "[ab]{12}c")

    async def together() -> Completion:
        policy = replace(team.policy, format=answer_format)
        state = await team.draft(Query("0", text="?"), policy)
        sampling = Sampling(40, constraint=state.constraint(0))
        async with team.engine.session(0) as session:
            assert isinstance(session, TogetherSession)
            prompts = [state.prompt(0), state.prompt(1)]
            return await session.generate_together(
                ["one", "two"], prompts, sampling, average_logprobs
            )

    written = asyncio.run(together())
    info = asyncio.run(team.engine.info("one"))
    assert written.finish == "stop"
    assert re.fullmatch(answer_format.value, info.codec.decode(written.token_ids))


def test_an_answer_is_the_same_alone_and_beside_others(teams: dict[str, Team]) -> None:
    team = teams["text"]
    policies = [
        replace(team.policy, format=AnswerFormat("regex", pattern), patch_size=3)
        for pattern in ("[ab]{9}", "(xy|z){5,9}", "[0-9]{2,30}")
    ]

    async def several() -> list[str]:
        traces = await asyncio.gather(
            *(team.agenerate("?", policy=policy) for policy in policies), team.agenerate("?")
        )
        return [trace.text for trace in traces]

    alone = [team.generate("?", policy=policy).text for policy in [*policies, team.policy]]
    assert asyncio.run(several()) == alone


def test_a_speaker_without_the_next_token_leaves_it_to_another(
    make_model: Callable[..., Path], spacing_tokenizer: Any
) -> None:
    """Letters are all that one of them has; what it cannot write the other writes."""
    specs = {
        "letters": ModelSpec(str(make_model(1, tokenizer=spacing_tokenizer))),
        "bytes": ModelSpec(str(make_model(2))),
    }
    candidates = [Candidate(name, spec) for name, spec in specs.items()]
    answer_format = AnswerFormat("regex", "(ab){4}([0-9]{3}|c)(de){6}")
    policy = Policy(max_tokens=80, patch_size=3, format=answer_format, temperature=2.0)
    with Team(candidates, LocalEngine(specs), FixedSwitcher([1, 0]), policy) as team:
        traces = team.generate([f"{i}?" for i in range(12)])
    assert all(re.fullmatch(answer_format.value, trace.text) for trace in traces)
    assert {patch.speaker for trace in traces for patch in trace.patches} == {0, 1}
    digits = [trace for trace in traces if re.search("[0-9]", trace.text)]
    assert digits, "no answer went where one of them cannot follow"


@pytest.mark.parametrize("codec", CODECS, ids=NAMES)
@given(text=st.text("abc the é\U0001f600\n?1", max_size=12))
def test_the_bytes_of_tokens_make_the_text(codec: TextCodec, text: str) -> None:
    ids = codec.encode(text)
    shown = codec.decode([*codec.encode("?"), *codec.encode_after(text)])
    if shown == codec.decode(codec.encode("?")) + text:
        tokens = codec.grammar_vocabulary.tokens
        assert b"".join(tokens[i] for i in codec.encode_after(text)).decode() == text
    assert all(codec.grammar_vocabulary.tokens[i] for i in ids if i in codec.ordinary_ids)
    assert not any(
        codec.grammar_vocabulary.tokens[i] for i in range(codec.size) if i not in codec.ordinary_ids
    )


def test_a_team_file_and_a_task_have_formats(
    tmp_path: Path, make_model: Callable[..., Path]
) -> None:
    (tmp_path / "team.yaml").write_text(
        f"candidates:\n- {{name: one, model: {make_model(1)}}}\n"
        f"- {{name: two, model: {make_model(2)}}}\n"
        "policy: {max_tokens: 40, patch_size: 3, format: {regex: '[ab]{5}c'}}\n"
    )
    (tmp_path / "data.jsonl").write_text('{"id": 1, "text": "?", "reference": "yes"}\n')
    (tmp_path / "task.yaml").write_text(
        "name: t\ndata: data.jsonl\nscorer: alias\nformat: {choice: ['yes', 'no']}\n"
    )
    task = load_task_file(tmp_path / "task.yaml")
    with Team.load(tmp_path) as team:
        assert re.fullmatch("[ab]{5}c", team.generate("?").text)
        assert team.generate(task.queries("test")[0]).text in ("yes", "no")
    with pytest.raises(ConfigError, match=r"team\.yaml: a format must have one key"):
        load_team_config(tmp_path, {"policy.format": "xml"})
    (tmp_path / "task.yaml").write_text(
        "name: t\ndata: data.jsonl\nscorer: alias\nformat: {chioce: ['yes', 'no']}\n"
    )
    with pytest.raises(ConfigError, match=r"task\.yaml: format: a format's key is json"):
        load_task_file(tmp_path / "task.yaml")


def test_generate_takes_a_schema(
    tmp_path: Path,
    make_model: Callable[..., Path],
    invoke: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "team.yaml").write_text(
        f"candidates:\n- {{name: one, model: {make_model(1)}}}\n"
        f"- {{name: two, model: {make_model(2)}}}\npolicy: {{max_tokens: 60, patch_size: 3}}\n"
    )
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 9}},
        "required": ["n"],
        "additionalProperties": False,
    }
    (tmp_path / "schema.json").write_text(json.dumps(schema))
    (tmp_path / "in.jsonl").write_text(
        '{"text": "?"}\n{"text": "!", "answer_format": {"choice": ["x"]}}\n'
    )
    monkeypatch.chdir(tmp_path)
    command = ("generate", "--team", "team.yaml", "--input", "in.jsonl", "--schema", "schema.json")
    code, out, err = invoke(*command, "--output", "-")
    assert code == 0, err
    texts = {
        record["query"]["id"]: "".join(patch["text"] for patch in record["patches"])
        for record in map(json.loads, out.splitlines())
    }
    assert texts["2"] == "x"
    assert jsonschema.Draft202012Validator(schema).is_valid(json.loads(texts["1"]))
