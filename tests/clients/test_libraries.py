"""Clients that are libraries: each one's own way to ask for an answer, a stream and an object."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .environments import Environments, Outcome

CLIENTS = {
    "openai": ("openai", "with_openai.py"),
    "openai (JavaScript)": ("node", "with_openai.mjs"),
    "Vercel AI SDK": ("node", "with_ai.mjs"),
    "langchain-openai": ("langchain", "with_langchain.py"),
    "llama-index": ("llama-index", "with_llama_index.py"),
    "litellm": ("litellm", "with_litellm.py"),
    "instructor": ("instructor", "with_instructor.py"),
    "pydantic-ai": ("pydantic-ai", "with_pydantic_ai.py"),
    "huggingface_hub": ("huggingface-hub", "with_huggingface_hub.py"),
    "inspect_ai": ("inspect", "with_inspect.py"),
    "agno": ("agno", "with_agno.py"),
    "dspy": ("dspy", "with_dspy.py"),
}
TEXTS = [
    ("openai", "chat"),
    ("openai", "completions"),
    ("openai (JavaScript)", "chat"),
    ("Vercel AI SDK", "chat"),
    ("Vercel AI SDK", "openai_chat"),
    ("langchain-openai", "chat"),
    ("llama-index", "chat"),
    ("llama-index", "completions"),
    ("litellm", "chat"),
    ("litellm", "hosted_vllm"),
    ("instructor", "chat"),
    ("pydantic-ai", "chat"),
    ("huggingface_hub", "chat"),
    ("inspect_ai", "chat"),
    ("agno", "chat"),
    ("dspy", "chat"),
]
STREAMS = [
    ("openai", "stream"),
    ("openai", "events"),
    ("openai (JavaScript)", "stream"),
    ("Vercel AI SDK", "stream"),
    ("langchain-openai", "stream"),
    ("llama-index", "stream"),
    ("litellm", "stream"),
    ("pydantic-ai", "stream"),
    ("huggingface_hub", "stream"),
    ("agno", "stream"),
]
JOINING = ("pydantic-ai",)  # gives out together what came within a tenth of a second
SCHEMAS = [
    ("openai", "parse"),
    ("openai", "json_schema"),
    ("openai (JavaScript)", "parse"),
    ("Vercel AI SDK", "json_schema"),
    ("Vercel AI SDK", "json_schema_stream"),
    ("langchain-openai", "json_schema"),
    ("langchain-openai", "json_schema_stream"),
    ("llama-index", "json_schema"),
    ("litellm", "json_schema"),
    ("instructor", "json_schema"),
    ("instructor", "json_schema_stream"),
    ("pydantic-ai", "json_schema"),
    ("huggingface_hub", "json_schema"),
    ("inspect_ai", "json_schema"),
    ("agno", "json_schema"),
]
# Here the keys are only asked for in words, so that the client judges what the model wrote.
PROMPTED = [
    ("openai", "json_object"),
    ("Vercel AI SDK", "json_object"),
    ("langchain-openai", "json_mode"),
    ("llama-index", "prompted"),
    ("litellm", "json_object"),
    ("instructor", "json_mode"),
    ("instructor", "md_json"),
    ("pydantic-ai", "prompted"),
    ("agno", "json_mode"),
    ("dspy", "prompted"),
    ("dspy", "json_adapter"),
    ("dspy", "stream"),
]
# Some clients' default way to ask for an object is a tool that must be called.
TOOLS = [
    ("openai", "tools"),
    ("langchain-openai", "tools"),
    ("llama-index", "tools"),
    ("instructor", "tools"),
    ("pydantic-ai", "tools"),
]


def asked(clients: Environments, client: str, mode: str) -> Outcome:
    outcome = clients.ask(*CLIENTS[client], mode)
    assert outcome.refusals == []
    assert outcome.answers, outcome.output[-3000:]
    return outcome


def result(outcome: Outcome) -> Any:
    assert not outcome.failed, outcome.output[-3000:]
    return outcome.result


@pytest.mark.parametrize(("client", "mode"), TEXTS)
def test_an_answer(clients: Environments, client: str, mode: str) -> None:
    outcome = asked(clients, client, mode)
    assert result(outcome).strip() == outcome.answers[-1].text.strip()


@pytest.mark.parametrize(("client", "mode"), STREAMS)
def test_a_stream(clients: Environments, client: str, mode: str) -> None:
    outcome = asked(clients, client, mode)
    pieces = [piece for piece in result(outcome) if piece]
    assert "".join(pieces) == outcome.answers[-1].text
    few = client in JOINING or outcome.answers[-1].tokens < 10
    assert few or len(pieces) > 5


def test_a_stream_of_inspect_ai(clients: Environments) -> None:
    """It streams for itself and gives out the whole."""
    outcome = asked(clients, "inspect_ai", "stream")
    assert outcome.answers[-1].request["stream"] is True
    assert result(outcome).strip() == outcome.answers[-1].text.strip()


@pytest.mark.parametrize(("client", "mode"), [*SCHEMAS, *TOOLS])
def test_an_object_by_a_schema(clients: Environments, client: str, mode: str) -> None:
    city = result(asked(clients, client, mode))
    city = json.loads(city) if isinstance(city, str) else city
    assert city["kind"] in ("town", "port")
    assert isinstance(city["old"], bool)


@pytest.mark.parametrize(("client", "mode"), PROMPTED)
def test_an_object_that_is_asked_for_in_words(
    clients: Environments, client: str, mode: str
) -> None:
    """The server takes what the client sends; an answer that is held to JSON, and ends, is JSON."""
    outcome = asked(clients, client, mode)
    for answer in outcome.answers:
        form = answer.request.get("response_format", {}).get("type")
        if form == "json_object" and answer.finish == "stop":
            assert isinstance(json.loads(answer.text), dict)


def test_a_response(clients: Environments) -> None:
    """OpenAI's Responses API, whose answers the client joins itself."""
    outcome = clients.ask(*CLIENTS["openai"], "responses")
    assert outcome.refusals == []
    assert result(outcome).strip()
