from dataclasses import replace

import pytest

from benchmarks.overhead.models import ModelPool
from benchmarks.overhead.pocket import PocketModels, dev_questions, pocket_config
from benchmarks.overhead.questions import Race
from benchmarks.overhead.suite import OverheadPlan, run
from benchmarks.overhead.weights import GivenWeights
from benchmarks.overhead.workload import Workload, queries
from taketurns.generation.team import SWITCHER


def test_all_ways_answer_all_questions(tiny: ModelPool) -> None:
    workload = Workload(batch=3, tokens=10, prompt=12, patch=4)
    models = {name: tiny.model(name) for name in tiny.specs(True)}
    race = Race(
        name="tiny",
        candidates=tiny.candidates,
        switcher=tiny.specs(True)[SWITCHER],
        weights=GivenWeights(models),
        policy=workload.policy,
    )
    result = race.run(queries(workload, tiny.words), batch=2, repeats=1)
    assert (result.questions, result.budget) == (3, 10)
    assert result.team_tokens == result.public_tokens == result.rounds_tokens == 30
    assert result.to_json()["public_over_team"] == result.public_over_team > 0


def test_the_pocket_team_stops_where_its_answers_end() -> None:
    config = pocket_config()
    if config is None:
        pytest.skip("this copy of the package has no pocket weights")
    race = PocketModels(config).race()
    race = replace(race, policy=replace(race.policy, max_tokens=96))
    result = race.run(dev_questions(2), batch=1, repeats=1)
    assert result.team_tokens < result.public_tokens == 2 * 96


def test_without_pocket_weights_the_rest_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.overhead.suite.pocket_config", lambda: None)
    said: list[str] = []
    plan = OverheadPlan(
        (Workload(batch=1, tokens=8, prompt=8, patch=4),), 1, 4, shape="tiny", device="cpu"
    )
    results = run(plan, said.append)
    assert len(results.overheads) == 1
    assert not results.questions
    assert any("no weights" in sentence for sentence in said)
