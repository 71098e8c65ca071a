"""Every field of OpenAI's and of vLLM's requests: with a value that asks for nothing it is
accepted, and with another it does what it says or is refused as not supported, by its name."""

from __future__ import annotations

import json
import typing
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from openai.types import completion_create_params as completion_params
from openai.types.chat import ChatCompletionStreamOptionsParam
from openai.types.chat import completion_create_params as chat_params

from taketurns.config.policy import Policy
from taketurns.server.schemas import ChatRequest, CompletionRequest, StreamOptions, TokenizeRequest

from .conftest import Running, forever, running, scripted

CHAT = {"messages": [{"role": "user", "content": "Q?"}]}
TEXT = {"prompt": "Q?"}
PATHS = {
    "chat": ("/v1/chat/completions", CHAT),
    "completions": ("/v1/completions", TEXT),
    "tokenize": ("/tokenize", TEXT),
    "tokenize chat": ("/tokenize", CHAT),
}
# vLLM's fields, each with its default and with other values that ask for nothing.
SAMPLING: dict[str, list[Any]] = {
    "frequency_penalty": [None, 0, 0.0],
    "logit_bias": [None, {}, {"5": 0}],
    "presence_penalty": [None, 0, 0.0],
    "seed": [None],
    "stop": [None, []],
    "stream": [None, False],
    "stream_options": [
        None,
        {},
        {"include_usage": None, "continuous_usage_stats": None},
        {"include_usage": False, "continuous_usage_stats": False},
        {"include_obfuscation": False},
    ],
    "temperature": [None],
    "top_p": [None, 1, 1.0],
    "n": [None, 1],
    "user": [None, "someone"],
    "use_beam_search": [None, False],
    "top_k": [None, 0, -1],
    "min_p": [None, 0, 0.0],
    "repetition_penalty": [None, 1, 1.0],
    "watermarking": [None, False],
    "length_penalty": [None, 1, 1.0],
    "stop_token_ids": [None, []],
    "include_stop_str_in_output": [None, False],
    "ignore_eos": [None, False],
    "min_tokens": [None, 0],
    "skip_special_tokens": [None, True],
    "spaces_between_special_tokens": [None, True],
    "truncate_prompt_tokens": [None],
    "truncation_side": [None, "left"],
    "prompt_logprobs": [None],
    "logprob_token_ids": [None, []],
    "allowed_token_ids": [None, []],
    "bad_words": [None, []],
    "logits_processors": [None, []],
    "response_format": [None, {"type": "text"}],
    "structured_outputs": [None],
    "guided_json": [None],
    "guided_regex": [None],
    "guided_choice": [None],
    "guided_grammar": [None],
    "guided_json_object": [None, False],
    "guided_decoding_backend": [None, "auto"],
    "guided_whitespace_pattern": [None, ""],
    "priority": [None, 0],
    "request_id": [None, "mine"],
    "session_id": [None, "talk"],
    "return_tokens_as_token_ids": [None, False],
    "return_token_ids": [None, False],
    "routed_experts_prompt_start": [None, 0],
    "return_token_offsets": [None, False],
    "return_mm_kwargs": [None, True],
    "mm_payload": [None, "tensors"],
    "cache_salt": [None, "salt"],
    "kv_transfer_params": [None, {}],
    "ec_transfer_params": [None, {}],
    "vllm_xargs": [None, {}],
    "repetition_detection": [None, {}],
    "thinking_token_budget": [None, -1],
    "stream_interval": [None, 1, 8],
    "echo": [None, False],
    "max_tokens": [None],
    "model": [None],
    "metadata": [None, {}],
    "store": [None, False],
    "service_tier": [None, "auto"],
    "safety_identifier": [None, "s"],
    "prompt_cache_key": [None, "k"],
    "prompt_cache_retention": [None, "24h"],
    "prompt_cache_options": [None, {}],
}
TEMPLATE: dict[str, list[Any]] = {
    "chat_template": [None, ""],
    "chat_template_kwargs": [None, {}],
    "continue_final_message": [None, False],
    "add_generation_prompt": [None, True],
    "documents": [None, []],
    "media_io_kwargs": [None, {}],
    "mm_processor_kwargs": [None, {}],
    "tools": [None, []],
}
FIELDS: dict[str, dict[str, list[Any]]] = {
    "chat": {
        **SAMPLING,
        **TEMPLATE,
        "add_special_tokens": [None, False],
        "logprobs": [None, False],
        "top_logprobs": [None, 0],
        "max_completion_tokens": [None],
        "tool_choice": [None, "none", "auto"],
        "functions": [None, []],
        "function_call": [None, "none", "auto"],
        "parallel_tool_calls": [None, True],
        "reasoning_effort": [None],
        "include_reasoning": [None, True],
        "return_prompt_text": [None, False],
        "audio": [None],
        "modalities": [None, ["text"]],
        "moderation": [None],
        "prediction": [None],
        "verbosity": [None, "medium"],
        "web_search_options": [None],
    },
    "completions": {
        **SAMPLING,
        "add_special_tokens": [None, True],
        "logprobs": [None],
        "best_of": [None, 1],
        "suffix": [None, ""],
        "prompt_embeds": [None, []],
    },
    "tokenize": {
        "model": [None],
        "add_special_tokens": [None, True],
        "return_token_strs": [None, False],
    },
    "tokenize chat": {
        "model": [None],
        "add_special_tokens": [None, False],
        "return_token_strs": [None, False],
        **TEMPLATE,
    },
}
ASKED = [
    pytest.param(kind, name, value, id=f"{kind}-{name}-{value}")
    for kind, fields in FIELDS.items()
    for name, values in fields.items()
    for value in values
]


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    scripts = {"a": forever("a"), "b": forever("b")}
    with running(scripted(scripts, policy=Policy(patch_size=3, max_tokens=6))) as served:
        yield served


@pytest.fixture(scope="module")
def http(server: Running) -> Iterator[httpx.Client]:
    with server.http() as client:
        yield client


@pytest.fixture(scope="module")
def plain(http: httpx.Client) -> dict[str, Any]:
    """What is answered to a request with none of the fields."""
    return {kind: told(http.post(path, json=body)) for kind, (path, body) in PATHS.items()}


def told(reply: httpx.Response) -> Any:
    """What does not change from one answer to the next."""
    assert reply.status_code == 200, reply.text
    body = reply.json()
    for choice in body.get("choices", ()):
        del choice["taketurns"]
    return {key: value for key, value in body.items() if key not in ("id", "created")}


@pytest.mark.parametrize(("kind", "name", "value"), ASKED)
def test_a_value_that_asks_for_nothing_changes_nothing(
    http: httpx.Client, plain: dict[str, Any], kind: str, name: str, value: Any
) -> None:
    path, body = PATHS[kind]
    assert told(http.post(path, json={**body, name: value})) == plain[kind]


def test_all_of_them_at_once_change_nothing(http: httpx.Client, plain: dict[str, Any]) -> None:
    """As clients send them that fill in every default."""
    for place in (0, -1):
        for kind, (path, body) in PATHS.items():
            every = {name: values[place] for name, values in FIELDS[kind].items()}
            assert told(http.post(path, json={**every, **body})) == plain[kind]


def test_every_field_of_openai_s_client_is_in_the_table() -> None:
    """A newer client may send more."""
    for kind, module, given in (
        ("chat", chat_params, {"messages"}),
        ("completions", completion_params, {"prompt"}),
    ):
        params = module.CompletionCreateParamsBase
        names = set(typing.get_type_hints(params)) - given
        assert names <= set(FIELDS[kind]), kind
    options = set(ChatCompletionStreamOptionsParam.__annotations__)
    assert options <= set(StreamOptions.model_fields)


def test_every_field_that_there_is_is_in_the_table() -> None:
    ours = {"taketurns"}
    for kind, record, given in (
        ("chat", ChatRequest, {"messages"}),
        ("completions", CompletionRequest, {"prompt"}),
    ):
        assert set(record.model_fields) - given - ours == set(FIELDS[kind])
    both = {**FIELDS["tokenize"], **FIELDS["tokenize chat"]}
    assert set(TokenizeRequest.model_fields) - {"prompt", "messages"} == set(both)


BEYOND: dict[str, list[Any]] = {
    "use_beam_search": [True],
    "length_penalty": [2, 0.5],
    "include_stop_str_in_output": [True],
    "truncate_prompt_tokens": [5, -1],
    "prompt_logprobs": [1, 0],
    "logprob_token_ids": [[1]],
    "allowed_token_ids": [[1, 2]],
    "bad_words": [["x"]],
    "priority": [1],
    "routed_experts_prompt_start": [3],
    "return_token_offsets": [True],
    "kv_transfer_params": [{"a": 1}],
    "vllm_xargs": [{"a": 1}],
    "repetition_detection": [{"min_count": 2}],
    "thinking_token_budget": [100],
    "watermarking": [True],
}
CHAT_BEYOND: dict[str, list[Any]] = {
    **BEYOND,
    "chat_template": ["{{ messages }}"],
    "documents": [[{"text": "x"}]],
    "functions": [[{"name": "f"}]],
    "function_call": [{"name": "f"}],
    "audio": [{"voice": "alloy", "format": "wav"}],
    "modalities": [["text", "audio"]],
    "prediction": [{"type": "content", "content": "x"}],
    "verbosity": ["high"],
    "web_search_options": [{"search_context_size": "low"}],
    "add_special_tokens": [True],
    "return_prompt_text": [True],
    "prompt": ["x"],  # of another address
    "best_of": [2],
    "suffix": ["x"],
}
TEXT_BEYOND: dict[str, list[Any]] = {
    **BEYOND,
    "add_special_tokens": [False],
    "best_of": [3],
    "suffix": ["x"],
    "prompt_embeds": ["AAAA", ["AAAA"]],
    "tools": [[{"type": "function", "function": {"name": "f"}}]],
    "top_logprobs": [2],
    "max_completion_tokens": [5],
}
REFUSED = [
    pytest.param(kind, name, value, id=f"{kind}-{name}-{value}")
    for kind, fields in (("chat", CHAT_BEYOND), ("completions", TEXT_BEYOND))
    for name, values in fields.items()
    for value in values
]


@pytest.mark.parametrize(("kind", "name", "value"), REFUSED)
def test_another_value_is_refused_as_not_supported(
    http: httpx.Client, kind: str, name: str, value: Any
) -> None:
    path, body = PATHS[kind]
    reply = http.post(path, json={**body, name: value})
    assert reply.status_code == 400, reply.text
    error = reply.json()["error"]
    assert error["param"] == name
    assert error["message"].startswith(name)
    assert "is not supported here: leave it out" in error["message"]
    assert "did you mean" not in error["message"]
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        assert str(value) in error["message"]


def test_a_slip_of_the_pen_is_still_put_right(http: httpx.Client) -> None:
    for wrong, meant in (
        ("presence_penaltys", "presence_penalty"),
        ("topk", "top_k"),
        ("max_new_tokens", "max_tokens"),
        ("chat_template_kwarg", "chat_template_kwargs"),
    ):
        error = http.post("/v1/chat/completions", json={**CHAT, wrong: 1}).json()["error"]
        assert (error["param"], error["code"]) == (wrong, "unknown_parameter")
        assert f"did you mean {meant!r}?" in error["message"]


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("top_k", -2, "greater than or equal to -1, not -2"),
        ("top_k", 2.5, "valid integer, not 2.5"),
        ("min_p", 1.5, "less than or equal to 1, not 1.5"),
        ("presence_penalty", 2.5, "less than or equal to 2, not 2.5"),
        ("frequency_penalty", -3, "greater than or equal to -2, not -3"),
        ("repetition_penalty", 0, "greater than or equal to 0.01, not 0"),
        ("repetition_penalty", 1e9, "less than or equal to 100, not 1000000000.0"),
        ("min_tokens", -1, "greater than or equal to 0, not -1"),
        ("min_tokens", 7, "min_tokens is 7, and the answer has at most 6"),
        ("logit_bias", {"x": 1}, 'a whole number, as in {"42": -100}, not "x"'),
        ("logit_bias", {"5": 101}, "less than or equal to 100, not 101"),
        ("logit_bias", {"99999": 1}, "logit_bias names the token 99999, and a knows 0 to 256"),
        ("stop_token_ids", [-1], "greater than or equal to 0, not -1"),
        ("stop_token_ids", [99999], "stop_token_ids names the token 99999"),
        ("stop_token_ids", list(range(300)), "at most 256 items"),
        ("skip_special_tokens", False, "is for a single candidate"),
        ("chat_template_kwargs", {"messages": []}, "should not have 'messages'"),
        ("chat_template_kwargs", {"a-b": 1}, "should not have 'a-b'"),
        ("chat_template_kwargs", {"a": list(range(2000))}, "at most 1024 values"),
        ("chat_template_kwargs", {"a": "\ud800"}, "without unpaired surrogates"),
        ("reasoning_effort", "much", "'none', 'minimal', 'low'"),
        ("continue_final_message", True, "not supported for a last message of the user"),
        ("add_generation_prompt", False, "needs a chat template"),
        ("request_id", "a b", "should match pattern"),
        (
            "max_completion_tokens",
            99999,
            "max_completion_tokens is 99999, but this server writes up",
        ),
        ("max_tokens", 99999, "max_tokens is 99999, but this server writes up"),
    ],
)
def test_a_value_that_cannot_be_is_one_sentence(
    http: httpx.Client, name: str, value: Any, says: str
) -> None:
    content = json.dumps({**CHAT, name: value}).encode()  # which spells surrogates out
    headers = {"content-type": "application/json"}
    reply = http.post("/v1/chat/completions", content=content, headers=headers)
    assert reply.status_code == 400, reply.text
    error = reply.json()["error"]
    assert says in error["message"], error["message"]
    assert error["param"].split(".")[0] == name
    assert error["message"].startswith(name)


def test_fields_that_contradict_each_other_are_named(http: httpx.Client) -> None:
    both = {"continue_final_message": True, "add_generation_prompt": True}
    for path in ("/v1/chat/completions", "/tokenize"):
        error = http.post(path, json=CHAT | both).json()["error"]
        assert "cannot both be true" in error["message"]
    error = http.post("/v1/completions", json=TEXT | {"max_tokens": 0}).json()["error"]
    assert (error["param"], "send echo: true" in error["message"]) == ("max_tokens", True)
    error = http.post("/tokenize", json=CHAT | {"add_special_tokens": True}).json()["error"]
    assert error["param"] == "add_special_tokens"


HISTORY = {
    "role": "assistant",
    "content": "A.",
    "refusal": None,
    "annotations": [],
    "audio": None,
    "function_call": None,
    "tool_calls": [],
    "reasoning": None,
    "reasoning_content": None,
}


def test_an_answer_may_be_sent_back_as_it_came(http: httpx.Client) -> None:
    turns = [CHAT["messages"][0], HISTORY, {"role": "user", "content": "And?"}]
    assert http.post("/v1/chat/completions", json={"messages": turns}).status_code == 200
    for name, value in (("reasoning", "hm"), ("reasoning_content", "hm"), ("audio", {"id": "a"})):
        wrong = [turns[0], {**HISTORY, name: value}, turns[2]]
        error = http.post("/v1/chat/completions", json={"messages": wrong}).json()["error"]
        assert error["param"] == f"messages.1.{name}"
        assert "is not supported here: leave it out" in error["message"]
    called = [turns[0], {"role": "user", "content": "x", "tool_call_id": "1"}]
    error = http.post("/v1/chat/completions", json={"messages": called}).json()["error"]
    assert error["message"].startswith("messages.1.tool_call_id is not supported here: leave it")
