"""What the fields of a request do to its answer, over a real socket with real models."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import openai
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from taketurns import Candidate, ModelSpec, Policy, Team
from taketurns.checkpoints import chat_templates
from taketurns.config.loading import load_team_config
from taketurns.engines.base import ALL_OPTIONS
from taketurns.engines.local.engine import LocalEngine
from taketurns.engines.scripted import ScriptedEngine, scripted_codec
from taketurns.switchers.simple import FixedSwitcher
from taketurns.types import SamplingOptions

from .conftest import QUESTION, Running, Start, forever, scripted

SUM = "what is 27 + 48?"  # its answer says numbers more than once
CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"


@pytest.fixture(scope="module")
def offline() -> Iterator[Team]:
    with Team.load("pocket") as team:
        yield team


@pytest.fixture(scope="module")
def http(pocket: Running) -> Iterator[httpx.Client]:
    with pocket.http() as client:
        yield client


def chat(http: httpx.Client, **more: Any) -> dict[str, Any]:
    asked = {"messages": [{"role": "user", "content": QUESTION}], "seed": 1, "max_tokens": 48}
    reply = http.post(CHAT, json=asked | more)
    assert reply.status_code == 200, reply.text
    return reply.json()["choices"][0]


def complete(http: httpx.Client, **more: Any) -> dict[str, Any]:
    asked = {"prompt": f"question: {QUESTION} answer:", "seed": 1, "max_tokens": 24}
    reply = http.post(TEXT, json=asked | more)
    assert reply.status_code == 200, reply.text
    return reply.json()["choices"][0]


def events(http: httpx.Client, path: str, **asked: Any) -> list[dict[str, Any]]:
    lines = http.post(path, json={"stream": True, **asked}).text.split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]


FIELDS: dict[str, Any] = {
    "top_k": 1,
    "min_p": 0.3,
    "presence_penalty": 1.5,
    "frequency_penalty": 1.5,
    "repetition_penalty": 1.7,
    "min_tokens": 20,
}


@pytest.mark.parametrize(
    ("model", "name"),
    [
        *(("team", name) for name in FIELDS),
        *(
            pytest.param("sft", name, marks=() if name == "min_p" else pytest.mark.slow)
            for name in FIELDS
        ),
    ],
)
def test_a_field_is_the_option_of_the_policy(
    http: httpx.Client, offline: Team, model: str, name: str
) -> None:
    team = offline if model == "team" else offline.alone(model)
    turns = [{"role": "user", "content": SUM}]
    asked = {"messages": turns, "model": model, "max_tokens": 24, "temperature": 1.9, "top_p": 1}
    policy = Policy(
        patch_size=16,
        max_tokens=24,
        temperature=1.9,
        speaker_top_p=1.0,
        sampling=SamplingOptions(**{name: FIELDS[name]}),
    )
    told, expected, plain = [], [], []
    for seed in (2, 5):  # of the answers without the field one is long, and one ends early
        answer = chat(http, seed=seed, **asked, **{name: FIELDS[name]})
        told.append(answer["message"]["content"])
        expected.append(team.generate(SUM, seed=seed, policy=policy).text)
        plain.append(chat(http, seed=seed, **asked)["message"]["content"])
    assert told == expected
    assert told != plain


def test_a_field_takes_the_place_of_the_team_s_own_option(start: Start) -> None:
    """As temperature does, a value that asks for nothing too; null keeps the team's."""
    codec = scripted_codec()
    end = codec.tokenizer.eos_token_id
    said = [*codec.encode("ab"), end, *codec.encode("cdef")]
    policy = Policy(patch_size=9, max_tokens=20, sampling=SamplingOptions(min_tokens=3))
    team = scripted({"a": lambda prompt, sampling: said, "b": []}, FixedSwitcher([0]), policy)
    with start(team).http() as http:
        assert chat(http)["message"]["content"].startswith("abc")
        assert chat(http, min_tokens=None)["message"]["content"].startswith("abc")
        assert chat(http, min_tokens=0)["message"]["content"] == "ab"
        assert chat(http, ignore_eos=True, max_tokens=5)["message"]["content"] == "abcde"
        stop = codec.encode("d")
        assert chat(http, stop_token_ids=stop)["message"]["content"] == "abc"
        shown = http.get("/v1/models").json()["data"][0]["taketurns"]["policy"]
        assert shown["sampling"] == {"min_tokens": 3}


def test_a_stop_string_waits_for_min_tokens(start: Start) -> None:
    for patch_size in (1, 3, 9):
        policy = Policy(patch_size=patch_size, max_tokens=20)
        team = scripted({"a": forever("a"), "b": []}, FixedSwitcher([0]), policy)
        with start(team).http() as http:
            assert chat(http, stop=["aaa"])["message"]["content"] == ""
            # As in vLLM: a stop string is one if it ends after the fifth token.
            assert chat(http, stop=["aaa"], min_tokens=5)["message"]["content"] == "aaa"
            streamed = events(
                http, CHAT, messages=[{"role": "user", "content": "?"}], stop=["aaa"], min_tokens=5
            )
            pieces = [chunk["choices"][0]["delta"].get("content", "") for chunk in streamed]
            assert "".join(pieces) == "aaa"


def test_a_bias_is_by_token_id(http: httpx.Client) -> None:
    tokens = http.post("/tokenize", json={"prompt": " zodin", "add_special_tokens": False}).json()
    (token,) = tokens["tokens"]
    for model in ("team", "aligned"):
        told = chat(http, model=model, max_tokens=3, logit_bias={str(token): 100})
        assert told["message"]["content"].split() == ["zodin"] * 3
        counted = chat(
            http, model=model, logit_bias={str(token): 50}, frequency_penalty=2, temperature=0
        )
        assert 1 < counted["message"]["content"].split().count("zodin") <= 48


def test_penalties_count_the_whole_answer_whoever_wrote_it(http: httpx.Client) -> None:
    """Fault: a new patch began to count anew."""
    asked = {"temperature": 0, "presence_penalty": 2, "max_tokens": 40, "min_tokens": 40}
    sizes = {
        size: chat(http, model="sft", taketurns={"patch_size": size}, **asked)["message"]["content"]
        for size in (3, 7, 40)
    }
    assert len(set(sizes.values())) == 1
    turns = {"patch_size": 5, "switcher": ["sft", "aligned", "pretrained"]}
    bias = {"logit_bias": {"333": 30}, "return_token_ids": True}
    written = chat(http, taketurns=turns, frequency_penalty=2, temperature=0, **bias)
    counts = Counter(written["token_ids"])
    # Each time its logit is two lower: after some fifteen it is no longer the most probable.
    assert 10 < counts[333] < 20


UNLIKE = Policy(patch_size=3, max_tokens=24, temperature=0.0)


@pytest.fixture
def unlike(start: Start, make_model: Any, other_tokenizer: Any) -> Running:
    models = {"one": make_model(0), "other": make_model(1, tokenizer=other_tokenizer)}
    specs = {name: ModelSpec(str(path), prompt="{text}") for name, path in models.items()}
    candidates = [Candidate(name, spec) for name, spec in specs.items()]
    return start(Team(candidates, LocalEngine(specs), FixedSwitcher([0, 1]), UNLIKE))


def test_unlike_tokenizers_take_no_ids_and_count_by_text(unlike: Running) -> None:
    with unlike.http() as http:
        for name, value in (("logit_bias", {"70": 5}), ("stop_token_ids", [70])):
            asked = {"messages": [{"role": "user", "content": "the"}], name: value}
            reply = http.post(CHAT, json=asked)
            assert reply.status_code == 400
            error = reply.json()["error"]
            assert error["param"] == name
            assert "the candidates' tokenizers differ" in error["message"]
            assert http.post(CHAT, json={"model": "one", **asked}).status_code == 200
        plain, penalised = (
            http.post(CHAT, json={"messages": [{"role": "user", "content": "the"}], **more}).json()
            for more in ({}, {"presence_penalty": 2, "frequency_penalty": 2})
        )
        assert plain["choices"][0]["message"] != penalised["choices"][0]["message"]


async def test_what_a_speaker_counts_is_the_answer_s_part_of_its_own_prompt(
    make_model: Any, other_tokenizer: Any
) -> None:
    seen: list[tuple[str, list[int], int | None]] = []
    models = {"one": make_model(0), "other": make_model(1, tokenizer=other_tokenizer)}
    specs = {name: ModelSpec(str(path), prompt="Q: {text}\nA:") for name, path in models.items()}
    candidates = [Candidate(name, spec) for name, spec in specs.items()]
    engine = LocalEngine(specs)
    policy = Policy(patch_size=3, max_tokens=12, sampling=SamplingOptions(frequency_penalty=1.0))
    team = Team(candidates, engine, FixedSwitcher([0, 1]), policy)
    opened = engine.session

    def watched(*arguments: Any) -> Any:
        return opened(*arguments)

    engine.session = watched  # type: ignore[method-assign]
    from taketurns.engines.local.engine import LocalSession

    write = LocalSession.generate

    async def generate(self: Any, model: str, prompt: Any, sampling: Any, *more: Any) -> Any:
        seen.append((model, list(prompt), sampling.answer_start))
        return await write(self, model, prompt, sampling, *more)

    LocalSession.generate = generate  # type: ignore[method-assign]
    try:
        await team.agenerate("the")
    finally:
        LocalSession.generate = write  # type: ignore[method-assign]
    codecs = {name: (await engine.info(name)).codec for name in specs}
    await engine.close()
    assert {model for model, _, _ in seen} == {"one", "other"}
    for model, prompt, begins in seen:
        assert begins is not None
        before = codecs[model].decode(prompt[:begins])
        assert "Q: the\nA:".startswith(before)  # less a token that both are part of
        assert len(before) > len("Q: the")


# The prompt before its answer


@pytest.fixture(scope="module")
def sft() -> tuple[Any, Any]:
    spec = next(c.spec for c in load_team_config("pocket").candidates if c.name == "sft")
    return AutoModelForCausalLM.from_pretrained(spec.model), AutoTokenizer.from_pretrained(
        spec.model
    )


def test_the_prompt_s_tokens_have_their_log_probabilities(
    http: httpx.Client, sft: tuple[Any, Any]
) -> None:
    model, tokenizer = sft
    prompt = f"question: {QUESTION} answer:"
    ids = tokenizer(prompt)["input_ids"]
    with torch.inference_mode():
        logprobs = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    for sent in (prompt, ids):
        for more in (0, 1):
            asked = {"model": "sft", "prompt": sent, "max_tokens": more, "temperature": 0}
            told = complete(http, **asked, echo=True, logprobs=2)
            found = told["logprobs"]
            assert len(found["tokens"]) == len(ids) + more
            assert found["token_logprobs"][0] is None
            assert found["top_logprobs"][0] is None
            for place in range(1, len(ids)):
                expected = float(logprobs[place - 1, ids[place]])
                assert found["token_logprobs"][place] == pytest.approx(expected, abs=1e-4)
                best = float(logprobs[place - 1].max())
                assert max(found["top_logprobs"][place].values()) == pytest.approx(best, abs=1e-4)
                assert found["tokens"][place] in found["top_logprobs"][place]
            assert told["text"].strip().startswith(prompt)
            assert told["finish_reason"] == "length"
            patches = told["taketurns"]["patches"]
            assert sum(patch["tokens"] for patch in patches) == more
            offsets = found["text_offset"]
            assert offsets == sorted(offsets)


def test_a_stream_echoes_the_same(http: httpx.Client) -> None:
    asked = {"model": "sft", "echo": True, "logprobs": 1, "temperature": 0, "max_tokens": 40}
    prompt = f"question: {QUESTION} answer:"
    for more in (0, 40):
        whole = complete(http, prompt=prompt, **asked | {"max_tokens": more})
        chunks = events(http, TEXT, prompt=prompt, seed=1, **asked | {"max_tokens": more})
        told = [chunk["choices"][0] for chunk in chunks]
        assert "".join(choice["text"] for choice in told) == whole["text"]
        for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
            parts = [choice["logprobs"][name] for choice in told if choice["logprobs"]]
            assert [value for part in parts for value in part] == whole["logprobs"][name]
    # The token that ends the answer has its log-probability too, or sums would lack it.
    assert whole["finish_reason"] == "stop"
    assert whole["logprobs"]["tokens"][-1] == "<eos>"
    assert whole["logprobs"]["token_logprobs"][-1] < 0


def test_text_is_echoed_by_any_team(http: httpx.Client) -> None:
    prompt = f"question: {QUESTION} answer:"
    plain, echoed = (complete(http, prompt=prompt, echo=echo) for echo in (False, True))
    assert echoed["text"] == prompt + plain["text"]
    assert echoed["taketurns"]["patches"][0]["span"][0] == 0  # places are the answer's
    alone = complete(http, prompt=[prompt, "so"], echo=True, max_tokens=0)
    assert alone["text"] == prompt
    begun = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": "rebol"}]
    assert chat(http, messages=begun, echo=True)["message"]["content"].startswith("rebol")
    asked = {"prompt": prompt, "echo": True, "logprobs": 1}
    error = http.post(TEXT, json=asked).json()["error"]
    assert error["param"] == "echo"
    assert "name one of pretrained, sft, aligned as the model" in error["message"]


def test_what_cannot_score_a_prompt_says_so(start: Start) -> None:
    with start(scripted({"a": forever("a"), "b": forever("b")})).http() as http:
        asked = {"model": "a", "prompt": "x", "echo": True, "logprobs": 1}
        error = http.post(TEXT, json=asked).json()["error"]
        assert "echo with logprobs is not supported here" in error["message"]


def test_a_candidate_continues_any_ids(http: httpx.Client) -> None:
    """Fault: ids had to be what the tokenizer makes of their text."""
    ids = http.post("/tokenize", json={"prompt": "rebol fonul lives in"}).json()["tokens"]
    bare = ids[1:]
    asked = {"model": "sft", "temperature": 0, "max_tokens": 4, "return_token_ids": True}
    told = complete(http, prompt=bare, **asked)
    assert told["prompt_token_ids"] == bare
    assert complete(http, prompt=ids, **asked)["prompt_token_ids"] == ids
    end = complete(http, prompt=[*ids, ids[0], *bare], **asked)
    assert end["prompt_token_ids"] == [*ids, ids[0], *bare]
    wrong = http.post(TEXT, json={"model": "sft", "prompt": [1, 10**6]}).json()["error"]
    assert wrong["param"] == "prompt"
    assert "there is no token 1000000: sft knows 0 to" in wrong["message"]


def test_a_team_says_what_its_models_would_read(http: httpx.Client) -> None:
    ids = http.post("/tokenize", json={"prompt": "rebol fonul lives in"}).json()["tokens"]
    assert http.post(TEXT, json={"prompt": ids, "max_tokens": 2}).status_code == 200
    for wrong, says in (
        (ids[1:], "they lack '<bos>' (1) at the beginning"),
        ([*ids, ids[0]], "they would end before 1 at place"),
        ([ids[0], 2, *ids[1:]], "at place 1 it would be"),
    ):
        error = http.post(TEXT, json={"prompt": wrong, "max_tokens": 2}).json()["error"]
        assert says in error["message"], error["message"]
        assert "send the text, or name one candidate as the model" in error["message"]


# Log-probabilities


def test_the_sampled_token_is_always_among_the_alternatives(http: httpx.Client) -> None:
    """Fault: it was left out where others were more probable, and of none nothing was left."""
    for wanted in (0, 1, 3):
        found = complete(http, model="sft", temperature=1.9, logprobs=wanted)["logprobs"]
        for token, logprob, top in zip(
            found["tokens"], found["token_logprobs"], found["top_logprobs"], strict=True
        ):
            assert top[token] >= logprob
            assert wanted <= len(top) <= wanted + 1 or len(set(found["tokens"])) < len(top)
        if not wanted:
            assert all(len(top) == 1 for top in found["top_logprobs"])


def test_tokens_may_be_named_by_their_ids(http: httpx.Client) -> None:
    asked = {"logprobs": 2, "return_tokens_as_token_ids": True, "return_token_ids": True}
    told = complete(http, **asked)
    assert told["logprobs"]["tokens"] == [f"token_id:{i}" for i in told["token_ids"]]
    named = [name for top in told["logprobs"]["top_logprobs"] for name in top]
    assert all(name.startswith("token_id:") for name in named)
    talked = chat(http, top_logprobs=1, **asked | {"logprobs": True})
    assert [t["token"] for t in talked["logprobs"]["content"]] == [
        f"token_id:{i}" for i in talked["token_ids"]
    ]


def test_usage_comes_with_every_chunk_where_it_is_asked_for(http: httpx.Client) -> None:
    """As in vLLM: of the chunk's own choice."""
    asked = {"messages": [{"role": "user", "content": QUESTION}], "max_tokens": 20, "n": 2}
    options = {"include_usage": True, "continuous_usage_stats": True}
    *chunks, last = events(http, CHAT, seed=1, stream_options=options, **asked)
    so_far = [0, 0]
    for chunk in chunks:
        (choice,) = chunk["choices"]
        so_far[choice["index"]] += choice.get("taketurns", {}).get("tokens", 0)
        usage = chunk["usage"]
        assert usage["completion_tokens"] == so_far[choice["index"]]
        assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == sum(so_far) > 10
    only = {"continuous_usage_stats": True}
    assert all("usage" not in c for c in events(http, CHAT, stream_options=only, **asked))


def test_the_last_chunk_has_beside_its_choice_what_a_whole_answer_has(http: httpx.Client) -> None:
    """For proxies that drop a choice's own fields there, and chunks without text."""
    asked = {"messages": [{"role": "user", "content": QUESTION}], "seed": 3, "n": 2}
    whole = http.post(CHAT, json=asked).json()["choices"]
    ends = [c for c in events(http, CHAT, **asked) if c["choices"][0]["finish_reason"]]
    assert sorted(end["taketurns"]["index"] for end in ends) == [0, 1]
    for end in ends:
        (choice,) = end["choices"]
        beside, expected = end["taketurns"], whole[choice["index"]]["taketurns"]
        assert choice["taketurns"] == {"seed": 3, "exact": True}
        assert (beside["seed"], beside["exact"]) == (expected["seed"], expected["exact"])
        assert [p["text"] for p in beside["patches"]] == [p["text"] for p in expected["patches"]]


# Control tokens, and chat templates


def test_control_tokens_may_be_shown(start: Start, make_model: Any, byte_tokenizer: Any) -> None:
    path = make_model(3)
    spec = ModelSpec(str(path), prompt="{text}")
    candidates = [Candidate("one", spec), Candidate("two", spec)]
    team = Team(candidates, LocalEngine({"one": spec, "two": spec}), FixedSwitcher([0, 1]), UNLIKE)
    begin = byte_tokenizer.bos_token_id
    (letter,) = byte_tokenizer.encode("a", add_special_tokens=False)
    bias = {"logit_bias": {str(begin): 80, str(letter): 40}}
    with start(team).http() as http:
        asked = {"messages": [{"role": "user", "content": "Q"}], "max_tokens": 4, **bias}
        shown, hidden = (
            http.post(CHAT, json={"model": "one", "skip_special_tokens": skip, **asked}).json()
            for skip in (False, True)
        )
        assert shown["choices"][0]["message"]["content"] == "<s>" * 4
        assert hidden["choices"][0]["message"]["content"] == ""
        stopped = {"skip_special_tokens": False, "stop": ["<s><s>"], "model": "one", **asked}
        assert http.post(CHAT, json=stopped).json()["choices"][0]["message"]["content"] == ""
        refused = http.post(CHAT, json={"skip_special_tokens": False, **asked})
        assert refused.json()["error"]["param"] == "skip_special_tokens"


TEMPLATE = (
    "{% if tone %}[{{ tone }}]{% endif %}{% if enable_thinking is defined %}"
    "{think={{ enable_thinking }},{{ reasoning_effort }}}{% endif %}"
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}</{{ m.role }}>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture
def templated(start: Start, make_model: Any) -> Running:
    spec = ModelSpec(str(make_model(0)), template=TEMPLATE)
    candidates = [Candidate("one", spec), Candidate("two", spec)]
    specs = {"one": spec, "two": spec}
    return start(Team(candidates, LocalEngine(specs), FixedSwitcher([0, 1]), UNLIKE))


def test_a_conversation_is_rendered_as_the_request_says(templated: Running) -> None:
    user, begun = {"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}
    with templated.http() as http:

        def prompt(turns: list[Any], **more: Any) -> str:
            asked = {"messages": turns, "return_token_ids": True, "max_tokens": 1, **more}
            answer = http.post(CHAT, json=asked).json()
            same = {"messages": turns, **more}
            same.pop("reasoning_effort", None)
            if same.keys() == {"messages", *more}:
                read = http.post("/tokenize", json=same).json()
                assert read["tokens"] == answer["prompt_token_ids"]
            ids = answer["prompt_token_ids"]
            return str(scripted_text(http, ids))

        assert prompt([user]) == "<user>Q</user><assistant>"
        assert prompt([user], add_generation_prompt=True) == "<user>Q</user><assistant>"
        assert prompt([user], add_generation_prompt=False) == "<user>Q</user>"
        goes_on = "<user>Q</user><assistant>A"
        assert prompt([user, begun]) == goes_on
        assert prompt([user, begun], continue_final_message=True) == goes_on
        both = {"continue_final_message": True, "add_generation_prompt": False}
        assert prompt([user, begun], **both) == goes_on
        anew = "<user>Q</user><assistant>A</assistant><assistant>"
        assert prompt([user, begun], continue_final_message=False) == anew
        tone = {"chat_template_kwargs": {"tone": "calm"}}
        assert prompt([user], **tone) == "[calm]<user>Q</user><assistant>"
        effort = prompt([user], reasoning_effort="none")
        assert effort == "{think=False,none}<user>Q</user><assistant>"
        thinks = prompt([user], reasoning_effort="low", chat_template_kwargs={"tone": "x"})
        assert thinks.startswith("[x]{think=True,low}")


def scripted_text(http: httpx.Client, ids: list[int]) -> str:
    return http.post("/detokenize", json={"tokens": ids}).json()["prompt"]


def test_what_a_request_gives_a_template_writes_no_control_token(templated: Running) -> None:
    asked = {
        "messages": [{"role": "user", "content": "Q"}],
        "chat_template_kwargs": {"tone": "</s> x"},
    }
    with templated.http() as http:
        ids = http.post("/tokenize", json=asked).json()["tokens"]
        assert scripted_text(http, ids) == "[</s> x]<user>Q</user><assistant>"


def test_a_template_that_fails_at_what_it_is_given_is_a_sentence(
    start: Start, make_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat_templates, "SECONDS", 0.3)
    slow = "{% for a in range(n) %}{% for b in range(n) %}{% endfor %}{% endfor %}" + TEMPLATE
    spec = ModelSpec(str(make_model(0)), template=slow)
    candidates = [Candidate("one", spec), Candidate("two", spec)]
    team = Team(candidates, LocalEngine({"one": spec, "two": spec}), FixedSwitcher([0]), UNLIKE)
    with start(team).http() as http:
        for n, says in ((10**5, "did not finish within 0.3 s"), ("x", "the chat template")):
            asked = {
                "messages": [{"role": "user", "content": "Q"}],
                "chat_template_kwargs": {"n": n},
            }
            reply = http.post(CHAT, json=asked)
            assert reply.status_code == 400
            assert says in reply.json()["error"]["message"]


# Engines that cannot


class Without(ScriptedEngine):
    """An engine that follows only some options, as those of others do."""

    async def info(self, model: str) -> Any:
        return replace(await super().info(model), options=frozenset({"top_k"}))


def test_what_an_engine_does_not_follow_is_refused(start: Start) -> None:
    spec = ModelSpec("a", prompt="{text}")
    team = Team(
        [Candidate(name, spec) for name in "ab"],
        Without({"a": forever("a"), "b": forever("b")}),
        FixedSwitcher([0, 1]),
        Policy(patch_size=4, max_tokens=20),
    )
    with start(team).http() as http:
        assert chat(http, top_k=5)["message"]["content"]
        asked = {"messages": [{"role": "user", "content": "Q"}]}
        for name, value in FIELDS.items():
            if name == "top_k":
                continue
            reply = http.post(CHAT, json={**asked, name: 1 if name == "min_tokens" else value})
            assert reply.status_code == 400
            error = reply.json()["error"]
            assert error["param"] == name
            assert f"{name} is not supported here: what runs a does not have it" in error["message"]
            assert "leave" in error["message"]


def test_every_option_is_a_field(pocket: Running) -> None:
    schema = httpx.get(f"{pocket.url}/openapi.json").json()["components"]["schemas"]
    for kind in ("ChatRequest", "CompletionRequest"):
        assert set(schema[kind]["properties"]) >= ALL_OPTIONS


def test_openai_s_client_sends_them(pocket: Running) -> None:
    answer = pocket.client().chat.completions.create(
        model="team",
        messages=[{"role": "user", "content": QUESTION}],
        presence_penalty=0.5,
        frequency_penalty=-0.5,
        logit_bias={"47": -100},
        extra_body={"top_k": 20, "min_p": 0.05, "repetition_penalty": 1.1, "min_tokens": 4},
    )
    assert ":" not in answer.choices[0].message.content
    with pytest.raises(openai.BadRequestError, match="logit_bias"):
        pocket.client().chat.completions.create(
            model="team", messages=[{"role": "user", "content": "x"}], logit_bias={"99999": 5}
        )
