"""Methods side by side on the same questions, with honest intervals."""

from __future__ import annotations

from pathlib import Path

import pytest

from taketurns.config.loading import load_team_config
from taketurns.errors import UsageError
from taketurns.evaluation.methods.trained import parse_switcher
from taketurns.pocket import TASKS
from taketurns.pocket.score import AVERAGE, Methods, MethodScores, score
from taketurns.switchers.head import Head, HeadConfig

ALONE = ["pretrained", "sft"]


async def test_methods_answer_the_same_questions(tmp_path: Path) -> None:
    team = load_team_config("pocket", {"max_tokens": 24})
    head = HeadConfig("speaker", tuple(c.name for c in team.candidates), "aligned")
    import torch

    (tmp_path / "mine").mkdir()
    always_sft = torch.tensor([[0.0, 9.0, 0.0]]).expand(4, 3).contiguous()
    layers = dict.fromkeys(head.candidates, (4,))
    Head(HeadConfig(head.mode, head.candidates, head.reader, layers), {}, always_sft).save(
        tmp_path / "mine"
    )
    source = Path(str(team.source)).parent
    (tmp_path / "mine" / "team.yaml").write_text(
        f"candidates: [{{name: a, model: {source}/sft}}, {{name: b, model: {source}/sft}}]\n"
        "switcher: {kind: head, path: .}\n"
    )
    tasks = {name: TASKS[name] for name in ("recall", "arithmetic")}
    named = [*ALONE, "random", "untuned", "always"]
    methods = Methods(team, named, list(tasks), more={"always": tmp_path / "mine"})
    try:
        found = await score(methods.teams, tasks, limit=4, seeds=2)
        again = await score(methods.teams, tasks, limit=4, seeds=2)
    finally:
        await methods.engine.close()
    assert found == again
    record = found.to_json()
    assert list(record) == named
    assert list(record["random"]) == ["recall", "arithmetic", AVERAGE]
    assert record["sft"]["recall"].keys() == {"mean", "low", "high", "n"}
    assert record["sft"]["recall"]["n"] == 4
    assert found.table().row_count == 3


@pytest.mark.parametrize(
    ("method", "sentence"),
    [("oracle", "there is no method 'oracle'; the methods are pretrained, sft, aligned, random")],
)
def test_an_unknown_method_is_one_sentence(method: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        Methods(load_team_config("pocket"), [method], ["recall"])


def test_a_switcher_that_is_not_trained_is_named(tmp_path: Path) -> None:
    for method, folder in (("switch-global", "global"), ("switch-lm", "lm")):
        with pytest.raises(UsageError, match=f"no switcher at {tmp_path / folder}: train it"):
            Methods(load_team_config("pocket"), [method], ["recall"], tmp_path)
    assert parse_switcher("mine=some/where") == ("mine", Path("some/where"))
    with pytest.raises(UsageError, match="--switcher takes NAME=DIR"):
        parse_switcher("mine")


def test_scores_are_by_method_and_task() -> None:
    scores = MethodScores({"m": {"t": ((1.0, 0.0), (1.0, 1.0))}})
    assert scores.to_json()["m"]["t"]["mean"] == 0.75
