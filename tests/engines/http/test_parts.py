"""What holds the engine together: who gets a request, who rests, and what counts as an answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taketurns import EngineError
from taketurns.engines.http.faults import RetryableError, parse_retry_after, refuse
from taketurns.engines.http.probe import models
from taketurns.engines.http.protocol import events, read_piece
from taketurns.engines.http.replicas import LONGEST_COOLDOWN, Replica
from taketurns.engines.http.requests import ServerCapabilities
from taketurns.engines.http.routing import Router, Unreachable
from taketurns.types import Sampling

VLLM = ServerCapabilities("vllm", "m", 2048, True, True, True, 0)
PLAIN = ServerCapabilities("other", "m", 2048, False, False, False, 5)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def router(count: int, clock: Clock, limit: int = 2, hopeless: int = 5) -> Router:
    replicas = [Replica(f"http://gpu{i}:8000", limit, clock) for i in range(count)]
    return Router(replicas, lambda replica: None, hopeless)


@given(st.integers(0, 1 << 62), st.integers(2, 8), st.data())
def test_an_answer_moves_only_when_its_own_server_goes(key: int, count: int, data: Any) -> None:
    """Rendezvous hashing: the prefix caches of the others stay of use."""
    clock = Clock()
    order = router(count, clock).order(key)
    gone = data.draw(st.sampled_from(order))
    left = [replica.url for replica in order if replica is not gone]
    remaining = Router(
        [Replica(url, 2, clock) for url in sorted(left)], lambda replica: None, hopeless=5
    )
    assert [replica.url for replica in remaining.order(key)] == left


def test_answers_are_spread_evenly() -> None:
    few = router(4, Clock())
    homes = [few.order(key)[0].url for key in range(2000)]
    assert all(420 < homes.count(replica.url) < 580 for replica in few.replicas)


async def test_home_first_then_the_least_loaded_then_whoever_is_free_first() -> None:
    three = router(3, Clock())
    home, *others = three.order(7)
    others[0].take()
    taken = [await three.acquire(7, (), 1.0) for _ in range(5)]
    assert taken[:3] == [home, home, others[1]]
    waiting = asyncio.create_task(three.acquire(7, (), 0.0))
    await asyncio.sleep(0.01)
    assert not waiting.done(), "all are busy, and none is ill: it waits as long as it takes"
    others[1].give_back()
    assert await waiting is others[1]


async def test_a_place_is_not_lost_when_the_one_who_waited_for_it_leaves() -> None:
    one = router(1, Clock(), limit=1)
    await one.acquire(1, (), 1.0)
    first, second = (asyncio.create_task(one.acquire(1, (), 1.0)) for _ in range(2))
    await asyncio.sleep(0)
    one.replicas[0].give_back()
    first.cancel()  # in the very moment it was woken
    async with asyncio.timeout(1):
        assert await second is one.replicas[0]


async def test_nobody_is_left_waiting_for_a_server_that_dies() -> None:
    one = router(1, Clock(), limit=1, hopeless=1)
    gpu = await one.acquire(1, (), 1.0)
    waiting = [asyncio.create_task(one.acquire(1, (), 1.0)) for _ in range(3)]
    await asyncio.sleep(0)
    gpu.failed(RetryableError("gone"), began=0.0)
    gpu.give_back()
    async with asyncio.timeout(1):
        said = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(error, Unreachable) for error in said)


@pytest.mark.parametrize("busy", [False, True])
async def test_a_server_that_comes_back_helps_those_who_wait_for_another(busy: bool) -> None:
    """Also when nobody else comes to ask."""
    clock = asyncio.get_running_loop().time
    full, ill = (Replica(f"http://gpu{i}:8000", 1, clock, first_cooldown=0.01) for i in range(2))
    two = Router([full, ill], lambda replica: replica.listed(), hopeless=5)
    ill.failed(RetryableError("ill", busy=busy), began=clock())
    full.take()
    async with asyncio.timeout(1):
        assert await two.acquire(1, (), 1.0) is ill


async def test_a_place_that_one_does_not_want_goes_to_the_next() -> None:
    two = router(2, Clock(), limit=1)
    home, other = two.order(3)
    home.take()
    other.take()
    choosy = asyncio.create_task(two.acquire(3, [other], 1.0))
    await asyncio.sleep(0)
    anywhere = asyncio.create_task(two.acquire(3, (), 1.0))
    await asyncio.sleep(0)
    other.give_back()
    async with asyncio.timeout(1):
        assert await anywhere is other
    home.give_back()
    async with asyncio.timeout(1):
        assert await choosy is home


async def test_those_that_failed_this_request_are_tried_last() -> None:
    two = router(2, Clock())
    home, other = two.order(3)
    assert await two.acquire(3, [home], 1.0) is other
    assert await two.acquire(3, [home, other], 1.0) is home


async def test_rest_grows_with_failures_in_a_row_and_one_crash_is_one_failure() -> None:
    clock = Clock()
    replica = Replica("http://gpu:8000", 64, clock, first_cooldown=0.5)
    for _ in range(40):  # all that was under way when it crashed
        replica.failed(RetryableError("gone"), began=-1.0)
        clock.now += 1e-6
    assert replica.failures == 1
    assert 0.5 <= replica.cooldown + 1e-4 <= 0.625 + 1e-3
    rests = []
    for _ in range(12):
        clock.now += 100
        replica.failed(RetryableError("gone"), began=clock.now)
        rests.append(replica.cooldown)
    assert rests[0] >= 1.0
    assert rests[-1] >= LONGEST_COOLDOWN
    assert max(rests) <= LONGEST_COOLDOWN * 1.25
    assert not replica.healthy
    replica.succeeded()
    clock.now += 100
    assert replica.healthy


async def test_to_list_its_models_is_not_enough_to_rest_less() -> None:
    """A server whose engine is dead may still list them."""
    clock = Clock()
    replica = Replica("http://gpu:8000", 64, clock, first_cooldown=0.5)
    rests = []
    for _ in range(4):
        replica.failed(RetryableError("status 500"), began=clock.now)
        rests.append(replica.cooldown)
        clock.now += replica.cooldown
        assert not replica.healthy
        replica.listed()
        assert replica.healthy
    assert rests[-1] >= 4.0
    replica.succeeded()
    replica.failed(RetryableError("status 500"), began=clock.now)
    assert replica.cooldown <= 0.625


async def test_a_busy_server_is_left_alone_for_as_long_as_it_asks() -> None:
    clock = Clock()
    replica = Replica("http://gpu:8000", 64, clock)
    replica.failed(RetryableError("429", retry_after=7.0, busy=True), began=0.0)
    assert replica.failures == 0
    assert 7.0 <= replica.cooldown <= 8.75
    clock.now = 9.0
    assert replica.healthy


async def test_nobody_waits_for_servers_that_failed_again_and_again() -> None:
    clock = Clock()
    two = router(2, clock)
    for replica in two.replicas:
        for _ in range(5):
            clock.now += 100
            replica.failed(RetryableError("connection refused"), began=clock.now)
    with pytest.raises(Unreachable, match="gpu0:8000: connection refused; http://gpu1"):
        await two.acquire(1, (), patience=1000.0)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("2", 2.0),
        ("0.5", 0.5),
        ("-3", 0.0),
        ("99999999", 300.0),
        ("nan", None),
        ("soon", None),
        ("Sat, 21 Nov 2026 12:00:30 GMT", 30.0),
        ("Sat, 21 Nov 2026 11:00:00 GMT", 0.0),
    ],
)
def test_retry_after_is_read_in_all_its_forms(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value, datetime(2026, 11, 21, 12, tzinfo=UTC)) == seconds


@pytest.mark.parametrize("status", [404, 408, 425, 429, 500, 502, 503, 504, 599])
def test_what_another_server_may_do_better_is_a_fault(status: int) -> None:
    fault = refuse(status, {"retry-after": "3"}, "busy", None)
    assert fault.retry_after == 3.0
    assert fault.busy == (status == 429)


@pytest.mark.parametrize(("status", "said"), [(400, "too long"), (401, "API key"), (422, "field")])
def test_what_every_server_would_refuse_is_no_fault(status: int, said: str) -> None:
    with pytest.raises(EngineError, match=said):
        refuse(status, {}, "too long a field", None)


def reply(**choice: Any) -> dict[str, Any]:
    return {"choices": [{"finish_reason": None, "token_ids": [1], "text": "a", **choice}]}


@pytest.mark.parametrize(
    "garbage",
    [
        None,
        [],
        "text",
        {},
        {"choices": [{}, {}]},
        {"choices": ["a"]},
        {"error": {"message": "CUDA error"}},
        reply(token_ids="ab"),
        reply(token_ids=[1.0]),
        reply(token_ids=[True]),
        reply(token_ids=[-1]),
        reply(token_ids=[300]),
        reply(finish_reason="abort"),
        reply(finish_reason=7),
    ],
    ids=str,
)
def test_a_reply_that_is_none_is_a_fault(garbage: Any) -> None:
    with pytest.raises(RetryableError):
        read_piece(garbage, VLLM, 300, Sampling(4))


@pytest.mark.parametrize("data", [None, 5, "m", {"id": "m"}, [5], [{"id": 5}], [{}]], ids=str)
def test_a_list_of_models_that_is_none_has_none(data: Any) -> None:
    assert models(data) == models({"data": data}) == []


def test_a_reply_without_the_logprobs_that_were_asked_for_is_a_fault() -> None:
    assert read_piece(reply(), VLLM, 300, Sampling(4)).tokens
    for logprobs in (None, {}, {"token_logprobs": [], "top_logprobs": []}):
        with pytest.raises(RetryableError, match="log-probabilities"):
            read_piece(reply(logprobs=logprobs), VLLM, 300, Sampling(4, logprobs=2))
        with pytest.raises(RetryableError, match="log-probabilities"):
            read_piece(reply(logprobs=logprobs), VLLM, 300, Sampling(4, choices=(7, 8)))
    with pytest.raises(RetryableError, match="no text"):
        read_piece(reply(text=None), PLAIN, 300, Sampling(4))


@pytest.mark.parametrize(
    ("wanted", "tops"),
    [
        (5, {"token_id:7": -0.5, "token_id:0": -9999.0}),
        (5, {"token_id:7": -0.5}),
        (1, {"token_id:7": -0.5, "token_id:0": -9999.0}),
        (1, {"token_id:0": -9999.0}),
    ],
)
def test_what_vllm_gives_in_one_batch_with_given_tokens_is_a_fault(
    wanted: int, tops: dict[str, float]
) -> None:
    right = {f"token_id:{token}": -1.0 - token for token in range(wanted)}
    for listed, harm in ((right, False), (tops, True)):
        data = reply(logprobs={"token_logprobs": [-0.5], "top_logprobs": [listed]})
        if harm:
            with pytest.raises(RetryableError, match="lacks the most probable tokens"):
                read_piece(data, VLLM, 300, Sampling(4, logprobs=wanted))
        else:
            (token,) = read_piece(data, VLLM, 300, Sampling(4, logprobs=wanted)).tokens
            assert len(token.top) == wanted
    # A model with fewer tokens than are asked for has no more to list.
    all_there_are = {"token_id:0": -0.7, "token_id:1": -0.7}
    data = reply(logprobs={"token_logprobs": [-0.7], "top_logprobs": [all_there_are]})
    assert read_piece(data, VLLM, 2, Sampling(4, logprobs=5)).tokens


async def parts(data: bytes, cuts: Iterable[int]) -> AsyncIterator[bytes]:
    begin = 0
    for end in [*sorted(cuts), len(data)]:
        yield data[begin:end]
        begin = end


@given(
    st.lists(st.dictionaries(st.text(max_size=5), st.text(max_size=9), max_size=3), max_size=6),
    st.lists(st.integers(0, 200), max_size=8),
)
async def test_a_stream_is_read_however_it_is_cut(values: list[Any], cuts: list[int]) -> None:
    lines = [f": ping\r\n\r\ndata: {json.dumps(value)}\r\n\r\n" for value in values]
    data = "".join([*lines, "data: [DONE]\n\n"]).encode()
    cuts = [min(cut, len(data)) for cut in cuts]
    assert [value async for value in events(parts(data, cuts))] == values
    with pytest.raises(RetryableError, match=r"ended before its .DONE|not JSON"):
        async for _ in events(parts(data[:-9], [])):
            pass
