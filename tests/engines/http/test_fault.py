"""Servers die, hang, lie and come back, and no reader of an answer sees anything of it.

All candidates write one and the same long text, each going on where the prompt ends, so an answer
is right exactly if it is the beginning of that text: what is repeated, lost or re-ordered shows.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from taketurns import Candidate, ModelSpec, Policy, Query, ScriptedEngine, Team
from taketurns.config.team_config import EngineConfig
from taketurns.engines.http.engine import HttpEngine
from taketurns.engines.scripted import scripted_codec
from taketurns.server.metrics import Metrics
from taketurns.switchers.base import Switcher
from taketurns.switchers.lm import LMSwitcher
from taketurns.switchers.simple import FixedSwitcher, RandomSwitcher
from taketurns.types import Delta, Endpoint, Patch, Sampling, Trace

from .proxy import Misfortune, Proxy
from .served import ModelServer, serving

STORY = " ".join(str(number) for number in range(4000))
NAMES = ("a", "b", "c")
FORTUNE: dict[Misfortune, float] = {"none": 1.0}
MISFORTUNES: dict[Misfortune, float] = {
    "none": 0.75,
    "cut": 0.08,
    "refuse": 0.03,
    "error": 0.03,
    "busy": 0.03,
    "garbage": 0.04,
    "hang": 0.005,
    "slow": 0.035,
}


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    folder = tmp_path_factory.mktemp("spelling")
    scripted_codec().tokenizer.save_pretrained(folder)
    return ModelSpec(str(folder), prompt="{text}")


def storyteller(delay: float = 0.0) -> ScriptedEngine:
    """Models that go on with the story where the prompt breaks off, and an undecided switcher."""

    def go_on(prompt: str, sampling: Sampling) -> str:
        told = prompt.partition("?")[2]
        assert STORY.startswith(told), "the prompt is not what was given out"
        return STORY[len(told) : len(told) + sampling.max_tokens]

    def even(prompt: str, choices: Sequence[int]) -> list[float]:
        return [1 / len(choices)] * len(choices)

    models = [*NAMES, "switcher"]
    return ScriptedEngine(
        {**dict.fromkeys(NAMES, go_on), "switcher": ["0"]},
        scores=dict.fromkeys(models, even),
        delay=delay,
    )


@dataclass
class World:
    """A team on servers behind proxies: `proxies[model]` are those of its replicas."""

    team: Team
    engine: HttpEngine
    proxies: dict[str, list[Proxy]]


@asynccontextmanager
async def world(
    spec: ModelSpec,
    odds: dict[Misfortune, float],
    *,
    seed: int = 0,
    replicas: int = 2,
    delay: float = 0.0,
    switcher: Switcher | None = None,
    policy: Policy | None = None,
    **settings: Any,
) -> AsyncIterator[World]:
    server = ModelServer(storyteller(delay), (*NAMES, "switcher"))
    async with serving(server):
        proxies = {
            name: [Proxy(server.url, seed * 100 + 10 * m + r, odds) for r in range(replicas)]
            for m, name in enumerate([*NAMES, "switcher"])
        }
        every = [proxy for those in proxies.values() for proxy in those]
        listening = [await proxy.start() for proxy in every]
        models = [
            Candidate(name, spec, Endpoint(tuple(proxy.url for proxy in those)))
            for name, those in proxies.items()
        ]
        options: dict[str, Any] = {"timeout": 4.0, "token_timeout": 0.3, "retries": 6, **settings}
        engine = HttpEngine(models, EngineConfig(kind="http", **options), first_cooldown=0.005)
        for name in (*NAMES, "switcher"):
            for proxy in proxies[name]:
                proxy.odds = FORTUNE
            await engine.info(name)
            for proxy in proxies[name]:
                proxy.odds = odds
        try:
            yield World(
                Team(
                    models[:3],
                    engine,
                    switcher or LMSwitcher("switcher"),
                    policy or Policy(patch_size=8, max_tokens=24, top_p=1.0),
                ),
                engine,
                proxies,
            )
        finally:
            await engine.close()
            for one in listening:
                one.close()
            for proxy in every:
                await proxy.stop()


async def read(team: Team, number: int) -> Trace:
    """An answer as its reader sees it, held against what is recorded of it."""
    text, told, patches, pending = "", list[int](), list[Patch](), ""
    async for event in team.stream(Query(id=str(number), text=f"Q{number}?")):
        if isinstance(event, Delta):
            text += event.text
            pending += event.text
            told += [token.id for token in event.tokens if token.id is not None]
        elif isinstance(event, Patch):
            assert event.text == pending
            patches.append(event)
            pending = ""
        else:
            trace = event
    assert pending == ""
    assert text == trace.text == STORY[: len(text)]
    assert told == [token for patch in trace.patches for token in patch.token_ids]
    assert told == scripted_codec().encode(text)
    assert tuple(patches) == trace.patches
    return trace


async def read_many(team: Team, answers: int, *, at_a_time: int = 32) -> list[Trace]:
    free = asyncio.Semaphore(at_a_time)

    async def one(number: int) -> Trace:
        async with free:
            if number % 4:
                return await read(team, number)
            # Nobody watches: the other way of asking.
            trace = await team.agenerate(Query(id=str(number), text=f"Q{number}?"))
            assert trace.text == STORY[: len(trace.text)]
            return trace

    return list(await asyncio.gather(*map(one, range(answers))))


async def busy(proxies: Sequence[Proxy], requests: int) -> None:
    """Wait until the servers are in the middle of so many replies."""
    before = sum(proxy.seen.get("none", 0) for proxy in proxies)
    while sum(proxy.seen.get("none", 0) for proxy in proxies) < before + requests:
        await asyncio.sleep(0.001)
    await flowing(proxies, requests // 2)


async def flowing(proxies: Sequence[Proxy], streams: int) -> None:
    """Wait until so many streams are in the middle and what has been passed on is read."""
    while sum(len(proxy.flowing) for proxy in proxies) < streams:
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.01)


def reasons(traces: Sequence[Trace]) -> Counter[str]:
    return Counter(patch.reason for trace in traces for patch in trace.patches)


async def test_fault_nothing_is_repeated_lost_or_reordered(spec: ModelSpec) -> None:
    """300 answers, a quarter of whose requests meet a misfortune."""
    async with world(spec, MISFORTUNES, switcher=RandomSwitcher()) as here:
        traces = await read_many(here.team, 300)
        assert [trace.error for trace in traces if trace.error] == []
        assert {trace.tokens for trace in traces} == {24}
        seen = sum((Counter(p.seen) for those in here.proxies.values() for p in those), Counter())
        assert set(seen) == set(MISFORTUNES)
        assert sum(seen.values()) - seen["none"] - seen["slow"] > 150
        for name in NAMES:
            assert here.engine.counters(name).faults


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 6))
async def test_fault_long_answers(spec: ModelSpec, seed: int) -> None:
    """The same with 1,000 answers of 200 tokens: `make test-faults`."""
    policy = Policy(patch_size=16, max_tokens=200, top_p=1.0)
    settings: dict[str, Any] = {"seed": seed, "replicas": 3, "policy": policy, "timeout": 10.0}
    async with world(spec, MISFORTUNES, **settings) as here:
        traces = await read_many(here.team, 1000, at_a_time=64)
        assert [trace.error for trace in traces if trace.error] == []
        assert {trace.tokens for trace in traces} == {200}


async def test_fault_a_replica_that_dies_in_mid_answer_costs_nothing(spec: ModelSpec) -> None:
    async with world(spec, FORTUNE, delay=0.01, switcher=RandomSwitcher()) as here:
        reading = asyncio.create_task(read_many(here.team, 24))
        for name in NAMES:
            await busy(here.proxies[name], 4)
            await here.proxies[name][0].die()
        traces = await reading
        assert {trace.tokens for trace in traces} == {24}
        assert reasons(traces).keys() == {"chosen"}


async def test_fault_a_replica_that_comes_back_gets_work_again(spec: ModelSpec) -> None:
    async with world(spec, FORTUNE, switcher=FixedSwitcher([0])) as here:
        one, _ = here.proxies["a"]
        await one.die()
        await read_many(here.team, 20)
        seen = one.seen.get("none", 0)
        one.dead = False
        await asyncio.sleep(0.05)
        await read_many(here.team, 20)
        assert one.seen["none"] > seen


async def test_fault_another_candidate_stands_in_and_the_trace_says_so(spec: ModelSpec) -> None:
    async with world(spec, FORTUNE, delay=0.01, switcher=FixedSwitcher([0, 1]), retries=2) as here:
        reading = asyncio.create_task(read_many(here.team, 24))
        await busy(here.proxies["b"], 8)
        for proxy in here.proxies["b"]:
            await proxy.die()
        traces = await reading
        assert [trace.error for trace in traces if trace.error] == []
        assert {trace.tokens for trace in traces} == {24}
        broken = [p for t in traces for p in t.patches if p.finish == "error"]
        assert broken, "none was in mid-patch"
        assert {patch.speaker for patch in broken} == {1}
        for trace in traces:
            for patch, after in zip(trace.patches, trace.patches[1:], strict=False):
                if patch.finish == "error":
                    assert after.reason == "fallback"
        stood_in = [p for t in traces for p in t.patches if p.reason == "fallback"]
        assert len(stood_in) > len(broken)
        assert {patch.speaker for patch in stood_in} == {0}
        metrics = Metrics()
        for trace in traces:
            for patch in trace.patches:
                metrics.patch("team", list(NAMES), patch)
        counted = f'taketurns:fallbacks_total{{model_name="team",speaker="a"}} {len(stood_in)}.0'
        assert counted in metrics.text().decode()


async def test_fault_when_all_are_gone_the_answer_ends_with_what_there_is(spec: ModelSpec) -> None:
    async with world(spec, FORTUNE, delay=0.005, retries=1, switcher=FixedSwitcher([0])) as here:
        reading = asyncio.create_task(read(here.team, 1))
        await flowing(here.proxies["a"], 1)
        for name in NAMES:
            for proxy in here.proxies[name]:
                await proxy.die()
        trace = await reading
        assert trace.error is not None
        assert "can be reached" in trace.error or "gave no answer" in trace.error
        assert 0 < trace.tokens < 24
        again = await read(here.team, 2)
        assert again.tokens == 0
        assert again.error is not None


async def test_fault_without_its_switcher_an_answer_ends(spec: ModelSpec) -> None:
    async with world(spec, FORTUNE, delay=0.005, retries=1) as here:
        reading = asyncio.create_task(read(here.team, 1))
        await flowing([proxy for name in NAMES for proxy in here.proxies[name]], 1)
        for proxy in here.proxies["switcher"]:
            await proxy.die()
        trace = await reading
        assert trace.error is not None
        assert "switcher" in trace.error
        assert trace.tokens > 0


async def test_fault_a_given_turn_and_a_fork_have_no_stand_in(spec: ModelSpec) -> None:
    """Rollouts measure what a candidate's own patch is worth."""
    from taketurns.errors import UnavailableError

    async with world(spec, FORTUNE, retries=0, switcher=FixedSwitcher([1])) as here:
        for proxy in here.proxies["b"]:
            await proxy.die()
        draft = await here.team.draft(Query(id="1", text="Q?"))
        async with here.team.answer(draft, 0) as answer:
            with pytest.raises(UnavailableError):
                await answer.step(1)
            async with answer.fork(1) as fork:
                with pytest.raises(UnavailableError):
                    await fork.step()
            assert (await answer.step()).reason == "fallback"


@pytest.mark.parametrize("rule", ["opening", "closing"])
async def test_fault_a_rule_that_names_a_dead_candidate_is_bent(spec: ModelSpec, rule: str) -> None:
    policy = Policy(patch_size=8, max_tokens=24, closing_on_end=rule == "closing", **{rule: 1})
    async with world(spec, FORTUNE, retries=0, switcher=FixedSwitcher([2]), policy=policy) as here:
        for proxy in here.proxies["b"]:
            await proxy.die()
        trace = await read(here.team, 1)
        assert trace.tokens == 24
        bent = trace.patches[0 if rule == "opening" else -1]
        assert (bent.reason, bent.speaker) == ("fallback", 2)
