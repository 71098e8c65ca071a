"""No request holds up the others: what grows with it is bounded, and not done where they wait."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from taketurns import Policy, Query, Team
from taketurns.config.policy import Guard
from taketurns.engines.local.scheduler import LaneRunner
from taketurns.errors import UsageError
from taketurns.server import job_group, responses
from taketurns.server.admission import AdmissionGate
from taketurns.server.config import KEY_VARIABLE, ServeConfig, read_settings
from taketurns.server.job_group import JobGroup
from taketurns.switchers.lm import LMSwitcher
from taketurns.switchers.simple import FixedSwitcher
from taketurns.types import Message

from .conftest import QUESTION, Start, forever, scripted

ASKED = [{"role": "user", "content": "Q?"}]


# A guard


async def time_on_the_loop(guard: Guard | None) -> float:
    """Processor time of the event loop's thread for eight answers that go on from a long text, a
    token a patch."""
    policy = Policy(patch_size=1, max_tokens=24, guard=guard)
    team = scripted({"a": forever("a")}, FixedSwitcher([0]), policy, context=40_000)
    turns = (Message("user", "Q?"), Message("assistant", "so the words of " * 2000))
    asked = [Query(str(number), messages=turns) for number in range(8)]
    begun = time.thread_time()
    traces = await asyncio.gather(*(team.agenerate(query) for query in asked))
    assert [trace.text for trace in traces] == ["a" * 24] * 8
    return time.thread_time() - begun


async def test_a_guard_of_many_long_words_does_not_hold_the_loop_up() -> None:
    """Also where a long text was begun and every patch is a token: what was read before is not
    read again. It took six times as long as without a guard."""
    words = tuple(f"{number} {'of the words ' * 19}"[:256].strip() for number in range(64))
    await time_on_the_loop(None)  # what is made once
    assert await time_on_the_loop(Guard(0, words=words)) < 3 * await time_on_the_loop(None)


# What is read of a request


def test_nothing_of_a_prompt_is_read_on_the_event_loop(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However short it is: what a template makes of it takes as long as the template likes."""
    readers: list[tuple[str, threading.Thread]] = []

    def spied(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def spy(*arguments: Any, **options: Any) -> Any:
            readers.append((name, threading.current_thread()))
            return real(*arguments, **options)

        return spy

    monkeypatch.setattr(
        "taketurns.generation.handover.render_speaker",
        spied("speaker", _imported("handover.render_speaker")),
    )
    monkeypatch.setattr(LMSwitcher, "tagged", spied("switcher", LMSwitcher.tagged))
    monkeypatch.setattr(
        "taketurns.generation.guards.speaker_ids", spied("judge", _imported("guards.speaker_ids"))
    )
    monkeypatch.setattr(
        "taketurns.generation.team.guard_check", spied("guard", _imported("team.guard_check"))
    )
    scores = {"s": lambda text, choices: [0.5] * len(choices)}
    policy = Policy(patch_size=4, max_tokens=8, guard=Guard(1, words=("bad",)))
    team = scripted({"a": forever("a"), "b": forever("b")}, LMSwitcher("s"), policy, scores=scores)
    server = start(team)
    with server.http() as http:
        assert http.post("/v1/chat/completions", json={"messages": ASKED, "n": 2}).is_success
    assert {name for name, _ in readers} == {"speaker", "switcher", "guard"}
    assert server.thread not in {thread for _, thread in readers}


def _imported(name: str) -> Any:
    import importlib

    module, attribute = name.split(".")
    return getattr(importlib.import_module(f"taketurns.generation.{module}"), attribute)


# What is told


async def test_others_have_their_turn_while_much_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that reads slowly finds thousands of events when it reads on."""
    monkeypatch.setattr(job_group, "_MAX_BATCH", 10)
    answers = JobGroup([], AdmissionGate(1, 1), ServeConfig())
    answers._unfinished = 1
    for number in range(100):
        answers._events.put_nowait((number, job_group.JobStarted(0.0)))
    told: list[int] = []
    turns = 0

    async def other() -> None:
        nonlocal turns
        while len(told) < 100:
            turns += 1
            await asyncio.sleep(0)

    async def tell() -> None:
        async for events in answers:
            assert len(events) <= 10
            told.extend(index for index, _ in events)
            if len(told) == 100:
                break

    await asyncio.gather(tell(), other())
    assert told == list(range(100))
    assert turns >= 9


def test_an_answer_s_json_is_made_in_small_parts_and_elsewhere(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its log-probabilities are many megabytes, and nothing runs while the library writes them."""
    sizes: list[int] = []
    makers: set[threading.Thread] = set()
    make = responses._json

    def spy(value: Any) -> str:
        made = make(value)
        sizes.append(len(made))
        makers.add(threading.current_thread())
        return made

    monkeypatch.setattr(responses, "_json", spy)
    server = start(scripted({"a": forever("a"), "b": forever("b")}))
    body = {
        "messages": ASKED,
        "n": 3,
        "logprobs": True,
        "top_logprobs": 5,
        "return_token_ids": True,
    }
    with server.http() as http:
        told = http.post("/v1/chat/completions", json=body).json()
    assert [len(choice["logprobs"]["content"]) for choice in told["choices"]] == [20] * 3
    assert max(sizes) < 400
    assert server.thread not in makers


# Requests that are not to be served


def test_a_request_with_two_lengths_is_refused_and_its_connection_closed(start: Start) -> None:
    """Fault: it was answered and the connection kept, so what followed could be somebody else's."""
    server = start(scripted({"a": forever("a"), "b": forever("b")}))
    host, port = server.url.removeprefix("http://").split(":")
    body = json.dumps({"messages": ASKED}).encode()
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
        b"content-type: application/json\r\ncontent-length: %d\r\n"
        b"transfer-encoding: chunked\r\n\r\n" % len(body)
    )
    received = b""
    with socket.create_connection((host, int(port)), timeout=30) as client:
        client.sendall(head + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
        with suppress(ConnectionResetError):
            while piece := client.recv(1 << 16):  # until the server closes
                received += piece
    assert received.startswith(b"HTTP/1.1 400")
    assert b'"ambiguous_length"' in received
    assert b"connection: close" in received.lower()


@pytest.mark.parametrize("key", ["", " ", "\n"])
def test_an_empty_key_is_not_no_key(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv(KEY_VARIABLE, key)
    with pytest.raises(
        UsageError, match="the variable TAKETURNS_API_KEY is empty: set it to a key"
    ):
        read_settings(None)
    assert read_settings(None, api_keys=["given"]).api_keys == ("given",)
    monkeypatch.delenv(KEY_VARIABLE)
    assert read_settings(None).api_keys == ()


# Models that have stopped


def test_a_server_whose_models_have_stopped_is_not_ready(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start(Team.load("pocket"))

    def ends(runner: LaneRunner) -> None:
        raise SystemExit("the thread is gone")

    body = {"messages": [{"role": "user", "content": QUESTION}]}
    with server.http() as http:
        assert http.post("/v1/chat/completions", json=body).status_code == 200
        monkeypatch.setattr(LaneRunner, "step", ends)
        broken = http.post("/v1/chat/completions", json=body)
        ready = http.get("/health/ready")
        refused = http.post("/v1/chat/completions", json=body)
        alive = http.get("/health")
    assert (broken.status_code, broken.json()["error"]["code"]) == (500, "engine_error")
    assert (ready.status_code, ready.json()) == (503, {"status": "failed"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "engine_ended")
    assert alive.status_code == 200
