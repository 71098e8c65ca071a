"""A server's blocks: what is found, what is given up, and that none is lost."""

from __future__ import annotations

from collections.abc import Hashable

import simpy
from hypothesis import given
from hypothesis import strategies as st

from taketurns.integrations.planning.blocks import Blocks
from taketurns.integrations.planning.costs import Costs
from taketurns.integrations.planning.deployment import Deployment
from taketurns.integrations.planning.server import SimulatedCall, SimulatedServer
from taketurns.integrations.planning.simulation import simulate
from taketurns.integrations.planning.workload import SimulatedAnswer, split_patches


def write(blocks: Blocks, names: list[Hashable]) -> None:
    blocks.take(len(names))
    blocks.name(names)
    blocks.release(names, 0)


def test_what_was_left_first_is_given_up_first_and_its_end_before_its_beginning() -> None:
    blocks = Blocks(4)
    write(blocks, ["a0", "a1"])
    write(blocks, ["b0", "b1"])
    blocks.take(1)
    assert blocks.find(["a0", "a1"]) == ["a0"]
    assert blocks.find(["b0", "b1"]) == ["b0", "b1"]


def test_a_block_in_use_is_kept() -> None:
    blocks = Blocks(2)
    write(blocks, ["a"])
    blocks.hold(["a"])
    blocks.take(1)
    assert blocks.free == 0
    assert blocks.find(["a"]) == ["a"]


@given(
    lengths=st.lists(st.tuples(st.integers(1, 90), st.integers(1, 60)), min_size=1, max_size=12),
    chunked=st.booleans(),
    shared=st.integers(0, 40),
)
def test_no_memory_is_lost_however_little_there_is(
    lengths: list[tuple[int, int]], chunked: bool, shared: int
) -> None:
    """All calls end with all their tokens, also where answers must be put off, and every block is
    free in the end."""
    costs = Costs("", ((1, 0.01),), prefill=0.001, block=8, cache=160, budget=160 if not chunked
                  else 20, chunked=chunked)  # fmt: skip
    env = simpy.Environment()
    server = SimulatedServer(env, costs, env_work(env))
    calls = [
        SimulatedCall(0, index, prompt, tokens, env.event(), shared=min(shared, prompt))
        for index, (prompt, tokens) in enumerate(lengths)
    ]
    for call in calls:
        env.process(server.serve(call))
    env.run()
    assert all(call.done.triggered for call in calls)
    assert server._blocks.free == server._blocks.capacity
    assert server._context == 0
    assert all(call.length - call.prompt < call.write for call in calls)


def env_work(env: simpy.Environment):  # type: ignore[no-untyped-def]
    def work(seconds: float):  # type: ignore[no-untyped-def]
        yield env.timeout(seconds)

    return work


def team(answer: SimulatedAnswer, **settings: object) -> float:
    costs = Costs("", ((1, 0.01),), prefill=0.0, block=16)
    found = simulate(Deployment(costs, **settings), [answer], at_a_time=1)  # type: ignore[arg-type]
    return found.cached


def test_one_model_finds_whole_blocks_of_all_it_has_read_and_written() -> None:
    """200 tokens before the answer; each patch but the first finds the blocks of everything but the
    last token, which is not computed before it is asked for."""
    answer = SimulatedAnswer(200, tuple((0, tokens) for tokens in split_patches(300, 50)))
    starts = [200 + 50 * turn for turn in range(6)]
    found = sum((start - 1) // 16 * 16 for start in starts[1:])
    assert team(answer, candidates=1, switcher="none") == found / sum(starts)


def test_who_comes_back_finds_what_it_had_read_and_not_what_others_wrote() -> None:
    answer = SimulatedAnswer(64, ((0, 32), (1, 32), (0, 32)))
    read = 64 + 96 + 128
    assert team(answer, candidates=2, switcher="none") == (64 + 32 - 16) / read


def test_the_switcher_finds_the_trace_but_not_its_question() -> None:
    answer = SimulatedAnswer(64, ((0, 16), (0, 16)))
    alone = team(answer, candidates=1, switcher="none")
    assert alone == 64 / (64 + 80)
    with_switcher = team(answer, candidates=1, switcher="lm", tags=16, question=8)
    assert with_switcher == (64 + 64) / (64 + 80 + 72 + 104)


def test_an_adapter_does_not_find_what_its_base_has_read() -> None:
    answer = SimulatedAnswer(64, ((0, 16),))
    assert team(answer, candidates=1, switcher="adapter", tags=0, question=1) == 0
    assert team(answer, candidates=1, switcher="adapter", shared=64) == 0


def test_a_common_beginning_is_read_once() -> None:
    costs = Costs("", ((1, 0.01),), prefill=0.0, block=16)
    deployment = Deployment(costs, candidates=1, switcher="none", shared=160)
    found = simulate(deployment, [SimulatedAnswer(200, ((0, 10),))] * 10, at_a_time=1)
    assert found.cached == 9 * 160 / 2000
