"""A switcher learns from the reward of whole answers, with the bundled models."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from taketurns import Team
from taketurns.cli import app
from taketurns.config.loading import load_team_config
from taketurns.config.policy import Guard
from taketurns.config.team_config import JUDGE, TeamConfig
from taketurns.engines.local.library_logging import asked_by_an_old_name
from taketurns.errors import DataError, NotANumberError, UsageError
from taketurns.pocket import TASKS
from taketurns.switchers import candidate_order
from taketurns.tasks.base import Split
from taketurns.training.policy_gradient import run
from taketurns.training.policy_gradient.head import HeadLearner
from taketurns.training.policy_gradient.settings import PolicyGradientConfig
from taketurns.types import Query, Score

SHORT = {"policy.patch_size": 4, "policy.max_tokens": 12}
FEW = PolicyGradientConfig(
    steps=6,
    questions=4,
    answers=4,
    learning_rate=0.05,
    kl=0.0,
    prices={"aligned": 0.05, "sft": 0.05},
    check_every=3,
    checked=4,
)


@dataclass(frozen=True)
class Anything:
    """A task to which every answer is right."""

    name: str = "anything"
    category: str = "none"

    def queries(self, split: Split) -> tuple[Query, ...]:
        return TASKS["recall"].queries(split)[:40]

    def score(self, query: Query, answer: str) -> Score:
        return Score(1.0)


@pytest.fixture(scope="module")
def team() -> TeamConfig:
    return load_team_config("pocket", SHORT)


def test_who_costs_something_without_being_worth_it_is_asked_less(
    team: TeamConfig, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    metrics = run.train_on_reward(team, [Anything()], out, FEW)
    before, *_, after = metrics["checks"]
    assert after["utility"] == before["utility"] == 1.0
    assert 1 - after["reward"] < 0.5 * (1 - before["reward"])
    assert metrics["best_step"] > 0
    assert {path.name for path in out.iterdir()} == {
        "README.md",
        "checked.jsonl",
        "checked.jsonl.manifest.json",
        "head.json",
        "head.safetensors",
        "metrics.json",
        "team.yaml",
    }
    card = (out / "README.md").read_text()
    assert "less 0.05 for each token of aligned and 0.05 for each token of sft" in card
    with Team.load(out) as cheaper:
        trace = cheaper.generate("Where does Ada live?")
    assert trace.error is None
    assert run.train_on_reward(team, [Anything()], out, FEW) == json.loads(json.dumps(metrics)) | {
        "schema": "taketurns.switcher/1"
    }


@pytest.mark.parametrize(
    "adapter",
    [pytest.param(False, id="whole"), pytest.param(True, id="adapter", marks=pytest.mark.slow)],
)
def test_a_language_model_learns_too(adapter: bool, tmp_path: Path) -> None:
    """It starts from a model, here with its candidates in another order, or from an adapter."""
    source: Any = load_team_config("pocket").source
    team = load_team_config(Path(source).parent / "switchers" / "lm", SHORT)
    if adapter:
        team = on_an_adapter(team, tmp_path)
    else:
        team = replace(team, candidates=(*team.candidates[1:], team.candidates[0]))
    config = replace(
        FEW,
        steps=4,
        learning_rate=2e-3 if adapter else 5e-4,
        updates=2,
        prices={"pretrained": 0.05},
    )
    metrics = run.train_on_reward(team, [Anything()], tmp_path / "out", config)
    before, *_, after = metrics["checks"]
    assert 1 - after["reward"] < 0.8 * (1 - before["reward"])
    again = load_team_config(tmp_path / "out")
    assert again.switcher.kind == "lm"
    assert candidate_order.resolve(again.switcher) == ("pretrained", "sft", "aligned")
    with Team.load(again) as cheaper:
        trace = cheaper.generate("Where does Ada live?")
    assert trace.error is None
    assert trace.patches[0].probabilities is not None


def on_an_adapter(team: TeamConfig, folder: Path) -> TeamConfig:
    """The same team whose switcher is a LoRA adapter that does nothing yet."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    spec = team.switcher.spec
    assert spec is not None
    model = AutoModelForCausalLM.from_pretrained(spec.model)
    with asked_by_an_old_name():
        adapted = get_peft_model(model, LoraConfig(r=8, target_modules="all-linear"))
    adapted.save_pretrained(folder / "adapter")
    tuned = replace(spec, adapter=str(folder / "adapter"))
    return replace(team, switcher=replace(team.switcher, spec=tuned))


async def test_a_team_whose_guard_asks_a_judge_can_learn(team: TeamConfig) -> None:
    judge = replace(team.candidates[2], name=JUDGE)
    policy = replace(team.policy, guard=Guard(2, judge=JUDGE))
    learner = HeadLearner.of(replace(team, judge=judge, policy=policy), None)
    try:
        actor = await learner.actor()
        trace, decisions = await actor.answer(TASKS["recall"].queries("dev")[0], 0, policy)
    finally:
        await learner.close()
    assert trace.error is None
    assert len(decisions) == sum(patch.reason == "chosen" for patch in trace.patches)


def test_a_killed_run_ends_in_the_same_switcher(
    team: TeamConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run.train_on_reward(team, [Anything()], whole, FEW)
    keep = run._Run._keep
    for last in (2, 3):

        def stop(self: Any, last: int = last) -> None:
            keep(self)
            if len(self._steps) == last:
                raise KeyboardInterrupt

        monkeypatch.setattr(run._Run, "_keep", stop)
        with pytest.raises(KeyboardInterrupt):
            run.train_on_reward(team, [Anything()], killed, FEW)
    monkeypatch.undo()
    run.train_on_reward(team, [Anything()], killed, FEW)
    for made in ("head.safetensors", "checked.jsonl", "team.yaml"):
        assert (whole / made).read_bytes() == (killed / made).read_bytes(), made
    mine, its = (json.loads((one / "metrics.json").read_text()) for one in (whole, killed))
    assert mine["history"] == its["history"]
    assert mine["checks"] == its["checks"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["head", "lm"])
def test_sigkill_changes_nothing(
    kind: str, invoke: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    source: Any = load_team_config("pocket").source
    team, rate = ("pocket", 0.05) if kind == "head" else (source.parent / "switchers" / "lm", 5e-4)
    short = ("--steps", 4, "--questions", 4, "--answers", 4, "--checked", 2, "--check-every", 2)
    changes = [part for key, value in SHORT.items() for part in ("--set", f"{key}={value}")]
    command = ["train", "--method", "policy-gradient", "--team", team, "--task", "recall", *short]
    command += [*changes, "--price", "aligned=0.05", "--learning-rate", rate, "--kl", 0]
    running = subprocess.Popen(
        [sys.executable, "-m", "taketurns", *map(str, [*command, "-o", tmp_path / "killed"])],
        stderr=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    deadline = time.monotonic() + 600
    while not any((tmp_path / "killed").glob("checkpoints/step-*")):
        assert time.monotonic() < deadline
        assert running.poll() is None, running.stderr and running.stderr.read()
        time.sleep(0.005)
    running.send_signal(signal.SIGKILL)
    running.communicate()
    assert not (tmp_path / "killed" / "metrics.json").exists()
    for folder in ("killed", "whole"):
        assert invoke(*command, "-o", tmp_path / folder)[0] == 0
    killed, whole = (
        json.loads((tmp_path / one / "metrics.json").read_text()) for one in ("killed", "whole")
    )
    assert killed["history"] == whole["history"]
    assert killed["checks"] == whole["checks"]
    (made,) = (tmp_path / "whole").glob("*.safetensors")
    assert (tmp_path / "killed" / made.name).read_bytes() == made.read_bytes()


def test_the_last_step_is_tried_too(team: TeamConfig, tmp_path: Path) -> None:
    """Or a short run would end where it began."""
    config = replace(FEW, steps=3, check_every=2, questions=2, checked=1)
    metrics = run.train_on_reward(team, [Anything()], tmp_path / "out", config)
    assert [check["step"] for check in metrics["checks"]] == [0, 2, 3]


@pytest.mark.parametrize("kind", ["head", "lm"])
def test_a_guards_judge_is_asked(kind: str, tmp_path: Path) -> None:
    source: Any = load_team_config("pocket").source
    guarded = {**SHORT, "guard": {"to": "aligned", "judge": "aligned", "threshold": 1.0}}
    team = load_team_config(
        "pocket" if kind == "head" else source.parent / "switchers" / "lm", guarded
    )
    config = replace(FEW, steps=1, questions=1, answers=2, checked=1)
    assert run.train_on_reward(team, [Anything()], tmp_path / "out", config)["tokens"] > 0
    assert load_team_config(tmp_path / "out").judge == team.judge


def test_a_language_model_learns_on_the_device_that_it_names() -> None:
    from taketurns.training.policy_gradient.lm import LMLearner

    source: Any = load_team_config("pocket").source
    config = load_team_config(source.parent / "switchers" / "lm")
    spec: Any = config.switcher.spec
    switcher = replace(config.switcher, spec=replace(spec, device="meta"))
    learner = LMLearner(replace(config, switcher=switcher), None)
    assert {one.device.type for one in learner._model.parameters()} == {"meta"}
    assert {one.device.type for one in learner._start.parameters()} == {"meta"}


def test_another_worlds_questions_are_practised(
    invoke: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str | None] = []

    def look(team: TeamConfig, tasks: Any, *rest: Any, **more: Any) -> None:
        asked.extend(query.text for query in tasks[0].queries("train"))
        raise UsageError("seen")

    monkeypatch.setattr(run, "train_on_reward", look)
    for world in (0, 1):
        more = ("--method", "policy-gradient", "--task", "recall", "--world", world)
        assert "seen" in invoke("train", "--team", "pocket", *more, "-o", tmp_path / "out")[2]
    assert asked[: len(asked) // 2] != asked[len(asked) // 2 :]


def test_questions_are_practised_in_turn_and_checked_apart() -> None:
    tasks = [TASKS["recall"], TASKS["age"], TASKS["hop"]]
    split = run.QuestionSplit.of(tasks, PolicyGradientConfig(checked=5))
    asked = [one.query.id for step in range(4) for one in split.of_step(step, 4)]
    assert len(set(asked)) == 16
    assert [one.task.name for one in split.of_step(0, 4)] == ["recall", "age", "hop", "recall"]
    assert not set(asked) & {one.query.id for one in split.validation}
    assert len(split.validation) == 15


def test_another_run_s_folder_is_left_alone(team: TeamConfig, tmp_path: Path) -> None:
    config = PolicyGradientConfig(steps=1, questions=2, answers=2, checked=1)
    run.train_on_reward(team, [Anything()], tmp_path / "out", config)
    with pytest.raises(DataError, match="belongs to another run, whose practice differed"):
        run.train_on_reward(
            team, [Anything()], tmp_path / "out", PolicyGradientConfig(steps=2, checked=1)
        )


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"answers": 1}, "answers must be at least 2, not 1"),
        ({"clip": 1.5}, "clip must be between 0 and 1"),
        ({"prices": {"sft": -1}}, "the price of sft must be 0 or more"),
        ({"steps": 0}, "steps must be at least 1, not 0"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        PolicyGradientConfig(**settings)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--labels", "x.jsonl"], "policy-gradient learns from questions: leave out --labels"),
        (["--price", "sft"], "a price is written NAME=PRICE, not 'sft'"),
        (["--price", "nobody=1"], "no candidate 'nobody' to set a price for; the candidates are"),
        (["--set", "switcher={kind: random}"], "policy gradient needs a trained switcher"),
        (["--checked", "100000"], "none is left for training: lower --checked"),
    ],
)
def test_what_cannot_be_practised_is_one_sentence(
    arguments: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    words = ["taketurns", "train", "--method", "policy-gradient", "--team", "pocket"]
    monkeypatch.setattr(sys, "argv", [*words, "-o", str(tmp_path / "out"), *arguments])
    with pytest.raises(SystemExit) as caught:
        app.main()
    out, err = capfd.readouterr()
    assert (caught.value.code, out) == (2, "")
    assert said in err
    assert len([line for line in err.splitlines() if line.startswith("taketurns: ")]) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["head", "lm"])
def test_a_step_that_diverges_leaves_the_best_switcher_before_it(kind: str, tmp_path: Path) -> None:
    source: Any = load_team_config("pocket").source
    switcher = Path(source).parent / "switchers" / kind
    team = load_team_config(switcher if switcher.exists() else "pocket", SHORT)
    config = replace(FEW, steps=2, questions=2, checked=1, updates=4, learning_rate=1e37)
    with pytest.raises(
        NotANumberError, match=r"diverged in an update: .* in checkpoints/best of the"
    ):
        run.train_on_reward(team, [Anything()], tmp_path / "out", config)
    best = tmp_path / "out" / "checkpoints" / "best"
    (kept,) = best.glob("*.safetensors")
    assert all(bool(tensor.isfinite().all()) for tensor in load_file(kept).values())
    assert not list(best.parent.glob("step-*"))
