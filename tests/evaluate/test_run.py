"""An evaluation times answering alone."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from taketurns.config import load_team_config
from taketurns.engines.local import LocalEngine
from taketurns.evaluate.run import Evaluation, Plan
from taketurns.evaluate.store import Store, records
from taketurns.evaluate.tasks import load

LOADING = 1.0  # seconds a model


@pytest.mark.parametrize("elsewhere", [False, True])
async def test_loading_is_not_answering(
    elsewhere: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault: the first answers of whichever method came first paid for everybody's weights, here
    and in an actor elsewhere."""
    loaded: set[str] = set()
    at_once = LocalEngine.load

    async def slowly(engine: LocalEngine, model: str) -> None:
        if model not in loaded:
            loaded.add(model)
            await asyncio.sleep(LOADING)
        await at_once(engine, model)

    monkeypatch.setattr(LocalEngine, "load", slowly)
    config = load_team_config("pocket", {"policy.max_tokens": 8})
    names = ("sft", "dare-ties", "switch")
    plan = Plan(load(("recall",)), names, 1, 2, 2, 4)
    store = Store(tmp_path, config)
    async with Evaluation(config, plan, store, {}, print) as evaluation:
        if elsewhere:
            found = [await evaluation.answer(name, item) for name in names for item in plan.items()]
        else:
            await evaluation.run()
            found = [record for name in names for record in records(store.answers(name))]
    assert len(found) == 6
    assert sum(record["seconds"] for record in found) < LOADING
    assert len(loaded) == 4  # three candidates and what was merged of them
