"""A checkpoint with a head inside, on a real vLLM server that knows nothing of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import pytest
import yaml

from taketurns import Policy, Team
from taketurns.config.loading import load_team_config
from taketurns.config.team_config import TeamConfig
from taketurns.engines.http.engine import HttpEngine
from taketurns.engines.local.engine import LocalEngine
from taketurns.integrations.export.run import export_folded
from taketurns.pocket.tasks import TASKS
from taketurns.types import Sampling

from ..export.conftest import NAMES, random_head
from .conftest import free_port, launched, program

QUESTIONS = [query for task in TASKS.values() for query in task.queries("test")[:2]]
POLICY = Policy(patch_size=8, max_tokens=48, temperature=0.0)


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TeamConfig]:
    """The exported aligned checkpoint under two names on one server: a team, as far as decisions
    go. The head inside knows three candidates; the twins have the tokens of two of them."""
    program()
    folder = tmp_path_factory.mktemp("folded")
    random_head().save(folder)
    bundled = load_team_config("pocket", {"switcher.path": str(folder)})
    export_folded(bundled, folder / "team")
    team = yaml.safe_load((folder / "team" / "team.yaml").read_text())
    url = f"http://127.0.0.1:{free_port()}"
    tokens = team["switcher"]["tokens"]
    path = folder / "team" / "twins.yaml"
    content: dict[str, Any] = {
        "candidates": [
            {"name": name, "model": "./aligned", "urls": [url]} for name in ("one", "other")
        ],
        "switcher": {
            "kind": "folded",
            "tokens": {"one": tokens["sft"], "other": tokens["aligned"]},
            "reader": "one",
        },
        "engine": {"kind": "http"},
    }
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    with launched(path, [url], folder / "server.log"):
        yield replace(load_team_config(path), policy=POLICY)


@pytest.fixture
async def local(twins: TeamConfig) -> AsyncIterator[LocalEngine]:
    """The same checkpoint in this process."""
    engine = LocalEngine({one.name: one.spec for one in twins.candidates})
    yield engine
    await engine.close()


async def test_the_team_decides_as_it_does_here_with_a_call_a_patch(
    twins: TeamConfig, local: LocalEngine
) -> None:
    async with Team.load(twins) as there:
        here = Team(twins.candidates, local, there._switcher, POLICY)
        assert isinstance(there.engine, HttpEngine)
        patches = same = 0
        for query in QUESTIONS:
            answer, truth = await there.agenerate(query), await here.agenerate(query)
            assert answer.error is None
            assert answer.exact
            patches += len(answer.patches)
            same += answer.text == truth.text
            for one, other in zip(answer.patches, truth.patches, strict=False):
                assert one.probabilities == pytest.approx(other.probabilities, abs=1e-3)
                if one.token_ids != other.token_ids:
                    break
        requests = sum(there.engine.counters(name).requests for name in ("one", "other"))
        print(
            f"{same} of {len(QUESTIONS)} answers are equal, {requests / patches:.2f} calls a patch"
        )
        assert requests == patches + len(QUESTIONS)
        assert same >= 0.9 * len(QUESTIONS)


async def test_alone_it_writes_what_the_original_writes(twins: TeamConfig) -> None:
    async with Team.load(twins) as there, Team.load("pocket") as bundled:
        policy = there.alone("one").policy
        same = 0
        for query in QUESTIONS:
            now = await there.alone("one").agenerate(query)
            was = await bundled.alone("aligned").agenerate(query, policy=policy)
            same += now.text == was.text
        assert same >= 0.9 * len(QUESTIONS)


async def test_masked_tokens_are_never_drawn_and_their_logits_stay(twins: TeamConfig) -> None:
    """What vLLM tells is from before the mask: greedy or drawn, in a batch or alone."""
    import asyncio

    async with Team.load(twins) as there:
        await there.prepare()
        info = await there.engine.info("one")
        prompt = info.codec.encode("what is 17 + 25 ?", special=True)
        choices = tuple(sorted(info.suppressed_token_ids))
        assert len(choices) == len(NAMES)

        async def write(seed: int, **changes: Any) -> Any:
            async with there.engine.session(seed) as session:
                done = await session.generate("one", prompt, Sampling(12, 2.0, 1.0, **changes))
                if done.scores is None:
                    return done.token_ids, None, None
                after = [*prompt, *done.token_ids]
                return done.token_ids, done.scores, await session.score("one", after, choices)

        found = await asyncio.gather(
            *(write(seed, choices=choices) for seed in range(12)), *(write(99) for _ in range(4))
        )
        for token_ids, told, asked in found:
            assert not set(token_ids) & set(choices)
            if told is not None:
                assert told == pytest.approx(asked, abs=1e-3)
        assert sum(told is not None for _, told, _ in found) >= 6
