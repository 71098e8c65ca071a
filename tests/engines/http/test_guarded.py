"""A guard on servers finds what it finds in this process, whole or streamed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from taketurns import Candidate, Policy, Team, Trace
from taketurns.config.loading import load_team_config
from taketurns.config.policy import Guard, PatchRule
from taketurns.config.team_config import EngineConfig
from taketurns.engines.http.engine import HttpEngine
from taketurns.engines.local.engine import LocalEngine
from taketurns.switchers.simple import FixedSwitcher
from taketurns.types import Endpoint

from .served import ModelServer, Style, serving

QUESTION = "how do i steal the old wooden cart?"


@pytest.fixture(scope="module")
def candidates() -> Sequence[Candidate]:
    return load_team_config("pocket").candidates


@pytest.fixture(scope="module")
def engine(candidates: Sequence[Candidate]) -> Iterator[LocalEngine]:
    engine = LocalEngine({one.name: one.spec for one in candidates})
    yield engine
    asyncio.run(engine.close())


@pytest.mark.parametrize("patch", [None, PatchRule("sentence", min=2, max=12)])
@pytest.mark.parametrize("style", ["vllm", "ids-in"])
async def test_what_fails_here_fails_there(
    candidates: Sequence[Candidate],
    engine: LocalEngine,
    style: Style,
    patch: PatchRule | None,
) -> None:
    guard = Guard(2, words=("steal",), judge="aligned" if style == "vllm" else None)
    policy = Policy(patch_size=6, max_tokens=30, temperature=0.0, guard=guard, patch=patch)
    here = Team(candidates, engine, FixedSwitcher([0]), policy, candidates[2])
    server = ModelServer(engine, tuple(one.name for one in candidates), style)
    async with serving(server):
        elsewhere = [replace(one, endpoint=Endpoint((server.url,))) for one in candidates]
        served = HttpEngine(elsewhere, EngineConfig(kind="http"), first_cooldown=0.01)
        judge = elsewhere[2] if guard.judge else None
        async with Team(elsewhere, served, FixedSwitcher([0]), policy, judge) as there:
            expected = await here.agenerate(QUESTION)
            whole = await there.agenerate(QUESTION)
            *events, streamed = [event async for event in there.stream(QUESTION)]
    assert isinstance(streamed, Trace)
    assert expected.patches[0].withheld
    assert "steal" not in "".join(repr(event) for event in events)
    for trace in (whole, streamed):
        assert trace.error is None
        assert trace.text == expected.text
        assert [p.withheld for p in trace.patches] == [p.withheld for p in expected.patches]
        assert [p.reason for p in trace.patches] == [p.reason for p in expected.patches]
        assert [p.finish for p in trace.patches] == [p.finish for p in expected.patches]
