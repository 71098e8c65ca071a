"""Many streams at once, briefly; `make soak` is the long form."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from typing import Any

import pytest

from benchmarks.processes import resident_bytes
from benchmarks.serving import measure
from benchmarks.serving.endpoints import ENDPOINTS, Endpoint, Question
from benchmarks.serving.overhead import overhead, scripted_team
from benchmarks.serving.streams import FORMATS, OfflineAnswer, ask
from taketurns import EngineError, Team
from taketurns.checkpoints.text import TextCodec
from taketurns.pocket import TASKS

from .conftest import Running, Start, forever, scripted


@pytest.fixture(scope="module")
def offline() -> Iterator[Team]:
    with Team.load("pocket") as team:
        yield team


@pytest.fixture(scope="module")
def plain(offline: Team) -> list[OfflineAnswer]:
    """Questions of several tasks."""
    questions = [TASKS[task].queries("test")[1].text for task in ("age", "recall", "arithmetic")]
    return measure.offline(offline, questions, 2)


@pytest.fixture(scope="module")
def formatted(offline: Team) -> list[OfflineAnswer]:
    """One question, with each format and without one under every seed."""
    question = TASKS["age"].queries("test")[1].text or ""
    cases = measure.offline(offline, [question] * len(FORMATS), 4)
    return list({(case.question.seed, str(case.question.format)): case for case in cases}.values())


@pytest.mark.parametrize("streams", [1, pytest.param(8, marks=pytest.mark.slow), 64])
async def test_every_stream_is_whole_and_the_offline_answer(
    pocket: Running, plain: list[OfflineAnswer], streams: int
) -> None:
    requests = streams + 8
    result = await measure.load(pocket.url, plain, streams, requests)
    assert result.requests == requests
    assert result.whole == result.equal == result.requests
    assert len(result.first) == result.requests
    assert pocket.serving.gate.running == pocket.serving.gate.waiting == 0


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.path)
async def test_every_endpoint_streams_the_offline_answer(
    pocket: Running, formatted: list[OfflineAnswer], endpoint: Endpoint
) -> None:
    asked = [case for case in formatted if endpoint.takes(case.question)]
    formats = {str(case.question.format) for case in asked}
    assert len(formats) == (4 if endpoint.any_format else 3)
    for case in asked:
        streamed = await ask(pocket.url, endpoint, case.question)
        assert (streamed.status, streamed.done, streamed.error) == (200, True, None)
        assert (streamed.text, streamed.speakers) == (case.text, case.speakers)
        assert len(streamed.times) > 1


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.path)
async def test_a_stream_that_breaks_off_is_not_whole(start: Start, endpoint: Endpoint) -> None:
    server = start(scripted({"a": forever("a")}, failures={2: EngineError("gone")}))
    streamed = await ask(server.url, endpoint, Question("Q?", 0, None, 20))
    assert 0 < len(streamed.text) < 20
    assert streamed.error
    assert not streamed.done


@pytest.mark.parametrize("spoiled", ["", "text", "end"])
def test_a_stream_that_is_not_what_it_must_be_fails_the_soak(
    start: Start, monkeypatch: pytest.MonkeyPatch, spoiled: str
) -> None:
    failures = {100: EngineError("gone")} if spoiled == "end" else None  # after the first touches
    scripts = {"a": forever("a"), "b": forever("b")}
    server = start(scripted(scripts, failures=failures))
    text = "aaaabbbbaaaabbbbaaaa" + ("a" if spoiled == "text" else "")
    case = OfflineAnswer(Question("Q?", 0, None, 20), text, ("a", "b", "a", "b", "a"))
    monkeypatch.setattr(measure, "offline", lambda *arguments: [case])
    monkeypatch.setattr(measure, "served", lambda *arguments: nullcontext((server.url, 0)))
    monkeypatch.setattr(sys, "argv", ["measure.py", "load", "--streams", "2", "--requests", "0"])
    with pytest.raises(SystemExit) as ended:
        measure.main()
    if not spoiled:
        assert ended.value.code is None
    elif spoiled == "text":
        assert ended.value.code == "of 24 streams, 2 side by side, 24 not equal to offline"
    else:
        assert "1 not whole and 1 not equal to offline" in ended.value.code


@pytest.mark.parametrize(
    "apart",
    [
        pytest.param(False, id="in this process"),
        pytest.param(True, id="in another", marks=pytest.mark.slow),
    ],
)
async def test_what_http_adds_is_measured(start: Start, apart: bool) -> None:
    """That it is little is measured where nothing else runs; here it must not be absurd."""
    command = ("-m", "benchmarks.serving.measure", "serve-scripted")
    with ExitStack() as stack:
        if apart:
            url, pid = stack.enter_context(measure.served(*command))
        else:
            url, pid = start(scripted_team()).url, os.getpid()
        figures = await overhead(url, pid, 4, 4)
        assert resident_bytes(pid) > 10 * 2**20
    assert figures["first token p50, ms, direct"] > 20
    assert figures["added"] < 500
    assert figures["per token, ms, direct"] >= 20
    assert figures["processor per token served"] < 5


LONG = "a very long prompt " * 80


@pytest.mark.parametrize(
    ("path", "body", "times"),
    [
        ("v1/chat/completions", {"messages": [{"role": "user", "content": LONG}], "n": 5}, 2),
        ("v1/completions", {"prompt": [LONG, LONG], "n": 2, "model": "a"}, 2),
        ("tokenize", {"prompt": LONG}, 2),
        ("detokenize", {"tokens": list(LONG.encode()), "model": "b"}, 1),
    ],
)
def test_a_long_text_is_read_once_and_while_others_write(
    start: Start,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    body: dict[str, Any],
    times: int,
) -> None:
    """A speaker reads a prompt once, however many answers it gets; never on the event loop, which
    writes all streams."""
    server = start(scripted({"a": forever("a"), "b": forever("b")}))
    readers: list[threading.Thread] = []

    def spied(read: Callable[..., Any], long: Callable[[Any], bool]) -> Callable[..., Any]:
        def spy(codec: TextCodec, what: Any, *more: Any, **options: Any) -> Any:
            if long(what):
                readers.append(threading.current_thread())
            return read(codec, what, *more, **options)

        return spy

    if path == "detokenize":
        spy = spied(TextCodec.decode, lambda ids: len(ids) == len(LONG))
        monkeypatch.setattr(TextCodec, "decode", spy)
    else:
        spy = spied(TextCodec.encode, lambda text: LONG in text)
        monkeypatch.setattr(TextCodec, "encode", spy)
        spy = spied(TextCodec.encode_rendered, lambda prompt: LONG in prompt.text)
        monkeypatch.setattr(TextCodec, "encode_rendered", spy)
    with server.http() as http:
        assert http.post(f"/{path}", json=body).status_code == 200
    assert len(readers) == times
    assert server.thread not in readers
