"""What one replica may cost: the time limits mean what docs/servers.md says, and no odd reply of
one ends an answer that another could write."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from taketurns import Candidate, ModelSpec, Policy, Team
from taketurns.config.team_config import EngineConfig
from taketurns.engines.http import protocol
from taketurns.engines.http.client import Client, Key
from taketurns.engines.http.engine import HttpEngine
from taketurns.engines.http.faults import RetryableError, parse_retry_after, refuse
from taketurns.engines.http.requests import ServerCapabilities
from taketurns.engines.scripted import scripted_codec
from taketurns.errors import EngineError, UnavailableError
from taketurns.switchers.simple import FixedSwitcher
from taketurns.types import Completion, Endpoint, Sampling

Events = AsyncIterator[dict[str, Any]]
A, B, C = scripted_codec().encode("abc")
LONG = 60.0  # seconds, which no test may wait
VLLM = ServerCapabilities("vllm", "m", 2048, True, True, True, 0)
LLAMA = ServerCapabilities("llama.cpp", "m", 2048, True, True, False, 9, verbose=True)
PLAIN = ServerCapabilities("other", "m", 2048, False, False, False, 5)


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    folder = tmp_path_factory.mktemp("spelling")
    scripted_codec().tokenizer.save_pretrained(folder)
    return ModelSpec(str(folder), prompt="{text}")


def piece(text: str = "", finish: Any = None, **more: Any) -> dict[str, Any]:
    return {"choices": [{"text": text, "finish_reason": finish, **more}]}


class Stream(httpx.AsyncByteStream):
    """Events as they come; `closed` once the reader has left."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self.closed = asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for one in self._events:
            yield f"data: {json.dumps(one)}\n\n".encode()
        yield b"data: [DONE]\n\n"

    async def aclose(self) -> None:
        self.closed.set()


class Replicas:
    """Replicas of the model "a", by name: each answers a request for a patch by its function, and
    what finds out its abilities as vLLM does, or as a server without ids where `ids` is False."""

    def __init__(self, ids: bool = True, **patches: Callable[[], Any]) -> None:
        self.ids = ids
        self.patches = patches
        self.asked: list[str] = []
        self.streams: list[Stream] = []

    async def reply(self, request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            found = request.url.path == "/v1/models"
            listed = {"data": [{"id": "a", "max_model_len": 999}]}
            return httpx.Response(200 if found else 404, json=listed)
        if request.url.path != "/v1/completions":
            return httpx.Response(404)
        asked = json.loads(request.content)
        if asked["max_tokens"] == 1 and len(asked["prompt"]) == len("1 + 1 = 2"):
            tops = [{f"token_id:{i}": -1.0 for i in asked.get("logprob_token_ids", ())}]
            found_ids = {"token_ids": [A]} if self.ids else {}
            body = piece("a", "length", logprobs={"top_logprobs": tops}, **found_ids)
            return httpx.Response(200, json=body)
        self.asked.append(request.url.host)
        made = self.patches[request.url.host]()
        if isinstance(made, httpx.Response):
            return made
        self.streams.append(Stream(made))
        return httpx.Response(200, stream=self.streams[-1])

    @asynccontextmanager
    async def engine(self, spec: ModelSpec, **settings: Any) -> AsyncIterator[HttpEngine]:
        urls = tuple(f"http://{name}" for name in self.patches)
        options = {"timeout": LONG, "token_timeout": LONG, "retries": 3, **settings}
        engine = HttpEngine(
            [Candidate("a", spec, Endpoint(urls))],
            EngineConfig(kind="http", **options),
            first_cooldown=0.0,
        )
        engine.connect = lambda: httpx.MockTransport(self.reply)
        try:
            yield engine
        finally:
            await engine.close()

    async def patch(self, spec: ModelSpec, tokens: int = 2, **settings: Any) -> Completion:
        """A patch, which takes far less than `LONG` once the servers are known."""
        async with self.engine(spec, **settings) as engine, engine.session(0) as session:
            await engine.info("a")
            async with asyncio.timeout(LONG / 4):
                return await session.generate("a", [A], Sampling(tokens, 0.0), lambda token: None)


async def well() -> Events:
    yield piece("b", token_ids=[B])
    yield piece("c", "length", token_ids=[C])


@pytest.mark.parametrize("ids", [True, False])
async def test_a_replica_that_writes_on_is_left_with_the_patch(spec: ModelSpec, ids: bool) -> None:
    async def endless() -> Events:
        while True:
            yield piece("b", **({"token_ids": [B]} if ids else {}))
            await asyncio.sleep(0.01)

    replicas = Replicas(ids, one=endless)
    done = await replicas.patch(spec)
    assert (done.text or scripted_codec().decode(done.token_ids)) == "bb"
    assert done.finish == "length"
    assert replicas.streams[0].closed.is_set()


async def test_a_stream_that_does_not_end_with_its_patch_is_closed(
    spec: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of its further events used to give it another second."""
    monkeypatch.setattr("taketurns.engines.http.patch_request._LAST_WORDS", 0.2)

    async def lingering() -> Events:
        async for one in well():
            yield one
        while True:
            yield {"choices": []}
            await asyncio.sleep(0.01)

    replicas = Replicas(one=lingering)
    done = await replicas.patch(spec)
    assert done.token_ids == (B, C)
    assert replicas.streams[0].closed.is_set()


@pytest.mark.parametrize("empty", [{"choices": []}, piece(token_ids=[])], ids=["none", "empty"])
@pytest.mark.parametrize("before", [0, 1])
async def test_events_without_tokens_are_silence(
    spec: ModelSpec, empty: dict[str, Any], before: int
) -> None:
    """From the first event on, whether or not a token came before."""

    async def chatter() -> Events:
        for _ in range(before):
            yield piece("b", token_ids=[B])
        while True:
            yield empty
            await asyncio.sleep(0.01)

    async def rest() -> Events:
        for token in [B, C][before:]:
            yield piece("x", "length" if token == C else None, token_ids=[token])

    left = [chatter, rest]

    def turn() -> Events:
        return left.pop(0)()

    replicas = Replicas(one=turn, two=turn)
    done = await replicas.patch(spec, token_timeout=0.2)
    assert done.token_ids == (B, C)
    assert len(replicas.asked) == 2


@pytest.mark.parametrize("silent", [False, True], ids=["drip", "silent"])
async def test_a_patch_has_one_time_limit_for_all_its_tries(spec: ModelSpec, silent: bool) -> None:
    """Twice that of a request: it used to be as many times that as there are tries."""

    async def drip() -> Events:
        while True:
            await asyncio.sleep(LONG if silent else 0.02)
            yield piece("b", token_ids=[B])

    replicas = Replicas(one=drip, two=drip)
    with pytest.raises(UnavailableError, match=r"2 attempts in 0\.8 seconds"):
        await replicas.patch(spec, tokens=500, timeout=0.4, retries=9)
    assert sorted(replicas.asked) == ["one", "two"]


async def test_time_in_line_is_no_time_of_a_patch(spec: ModelSpec) -> None:
    """A server that is busy with other patches is waited for."""

    async def slow() -> Events:
        await asyncio.sleep(0.25)
        async for one in well():
            yield one

    replicas = Replicas(one=slow)
    async with replicas.engine(spec, timeout=0.4, concurrency=1) as engine:

        async def ask(seed: int) -> Completion:
            async with engine.session(seed) as session:
                return await session.generate("a", [A], Sampling(2, 0.0), lambda token: None)

        found = await asyncio.gather(*map(ask, range(5)))  # the last waits for a second
    assert [one.token_ids for one in found] == [(B, C)] * 5


ODD: list[dict[str, Any]] = [
    {"status_code": 503, "headers": {"retry-after": f"Sat, {'9' * 30} Nov 2026 12:00:00 GMT"}},
    {"status_code": 503, "headers": {"retry-after": "Fri, 31 Dec 9999 23:59:59 -2359"}},
    {"status_code": 301, "headers": {"location": "https://elsewhere/"}},
    {"status_code": 302, "headers": {"location": "http://[half"}},
    {"status_code": 304},
    {"status_code": 204},
    {"status_code": 206, "json": {}},
    {"status_code": 418, "text": "I am a teapot"},
    {"status_code": 200, "text": ""},
    {"status_code": 200, "text": "x", "headers": {"content-encoding": "gzip"}},
    {"status_code": 200, "json": piece("b", "length", token_ids=[10**400])},
    {"status_code": 200, "text": '{"choices": [{"text": "b", "finish_reason": 1e999}]}'},
]


def _odd(options: dict[str, Any]) -> Any:
    try:
        return httpx.Response(**options)
    except httpx.DecodingError:  # a body that is given is read at once

        async def chunks() -> AsyncIterator[bytes]:
            yield options["text"].encode()

        return httpx.Response(200, headers=options["headers"], content=chunks())


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: str(odd)[:60])
async def test_an_odd_reply_of_one_replica_lets_another_try(
    spec: ModelSpec, odd: dict[str, Any]
) -> None:
    left = [lambda: _odd(odd), well]

    def turn() -> Any:
        return left.pop(0)()

    replicas = Replicas(one=turn, two=turn)
    done = await replicas.patch(spec)
    assert done.token_ids == (B, C)
    assert len(set(replicas.asked)) == 2


async def test_the_record_says_what_each_replica_replied(spec: ModelSpec) -> None:
    replicas = Replicas(
        one=lambda: httpx.Response(301, headers={"location": "https://elsewhere/"}),
        two=lambda: httpx.Response(418, text="I am a teapot"),
    )
    async with replicas.engine(spec, retries=1) as engine:
        models = [Candidate("a", spec), Candidate("a", spec)]
        team = Team(models, engine, FixedSwitcher([0]), Policy(patch_size=2, max_tokens=2))
        trace = await team.agenerate("a")
    assert trace.error is not None
    assert "http://one: status 301: it redirects to https://elsewhere/" in trace.error
    assert "http://two: status 418: I am a teapot" in trace.error


@given(st.text() | st.from_regex(r"\w{3}, -?\d{1,12} \w{3} \d{1,9} \d+:\d+:\d+ [+-]\d{1,9}"))
@example(f"Sat, {'9' * 30} Nov 2026 12:00:00 GMT")
@example("Fri, 31 Dec 9999 23:59:59 -2359")
def test_any_retry_after_is_read_or_left_aside(value: str) -> None:
    seconds = parse_retry_after(value)
    assert seconds is None or 0 <= seconds <= 300


@pytest.mark.parametrize("status", [201, 204, 206, 301, 304, 308, 402, 405, 410, 418, 451, 600])
def test_any_status_is_a_fault_of_its_server(status: int) -> None:
    """But those of a request that every server would refuse."""
    assert isinstance(refuse(status, {}, "", None), RetryableError)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.sampled_from([10**400, -1, 1e999, float("nan"), "\ud800", "token_id:1", "token_id:x"])
    | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["token_id:1", "id", "logprob", "token"]), inner)
        | st.fixed_dictionaries(
            {},
            optional=dict.fromkeys(
                ["content", "top_logprobs", "token_logprobs", "prompt_tokens_details",
                 "cached_tokens", "prompt_tokens", "tokens", "tokens_predicted"], inner
            ),
        )
    ),
    max_leaves=12,
)  # fmt: skip
CHOICE = st.fixed_dictionaries(
    {},
    optional={
        "token_ids": JSON | st.just([1]),
        "text": JSON,
        "finish_reason": JSON | st.just("length"),
        "logprobs": JSON,
    },
)
REPLY = st.fixed_dictionaries(
    {"choices": st.lists(CHOICE, min_size=1, max_size=1)},
    optional={"usage": JSON, "error": JSON, "__verbose": JSON},
)


@given(REPLY, st.sampled_from([VLLM, LLAMA, PLAIN]), st.sampled_from([None, 0, 2]))
@example(
    piece("b", token_ids=[1], logprobs={"top_logprobs": [{"token_id:1": 10**400}]}), VLLM, None
)
def test_any_json_is_a_piece_or_a_fault(
    reply: Any, abilities: ServerCapabilities, logprobs: int | None
) -> None:
    choices = (1,) if logprobs is None else ()
    try:
        found = protocol.read_piece(
            reply, abilities, 300, Sampling(4, logprobs=logprobs, choices=choices)
        )
        found.text.encode()
        assert found.usage is None or min(found.usage.prompt, found.usage.cached) >= 0
    except (RetryableError, UnavailableError):
        pass
    with suppress(RetryableError, EngineError):
        protocol.top_logprobs(reply["choices"][0])


@pytest.mark.parametrize("value", [10**400, -(10**400)])
def test_a_number_that_no_float_holds_is_a_fault(value: int) -> None:
    tops = {"top_logprobs": [{"token_id:1": value}], "token_logprobs": [value]}
    for sampling in (Sampling(4, logprobs=1), Sampling(4, choices=(1,))):
        with pytest.raises(RetryableError):
            protocol.read_piece(piece("b", token_ids=[1], logprobs=tops), VLLM, 300, sampling)


async def test_a_reply_without_an_end_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taketurns.engines.http.client._LONGEST", 1000)
    monkeypatch.setattr("taketurns.engines.http.protocol._LONGEST", 1000)
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(10_000):
            sent += 100
            yield b"x" * 100

    client = Client(
        lambda: httpx.MockTransport(lambda request: httpx.Response(200, content=endless()))
    )

    async def read() -> None:
        async with client.stream("http://one/v1/completions", {}, Key(), 5.0) as (events, _):
            async for _ in events:
                pass

    with pytest.raises(RetryableError, match="longer than 1,000 bytes"):
        await client.get("http://one/v1/models", Key(), 5.0)
    with pytest.raises(RetryableError, match="longer than 1,000 bytes"):
        await read()
    assert sent < 4000
    await client.close()
