"""What a plan says must follow from what was changed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from taketurns.errors import UsageError
from taketurns.integrations.planning.costs import load_costs
from taketurns.integrations.planning.deployment import Deployment
from taketurns.integrations.planning.result import SimulationResult
from taketurns.integrations.planning.simulation import simulate
from taketurns.integrations.planning.workload import AnswerMix, SimulatedAnswer, arrival_times

PAPER = load_costs("8b-h100")


def run(patch: int = 50, at_a_time: int = 32, seed: int = 0, **settings: Any) -> SimulationResult:
    deployment = Deployment(settings.pop("costs", PAPER), **settings)
    return simulate(
        deployment,
        AnswerMix(patch=patch, answer=150).draw(96, seed),
        at_a_time=at_a_time,
        seed=seed,
    )


def test_the_same_seed_gives_the_same_run() -> None:
    assert run(replicas=3, sticky=0.5) == run(replicas=3, sticky=0.5)
    assert run(seed=1).spans != run(seed=2).spans
    times = arrival_times(20, 50, seed=4)
    asked = AnswerMix().draw(50, 4)
    once, again = (simulate(Deployment(PAPER), asked, arrivals=times) for _ in range(2))
    assert once == again


def test_more_replicas_are_never_slower() -> None:
    rates = [run(replicas=replicas, at_a_time=128).tokens_per_second for replicas in (1, 2, 4, 8)]
    assert rates == sorted(rates)


def test_stickiness_is_worth_cache_hits_and_costs_none_on_one_replica() -> None:
    hits = [run(replicas=8, sticky=sticky).cached for sticky in (0.0, 0.5, 1.0)]
    assert hits == sorted(hits)
    assert hits[2] > 1.5 * hits[0]
    assert run(replicas=1, sticky=0.0).cached == run(replicas=1).cached
    assert run(replicas=8).cached == pytest.approx(run(replicas=1).cached, abs=0.01)
    assert run(replicas=8).away == 0


def test_an_answer_goes_elsewhere_when_its_home_is_full() -> None:
    full = run(replicas=2, at_a_time=64, concurrency=4)
    assert 0 < full.away < 0.5 * full.requests


def test_longer_patches_ask_less_and_write_faster() -> None:
    found = [run(patch=patch) for patch in (5, 10, 25, 50, 100)]
    requests = [one.requests for one in found]
    assert requests == sorted(requests, reverse=True)
    rates = [one.tokens_per_second for one in found]
    assert rates == sorted(rates)


def test_deciding_without_a_call_saves_its_servers_and_its_time() -> None:
    asked, folded = run(switcher="lm"), run(switcher="none")
    assert (asked.deployment.servers, folded.deployment.servers) == (4, 3)
    assert folded.requests == asked.requests / 2
    assert folded.tokens_per_second > asked.tokens_per_second
    assert run(switcher="adapter").deployment.servers == 3


def test_a_cache_that_is_too_small_forgets() -> None:
    small = run(costs=replace(PAPER, cache=1_500))
    assert small.cached < run().cached
    assert small.breaks > 0
    assert sum(span.tokens for span in small.spans) == sum(span.tokens for span in run().spans)


def test_what_people_wait_for_adds_up() -> None:
    """One answer on empty servers: its decisions, its prompts, its steps, and the way there."""
    costs = replace(PAPER, decode=((1, 0.01),), prefill=0.0, context=0.0, request=0.002,
                    client=0.003, network=0.004)  # fmt: skip
    found = simulate(Deployment(costs), [SimulatedAnswer(100, ((0, 50), (1, 50)))], at_a_time=1)
    (span,) = found.spans
    decision = 0.003 + 0.004 + 0.002 + 0.01 + 0.004
    assert span.first == pytest.approx(2 * decision)
    assert span.a_token * 99 == pytest.approx(98 * 0.01 + 0.004 + 2 * decision - 0.004)
    assert span.pauses == pytest.approx([2 * decision + 0.004 - 0.004])
    assert span.seconds == pytest.approx(4 * decision + 98 * 0.01)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(UsageError, match="does not fit a server with room for 100 tokens"):
        run(costs=replace(PAPER, cache=100))
    with pytest.raises(UsageError, match="candidate 2, but the deployment has only 2 candidates"):
        simulate(Deployment(PAPER, candidates=2), [SimulatedAnswer(10, ((2, 5),))], at_a_time=1)
    with pytest.raises(UsageError, match="sticky must be a share from 0 to 1"):
        Deployment(PAPER, sticky=2)


def test_lengths_do_not_change_with_the_patch_size() -> None:
    short, long = AnswerMix(patch=10).draw(50, 0), AnswerMix(patch=100).draw(50, 0)
    assert [(one.prompt, one.tokens) for one in short] == [(one.prompt, one.tokens) for one in long]
    mean = sum(one.tokens for one in AnswerMix().draw(4_000, 0)) / 4_000
    assert mean == pytest.approx(300, rel=0.03)
