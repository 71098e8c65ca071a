"""An evaluation times answering alone, and what it keeps is true of what is asked later."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from taketurns.config.loading import load_team_config
from taketurns.config.team_config import SwitcherConfig
from taketurns.engines.local.engine import LocalEngine
from taketurns.errors import DataError
from taketurns.evaluation.methods.trained import TrainedSwitchers
from taketurns.evaluation.results import MethodResult, read_results
from taketurns.evaluation.run import Evaluation, EvaluationJob
from taketurns.evaluation.store import Store, records
from taketurns.evaluation.tasks import load
from taketurns.tasks.base import Task
from taketurns.tasks.scored import ScoredTask
from taketurns.types import Query, Score

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
    plan = EvaluationJob(load(("recall",)), names, 1, 2, 2, 4)
    store = Store(tmp_path, config)
    async with Evaluation(config, plan, store, {}, print) as evaluation:
        if elsewhere:
            found = [await evaluation.answer(name, item) for name in names for item in plan.items()]
        else:
            await evaluation.run()
            files = [store.answers(name, dev) for name, dev in evaluation.checked.items()]
            found = [record for path in files for record in records(path)]
    assert len(found) == 6
    assert sum(record["seconds"] for record in found) < LOADING
    assert len(loaded) == 4  # three candidates and what was merged of them


async def evaluated(
    folder: Path, tasks: dict[str, Task], names: Sequence[str], trained: dict[str, TrainedSwitchers]
) -> dict[str, MethodResult]:
    config = load_team_config("pocket", {"policy.max_tokens": 8})
    plan, store = EvaluationJob(tasks, names, 1, 2, 2, 8), Store(folder, config)
    async with Evaluation(config, plan, store, trained, print) as evaluation:
        assert not await evaluation.run()
        return read_results(store, evaluation.entries, tasks, plan.items(), evaluation.checked)


def lines(folder: Path) -> dict[str, list[dict[str, Any]]]:
    return {
        path.name: [json.loads(line) for line in path.read_text().splitlines()]
        for path in (folder / "answers").glob("*.jsonl")
    }


async def test_more_tasks_and_fewer_keep_what_is_there(tmp_path: Path) -> None:
    """Fault: methods that choose on dev, and those with trained switchers, refused the folder."""
    switchers = {
        "recall": SwitcherConfig(kind="random"),
        "age": SwitcherConfig(kind="fixed", sequence=(1, 2)),
    }

    async def ask(*names: str) -> dict[str, MethodResult]:
        by_task = {name: switchers[name] for name in names}
        methods = ("sft", "soup", "mine")
        return await evaluated(tmp_path, load(names), methods, {"mine": TrainedSwitchers(by_task)})

    few = await ask("recall")
    before = lines(tmp_path)
    assert (await ask("recall", "age"))["mine"].missing == 0
    more = lines(tmp_path)
    # What does not depend on other tasks is added to; another choice has a file of its own.
    for name in ("sft.jsonl", "mine.jsonl"):
        assert more[name][:2] == before[name]
        assert len(more[name]) == 4
    assert len([name for name in more if name.startswith("soup@")]) == 2
    assert await ask("recall") == few
    assert lines(tmp_path) == more
    switchers["recall"] = SwitcherConfig(kind="fixed", sequence=(0,))
    with pytest.raises(DataError, match="whose trained switchers differed"):
        await ask("recall", "age")


@dataclass(frozen=True)
class Always:
    """A scorer with a setting."""

    value: float
    name: str = "always"

    def check(self, query: Query) -> None:
        pass

    def score(self, query: Query, answer: str) -> Score:
        return Score(self.value, None)


async def test_a_score_by_other_rules_is_another_score(tmp_path: Path) -> None:
    """Fault: test and dev scores stayed those of the scorer that a task file had named first."""

    async def ask(value: float) -> dict[str, MethodResult]:
        test, dev = (
            tuple(Query(f"own/{split}/{n}", text=f"is {n} odd?") for n in range(2))
            for split in ("test", "dev")
        )
        task = ScoredTask("own", "own", {"test": test, "dev": dev}, Always(value))
        return await evaluated(tmp_path, {"own": task}, ("sft", "soup"), {})

    for value in (0.0, 1.0, 0.0):
        for one in (await ask(value)).values():
            assert one.average == value
            assert one.chosen.get("dev", value) == value
    assert len(lines(tmp_path)["sft.jsonl"]) == 4  # the third run asked nothing


async def test_answers_of_an_older_version_are_refused(tmp_path: Path) -> None:
    tasks: dict[str, Task] = load(["recall"])
    await evaluated(tmp_path, tasks, ("sft",), {})
    (tmp_path / "folder.json").unlink()
    with pytest.raises(DataError, match="has answers of an older version of taketurns, which"):
        await evaluated(tmp_path, tasks, ("sft",), {})
