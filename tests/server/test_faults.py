"""What goes wrong: nothing is repeated, nothing lost, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from taketurns import EngineError, Policy, ScriptedEngine, Team
from taketurns.config.loading import load_team_config
from taketurns.errors import CapacityError
from taketurns.server.config import ServeConfig
from taketurns.server.model_registry import ModelRegistry
from taketurns.server.run import TeamServer, listen
from taketurns.server.serving import Serving
from taketurns.switchers.lm import LMSwitcher
from taketurns.switchers.simple import FixedSwitcher
from taketurns.types import Token

from .conftest import QUESTION, Running, Start, eventually, forever, scripted

ASKED = [{"role": "user", "content": "Q?"}]


def pair(**options: Any) -> Team:
    """`a` and `b` write four letters by turns, twenty in all."""
    return scripted({"a": forever("a"), "b": forever("b")}, **options)


def engine(team: Team) -> ScriptedEngine:
    assert isinstance(team.engine, ScriptedEngine)
    return team.engine


def stream(server: Running, **more: Any) -> Any:
    asked = {"model": "team", "messages": ASKED, "stream": True}
    return server.client().chat.completions.create(**asked | more)


# An engine that fails


def test_a_failure_in_mid_patch_ends_the_stream_after_what_was_written(start: Start) -> None:
    def breaks(prompt: str, sampling: Any) -> Any:
        def tokens() -> Iterator[int]:
            yield from (65, 66)
            raise EngineError("the server is gone")

        return tokens()

    team = scripted({"a": forever("a"), "b": breaks}, FixedSwitcher([0, 1]))
    server = start(team)
    pieces: list[str] = []
    with pytest.raises(openai.APIError, match="a model failed"):
        pieces.extend(chunk.choices[0].delta.content or "" for chunk in stream(server))
    text = "".join(pieces)
    assert text.startswith("aaaa")
    assert len(text) == 6  # the two tokens of the patch that broke are not lost
    with server.http() as http:
        body = {"messages": ASKED, "stream": True}
        raw = http.post("/v1/chat/completions", json=body).text
        assert raw.count("a model failed") == 1
        assert "[DONE]" not in raw  # a stream that has it is whole
        reply = http.post("/v1/chat/completions", json={"messages": ASKED})
        assert reply.status_code == 500
        told = reply.json()
        assert told["error"]["code"] == "engine_error"
        assert told["taketurns"]["choices"][0]["text"] == text
        patches = told["taketurns"]["choices"][0]["patches"]
        assert [patch["finish"] for patch in patches] == ["length", "error"]
    assert engine(team).open_sessions == 0


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (EngineError("no such luck"), 500, "engine_error"),
        (CapacityError("no memory for that"), 503, "no_memory"),
        (RuntimeError("a bug"), 500, "internal_error"),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
def test_a_failure_before_the_first_token_is_an_ordinary_error(
    start: Start, error: Exception, status: int, code: str, streamed: bool
) -> None:
    server = start(pair(failures={0: error}))
    with server.http() as http:
        body = {"messages": ASKED, "stream": streamed}
        reply = http.post("/v1/chat/completions", json=body)
        assert (reply.status_code, reply.json()["error"]["code"]) == (status, code)
        assert "a bug" not in reply.text
        again = http.post("/v1/chat/completions", json=body)
        assert again.status_code == 200


# Time


def test_an_answer_that_takes_too_long_is_ended_and_freed(start: Start) -> None:
    team = pair(delay=0.3)
    server = start(team, timeout=1.0)
    with pytest.raises(openai.APIStatusError) as caught:
        server.client(max_retries=2).chat.completions.create(model="team", messages=ASKED)
    assert caught.value.status_code == 504
    assert caught.value.code == "timeout"
    assert engine(team).open_sessions == 0
    # The client was told not to ask for the same again.
    assert {call.seed for call in engine(team).calls} == {engine(team).calls[0].seed}
    with pytest.raises(openai.APIError, match=r"not finished within 1 s"):
        list(stream(server))


def test_a_full_queue_says_when_to_come_back(start: Start) -> None:
    server = start(pair(delay=0.02), max_running=1, max_waiting=1)
    (held,) = server.serving.gate.enter([1000])
    with ThreadPoolExecutor(8) as threads, server.http() as http:

        def post() -> httpx.Response:
            return http.post("/v1/chat/completions", json={"messages": ASKED})

        waits = threads.submit(post)
        eventually(lambda: server.serving.gate.waiting == 1)
        refused, *others = [post() for _ in range(4)]
        assert server.server.loop is not None
        server.server.loop.call_soon_threadsafe(held.close)
        assert waits.result().status_code == 200
    assert {reply.status_code for reply in (refused, *others)} == {429}
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.json()["error"]["type"] == "rate_limit_error"
    with server.http() as http:
        counted = http.get("/metrics").text
    assert 'vllm:e2e_request_latency_seconds_count{model_name="team"} 1.0' in counted
    assert 'taketurns:requests_refused_total{code="queue_full"} 4.0' in counted
    # A client that knows the protocol gets its answer in the end.
    with ThreadPoolExecutor(3) as threads:
        ask = server.client(max_retries=8).chat.completions.create
        answers = list(threads.map(lambda _: ask(model="team", messages=ASKED), range(3)))
    assert all(answer.choices[0].message.content == "aaaabbbbaaaabbbbaaaa" for answer in answers)


def test_an_answer_that_is_never_begun_may_be_asked_for_again(start: Start) -> None:
    server = start(pair(), max_running=1, timeout=0.2)
    server.serving.gate.enter([100])
    with server.http() as http:
        reply = http.post("/v1/chat/completions", json={"messages": ASKED})
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "queue_timeout")
    assert reply.headers["retry-after"]
    assert "x-should-retry" not in reply.headers


def test_who_waits_for_memory_waits_in_the_queue(start: Start) -> None:
    team = Team.load(load_team_config("pocket", {"engine.memory": "32MiB"}))
    server = start(team, max_waiting=1, timeout=3.0)
    body = {"messages": [{"role": "user", "content": QUESTION}], "max_tokens": 500}
    with server.http() as http, ThreadPoolExecutor(1) as threads, held_memory(server):
        waits = threads.submit(http.post, "/v1/chat/completions", json=body)
        eventually(lambda: server.serving.gate.waiting == 1)
        counted = http.get("/metrics").text
        refused = http.post("/v1/chat/completions", json=body)
        late = waits.result()
    assert 'vllm:num_requests_waiting{model_name="team"} 1.0' in counted
    assert 'vllm:num_requests_running{model_name="team"} 1.0' not in counted
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "queue_full")
    # It was never begun, so it may be asked for again.
    assert (late.status_code, late.json()["error"]["code"]) == (503, "queue_timeout")
    assert late.headers["retry-after"]
    assert "x-should-retry" not in late.headers
    with server.http() as http:
        assert http.post("/v1/chat/completions", json=body).status_code == 200
        never = http.post("/v1/chat/completions", json=body | {"max_tokens": 4096})
    assert (never.status_code, never.json()["error"]["code"]) == (503, "no_memory")


@contextmanager
def held_memory(server: Running) -> Iterator[None]:
    """Nearly all the memory of its engine is somebody else's."""
    local: Any = server.serving.registry.team.engine
    entered, leave = threading.Event(), asyncio.Event()

    async def hold() -> None:
        longest = next(n for n in range(4000, 0, -50) if _ever_fits(local, n))
        async with local.session(0, longest):
            entered.set()
            await leave.wait()

    loop = server.server.loop
    assert loop is not None
    holding = asyncio.run_coroutine_threadsafe(hold(), loop)
    assert entered.wait(30)
    yield
    loop.call_soon_threadsafe(leave.set)
    holding.result(30)


def _ever_fits(engine: Any, tokens: int) -> bool:
    try:
        return bool(engine.fits([tokens]))
    except CapacityError:
        return False


def test_a_short_request_is_not_kept_waiting_by_long_ones(start: Start) -> None:
    server = start(pair(delay=0.01), max_running=1)
    finished: list[str] = []

    def ask(name: str, tokens: int) -> None:
        server.client().chat.completions.create(model="team", messages=ASKED, max_tokens=tokens)
        finished.append(name)

    with ThreadPoolExecutor(4) as threads:
        gate, asked = (
            server.serving.gate,
            (("first", 100), ("long", 60), ("longer", 61), ("short", 2)),
        )
        for under_way, (name, tokens) in enumerate(asked, 1):
            threads.submit(ask, name, tokens)
            eventually(lambda n=under_way: gate.running + gate.waiting == n)
            if name == "longer":
                time.sleep(0.05)
    assert finished[:2] == ["first", "short"]


# Clients that leave, or do not read


def test_a_client_that_hangs_up_frees_its_answer_within_a_patch(start: Start) -> None:
    team = pair(delay=0.05)
    server = start(team)
    chunks = stream(server, max_tokens=4000)
    next(chunks)
    assert engine(team).open_sessions == 1
    chunks.response.close()
    asked = len(engine(team).calls)
    eventually(lambda: engine(team).open_sessions == 0)
    assert len(engine(team).calls) <= asked + 1
    assert server.serving.gate.running == 0


def test_a_client_that_hangs_up_before_the_answer_frees_it_too(start: Start) -> None:
    team = pair(delay=0.05)
    server = start(team, max_running=1)
    for streamed in (False, True):
        with pytest.raises(openai.APITimeoutError):
            stream(server, stream=streamed, max_tokens=4000, timeout=0.03 if streamed else 0.3)
        eventually(lambda: engine(team).open_sessions == 0, seconds=1)
    # One that is still waiting in the queue leaves it.
    long = stream(server, max_tokens=4000)
    next(long)
    with pytest.raises(openai.APITimeoutError):
        stream(server, stream=False, timeout=0.3)
    eventually(lambda: server.serving.gate.waiting == 0)
    long.response.close()


def test_leaving_frees_the_memory_of_real_models(pocket: Running) -> None:
    local: Any = pocket.serving.registry.team.engine
    hot = {
        "temperature": 2,
        "max_tokens": 1500,
        "messages": [{"role": "user", "content": QUESTION}],
    }
    chunks = stream(pocket, n=8, extra_body={"taketurns": {"patch_size": 64}}, **hot)
    next(chunks)
    assert local.reserved_bytes > 0
    chunks.response.close()
    eventually(lambda: local.reserved_bytes == 0)
    assert pocket.client().chat.completions.create(model="team", messages=ASKED).choices


@contextmanager
def raw(
    server: Running, body: dict[str, Any], path: str = "/v1/chat/completions"
) -> Iterator[socket.socket]:
    """A client that does with its socket what it likes."""
    host, port = server.url.removeprefix("http://").split(":")
    payload = json.dumps(body).encode()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect((host, int(port)))
        client.sendall(
            b"POST %s HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
            b"content-type: application/json\r\ncontent-length: %d\r\n\r\n"
            % (path.encode(), len(payload))
        )
        client.sendall(payload)
        yield client


def test_a_slow_client_gets_everything_and_keeps_no_models_busy(start: Start) -> None:
    team = pair()
    server = start(team, max_tokens=20_000)
    with raw(server, {"messages": ASKED, "stream": True, "max_tokens": 3000}) as client:
        eventually(lambda: server.serving.gate.running == 0 and bool(engine(team).calls), 30)
        assert engine(team).open_sessions == 0  # written, although hardly anything was read
        received = b""
        while piece := client.recv(1 << 16):
            received += piece
            time.sleep(0.0005)
    assert received.count(b'"content": "') == 3000 + 1  # the first chunk says the role
    assert b"data: [DONE]" in received


def test_a_client_that_stops_reading_is_let_go(start: Start) -> None:
    team = pair(context=20_000)  # more than the system queues for a client
    server = start(team, max_tokens=20_000, stall=1.0)
    body = {"messages": ASKED, "stream": True, "max_tokens": 10_000, "logprobs": True}
    with raw(server, body) as client:
        eventually(lambda: bool(server.serving._open_groups))
        eventually(lambda: not server.serving._open_groups, seconds=60)
        assert engine(team).open_sessions == 0
        assert_cut(server, client)


def test_so_is_one_that_never_takes_a_response(start: Start) -> None:
    server = start(pair(), stall=1.0)
    body = {"prompt": "a" * 1_000_000, "return_token_strs": True}  # ten times that are sent
    with raw(server, body, "/tokenize") as client:
        eventually(lambda: bool(server.server.server_state.connections))
        assert_cut(server, client)


HEAD = b"POST /tokenize HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"


@pytest.mark.parametrize(
    ("pieces", "told"),
    [
        ([b"GET /health HT"], b""),
        ([b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n", b"GET /health HT"], b"200 OK"),
        ([HEAD + b"content-length: 100\r\n\r\n{"], b'"request_timeout"'),
    ],
)
def test_a_request_that_never_comes_whole_is_not_waited_for(
    start: Start, pieces: list[bytes], told: bytes
) -> None:
    server = start(pair(), stall=1.0)
    host, port = server.url.removeprefix("http://").split(":")
    received = b""
    with socket.create_connection((host, int(port)), timeout=30) as client:
        for piece in pieces:
            client.sendall(piece)
            received += client.recv(1 << 16)
        while more := client.recv(1 << 16):  # until the server closes
            received += more
    assert told in received
    assert bool(received) == bool(told)


def assert_cut(server: Running, client: socket.socket) -> None:
    """Its connection is no longer there, nor what was queued for it."""
    eventually(lambda: not server.server.server_state.connections, seconds=30)
    with pytest.raises(ConnectionResetError):
        _read_all(client)


def _read_all(client: socket.socket) -> None:
    while client.recv(1 << 20):
        pass


# Shutting down


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Callable[..., tuple[subprocess.Popen[str], str]]]:
    """`taketurns serve` as it is run, on the bundled team."""
    started: list[subprocess.Popen[str]] = []

    def launch(settings: str) -> tuple[subprocess.Popen[str], str]:
        file = tmp_path / "serve.yaml"
        file.write_text(settings)
        command = [sys.executable, "-m", "taketurns", "serve", "--config", str(file)]
        server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        started.append(server)
        assert server.stderr is not None
        url = server.stderr.readline().split()[-1]
        for line in server.stderr:
            if json.loads(line)["message"] == "ready":
                break
        return server, url

    yield launch
    for server in started:
        server.kill()
        server.communicate()


def test_sigterm_finishes_what_is_under_way_and_takes_nothing_new(
    process: Callable[..., tuple[subprocess.Popen[str], str]],
) -> None:
    server, url = process("port: 0\nmax_running: 2\ndrain: 100\n")
    body = {
        "messages": [{"role": "user", "content": QUESTION}],
        "stream": True,
        "temperature": 2,
        "n": 6,
    }
    taken = threading.Semaphore(0)

    def read(seed: int) -> list[str]:
        with httpx.stream(
            "POST", f"{url}/v1/chat/completions", json=body | {"seed": seed}, timeout=60
        ) as reply:
            assert reply.status_code == 200
            taken.release()
            return list(reply.iter_lines())

    with ThreadPoolExecutor(4) as threads:
        running = [threads.submit(read, seed) for seed in range(4)]  # most of them wait
        for _ in running:  # a request that has not been taken by then would rightly be refused
            assert taken.acquire(timeout=30)
        server.send_signal(signal.SIGTERM)
        ready = _status(f"{url}/health/ready", 503)
        refused = httpx.post(f"{url}/v1/chat/completions", json=body)
        alive = httpx.get(f"{url}/health")
        streams = [one.result(timeout=60) for one in running]
    assert ready.json() == {"status": "leaving"}
    assert alive.status_code == 200
    assert refused.status_code == 503
    assert refused.json()["error"]["code"] == "shutting_down"
    assert refused.headers["retry-after"]
    for lines in streams:
        assert "data: [DONE]" in lines
    assert server.wait(timeout=20) == 0


class Loading(ScriptedEngine):
    """Its models take for ever to load."""

    async def load(self, model: str) -> None:
        while not self.closed:
            await asyncio.sleep(0)
        raise EngineError("the engine is closed")

    async def close(self) -> None:
        await super().close()
        await asyncio.sleep(0.05)  # as long as a thread takes to end


def test_leaving_while_the_models_load_is_no_failure() -> None:
    team = pair()
    team.engine = Loading({"a": forever("a"), "b": forever("b")})
    config = ServeConfig(port=0)
    server = TeamServer(Serving(ModelRegistry(team, "team"), config))
    with listen(config) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        eventually(lambda: server.loop is not None)
        server.handle_exit(signal.SIGTERM, None)
        thread.join(timeout=30)
    assert not thread.is_alive()
    assert server.failure is None


def test_streams_that_outlast_the_drain_are_told(start: Start) -> None:
    team = pair(delay=0.05)
    server = start(team, drain=0.2)
    chunks = stream(server, max_tokens=4000)
    next(chunks)
    server.server.handle_exit(signal.SIGTERM, None)
    with pytest.raises(openai.APIError, match="shutting down"):
        list(chunks)
    server.thread.join(timeout=10)
    assert not server.thread.is_alive()
    assert engine(team).open_sessions == 0
    assert engine(team).closed


def test_whoever_reads_slowly_is_waited_for(start: Start) -> None:
    server = start(pair(), max_tokens=20_000)
    with raw(server, {"messages": ASKED, "stream": True, "max_tokens": 5_000}) as client:
        eventually(lambda: bool(server.serving._open_groups))
        eventually(lambda: server.serving.gate.running == 0, seconds=30)  # written, not read
        server.server.handle_exit(signal.SIGTERM, None)
        eventually(lambda: not server.serving.gate.open)
        received = b""
        while piece := client.recv(1 << 20):
            received += piece
    assert b"data: [DONE]" in received
    server.thread.join(timeout=10)
    assert not server.thread.is_alive()


def _status(url: str, wanted: int) -> httpx.Response:
    until = time.monotonic() + 30
    while (reply := httpx.get(url)).status_code != wanted:
        assert time.monotonic() < until
    return reply


# Numbers that JSON does not have


@pytest.mark.parametrize("logprob", [float("-inf"), float("nan")])
def test_an_answer_with_no_number_ends_with_a_word(
    start: Start, monkeypatch: pytest.MonkeyPatch, logprob: float
) -> None:
    """Minus infinity is said as OpenAI says it; what cannot be said ends the stream as any failure,
    and what was written is in the body."""

    def weighed(token: int, logprobs: int | None) -> Token:
        return Token(token, logprob=logprob, top=((token, logprob),))

    monkeypatch.setattr("taketurns.engines.scripted._certain", weighed)
    server = start(pair())
    body = {"messages": ASKED, "logprobs": True, "top_logprobs": 1}
    with server.http() as http:
        reply = http.post("/v1/chat/completions", json=body)
        raw = http.post("/v1/chat/completions", json=body | {"stream": True}).text
    if logprob == float("-inf"):
        told = reply.json()["choices"][0]["logprobs"]["content"][0]
        assert told["logprob"] == told["top_logprobs"][0]["logprob"] == -9999.0
        assert "[DONE]" in raw
        return
    assert reply.status_code == 500
    assert reply.json()["error"]["code"] == "engine_error"
    assert reply.json()["taketurns"]["choices"][0]["text"] == "aaaabbbb" * 2 + "aaaa"
    *_, last = [line for line in raw.splitlines() if line.startswith("data: ")]
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "engine_error"


def test_a_switcher_that_gives_no_number_ends_the_stream_with_an_error(start: Start) -> None:
    scores = {"s": lambda text, choices: [float("nan"), 0.5]}
    policy = Policy(patch_size=4, max_tokens=20, opening=0)
    server = start(
        scripted({"a": forever("a"), "b": forever("b")}, LMSwitcher("s"), policy, scores=scores)
    )
    with server.http() as http:
        raw = http.post("/v1/chat/completions", json={"messages": ASKED, "stream": True}).text
        reply = http.post("/v1/chat/completions", json={"messages": ASKED})
    assert "aaaa" in raw
    assert raw.count("a model failed") == 1
    assert reply.status_code == 500
    assert reply.json()["taketurns"]["choices"][0]["text"] == "aaaa"
