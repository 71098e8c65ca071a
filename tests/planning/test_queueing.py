"""The simulation against what queueing theory says in closed form."""

from __future__ import annotations

from collections.abc import Sequence
from math import factorial

import numpy as np
import pytest

from taketurns.integrations.planning.costs import Costs
from taketurns.integrations.planning.deployment import Deployment
from taketurns.integrations.planning.result import SimulationResult
from taketurns.integrations.planning.simulation import simulate
from taketurns.integrations.planning.workload import SimulatedAnswer, arrival_times

MILLISECOND = Costs("a millisecond a prompt token", ((1, 0.0),), prefill=0.001)
"""Of calls that write one token, a step serves one after another: a server is a queue's."""


def queue(
    prompts: Sequence[int], rate: float, servers: int = 1, **settings: object
) -> SimulationResult:
    """One call an answer, whose service takes a millisecond a prompt token, one at a time."""
    deployment = Deployment(
        MILLISECOND, candidates=1, replicas=servers, switcher="none", concurrency=1, **settings
    )  # type: ignore[arg-type]
    asked = [SimulatedAnswer(max(1, tokens), ((0, 1),)) for tokens in prompts]
    return simulate(deployment, asked, arrivals=arrival_times(rate, len(asked), seed=3))


def exponential(mean: float, count: int) -> list[int]:
    drawn = np.random.default_rng(0).exponential(mean, count)
    return [round(float(length)) for length in drawn]


@pytest.mark.parametrize(("servers", "load"), [(1, 0.7), (4, 0.8)])
def test_many_servers_with_random_services_wait_as_erlang_says(servers: int, load: float) -> None:
    mean = 0.2
    found = queue(exponential(1000 * mean, 12_000), servers * load / mean, servers)
    offered = servers * load
    last = offered**servers / factorial(servers) / (1 - load)
    waits = last / (sum(offered**k / factorial(k) for k in range(servers)) + last)
    expected = mean + waits * mean / (servers * (1 - load))
    assert np.mean([span.seconds for span in found.spans]) == pytest.approx(expected, rel=0.1)
    assert sum(found.busy) / servers / found.seconds == pytest.approx(load, rel=0.03)


def test_equal_services_wait_half_as_long() -> None:
    """Pollaczek and Khinchine for M/D/1."""
    found = queue([100] * 12_000, rate=7)
    expected = 0.1 + 0.7 * 0.1 / (2 * 0.3)
    assert np.mean([span.seconds for span in found.spans]) == pytest.approx(expected, rel=0.05)


def test_regular_questions_never_wait() -> None:
    """D/D/1 below its capacity."""
    deployment = Deployment(MILLISECOND, candidates=1, switcher="none")
    times = [0.11 * index for index in range(200)]
    found = simulate(deployment, [SimulatedAnswer(100, ((0, 1),))] * 200, arrivals=times)
    assert [span.seconds for span in found.spans] == pytest.approx([0.1] * 200)
    assert not found.grows


def test_more_than_can_be_done_is_said_to_be() -> None:
    assert queue([100] * 400, rate=15).grows
    assert not queue([100] * 400, rate=7).grows


def test_littles_law_holds_in_the_batch() -> None:
    """Mean number in a batch = rate of calls x mean time in it. The first is integrated over time
    by the server, the second follows from the answers."""
    costs = Costs("", ((1, 0.01), (8, 0.02)), prefill=1e-4, sequences=64)
    deployment = Deployment(costs, candidates=1, switcher="none", concurrency=64)
    asked = [SimulatedAnswer(50, ((0, 40),))] * 2_000
    found = simulate(deployment, asked, arrivals=arrival_times(10, 2_000, seed=1))
    rate, time = found.answers_per_second, np.mean([span.seconds for span in found.spans])
    # A call waits for the step that runs when it comes; the batch has it from then on.
    waiting = 0.5 * np.mean([span.a_token for span in found.spans])
    assert found.sequences / found.seconds == pytest.approx(rate * (time - waiting), rel=0.03)


@pytest.mark.parametrize("at_a_time", [1, 8, 64])
def test_a_full_batch_writes_a_token_for_each_a_step(at_a_time: int) -> None:
    costs = Costs("", ((1, 0.006), (8, 0.007), (64, 0.02)), prefill=0.0)
    deployment = Deployment(costs, candidates=1, switcher="none")
    asked = [SimulatedAnswer(20, ((0, 100),))] * (4 * at_a_time)
    found = simulate(deployment, asked, at_a_time=at_a_time)
    assert found.tokens_per_second == pytest.approx(at_a_time / costs.step(at_a_time, 0, 0))


def test_a_prompt_is_read_beside_what_is_written() -> None:
    """Two answers: the second's prompt makes one step of the first longer, and no other."""
    costs = Costs("", ((1, 0.01),), prefill=0.001)
    deployment = Deployment(costs, candidates=1, switcher="none")
    asked = [SimulatedAnswer(100, ((0, 50),)), SimulatedAnswer(200, ((0, 1),))]
    first, second = simulate(deployment, asked, arrivals=[0.0, 0.2]).spans
    assert first.seconds == pytest.approx(0.1 + 50 * 0.01 + 0.2)
    assert second.seconds == pytest.approx(0.01 + 0.01 + 0.2, abs=0.01)


def test_shared_cores_are_a_limit() -> None:
    """Four servers on two cores do what two do."""
    costs = Costs("", ((1, 0.01),), prefill=0.0)
    asked = [SimulatedAnswer(20, ((index % 4, 100),)) for index in range(80)]
    free, two = (
        simulate(Deployment(costs, candidates=4, switcher="none", cores=cores), asked, at_a_time=32)
        for cores in (None, 2)
    )
    assert free.tokens_per_second / two.tokens_per_second == pytest.approx(2, rel=0.05)
