"""A language model learns to name the speaker: what it reads, what it learns, how it goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import make_dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from taketurns import Team
from taketurns.checkpoints.prompts import digit_ids
from taketurns.checkpoints.text import TextCodec
from taketurns.config.loading import load_team_config
from taketurns.config.team_config import TeamConfig
from taketurns.engines.local.engine import LocalSession
from taketurns.errors import ConfigError, DataError, NotANumberError
from taketurns.switchers import candidate_order
from taketurns.training.epochs import STATE, epochs_trained, is_spent, last_checkpoint
from taketurns.training.fine_tuning import FineTuningPlan, checkpointing
from taketurns.training.labels.labels import Label, read_labels
from taketurns.training.settings import FineTuningConfig
from taketurns.training.supervised import lm
from taketurns.training.supervised.examples import Example
from taketurns.training.supervised.run import train
from taketurns.training.supervised.settings import LMSettings, Selection, TrainingConfig
from taketurns.types import ModelSpec, Patch

SHORT = TrainingConfig(epochs=3, learning_rate=1e-3)


@pytest.fixture
def pocket() -> TeamConfig:
    return load_team_config("pocket")


def weights(folder: Path) -> bytes:
    name = "adapter_model.safetensors" if (folder / "adapter_config.json").exists() else None
    return (folder / (name or "model.safetensors")).read_bytes()


def test_it_learns_what_calls_for_whom(
    pocket: TeamConfig, write_labels: Any, tmp_path: Path
) -> None:
    out = tmp_path / "switcher"
    metrics = train(
        pocket,
        write_labels(150),
        out,
        LMSettings(),
        training=TrainingConfig(epochs=5, learning_rate=1e-3),
    )
    assert metrics["validation"]["agreement"] >= 0.9
    assert metrics["validation"]["utility"] > max(metrics["standards"]["always"].values())
    assert {"README.md", "model.safetensors", "tokenizer.json", "team.yaml"} <= {
        path.name for path in out.iterdir()
    }
    assert not (out / "checkpoints").exists()
    assert candidate_order.load(ModelSpec(str(out))) == ("pretrained", "sft", "aligned")
    with Team.load(out, patch_size=2) as team:
        trace = team.generate("what is 5?")
    assert trace.error is None
    assert len({patch.probabilities for patch in trace.patches}) > 1


async def test_training_reads_what_inference_reads(
    pocket: TeamConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Token by token, at every boundary of a real answer."""
    asked: list[list[int]] = []
    score = LocalSession.score

    async def spy(self: Any, model: str, prompt: Any, choices: Any) -> list[float]:
        asked.append(list(prompt))
        return await score(self, model, prompt, choices)

    monkeypatch.setattr(LocalSession, "score", spy)
    start = pocket.candidates[2].spec
    settings = {"switcher": {"kind": "lm", "model": start.model}, "patch_size": 4}
    async with Team.load(load_team_config("pocket", settings)) as team:
        trace = await team.agenerate("how many sheep does anna have?")
    examples = [
        Example(Label(str(i), trace.query, trace.patches[:i], (1, 0, 0), (1, 1, 1)), (1, 0, 0))
        for i in range(len(trace.patches))
    ]
    rows = await lm.render(pocket, start, examples, examples)
    assert len(asked) == len(trace.patches) > 1
    assert [list(row.input_ids) for row in rows.train] == asked
    assert list(rows.digits) == digit_ids(TextCodec.load(start), 3)


async def test_a_start_that_is_a_switcher_keeps_its_numbers(
    pocket: TeamConfig, write_labels: Any, tmp_path: Path
) -> None:
    """What is asked about an answer is the same whatever the team's order."""
    start = ModelSpec(str(Path(str(pocket.source)).parent / "switchers" / "lm"))
    turned = replace(pocket, candidates=(*pocket.candidates[1:], pocket.candidates[0]))
    names = ["pretrained", "sft", "aligned"]
    examples = [Example(label, (1, 0, 0)) for label in read_labels(write_labels(6), names)]
    moved = [
        replace(x, label=replace(x.label, prefix=tuple(map(one_before, x.label.prefix))))
        for x in examples
    ]
    own = await lm.render(pocket, start, examples, examples)
    other = await lm.render(turned, start, moved, moved)
    assert any(example.label.prefix for example in examples)
    assert [row.input_ids for row in own.train] == [row.input_ids for row in other.train]
    assert other.digits == (*own.digits[1:], own.digits[0])
    assert lm.numbered(turned, start) == tuple(names)
    elsewhere = replace(turned.candidates[0], name="other")
    foreign = replace(turned, candidates=(elsewhere, *turned.candidates[1:]))
    assert lm.numbered(foreign, start) == ("other", "aligned", "pretrained")


def one_before(patch: Patch) -> Patch:
    return replace(patch, speaker=None if patch.speaker is None else (patch.speaker - 1) % 3)


@pytest.mark.parametrize("lora", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_killed_run_goes_on_and_ends_in_the_same_weights(
    lora: bool, pocket: TeamConfig, write_labels: Any, tmp_path: Path
) -> None:
    labels = write_labels(60)
    command = ["train", "--team", "pocket", "--labels", labels, "--output", tmp_path / "killed"]
    command += ["--epochs", "3", "--learning-rate", "1e-3", "--lora" if lora else "--full"]
    running = subprocess.Popen(
        [sys.executable, "-m", "taketurns", *map(str, command)],
        stderr=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    checkpoints = tmp_path / "killed" / "checkpoints"
    deadline = time.monotonic() + 60
    while not list(checkpoints.glob(f"checkpoint-*/{STATE}")):
        assert time.monotonic() < deadline
        assert running.poll() is None, running.stderr and running.stderr.read()
        time.sleep(0.01)
    running.send_signal(signal.SIGKILL)
    running.communicate()
    assert not (tmp_path / "killed" / "metrics.json").exists()
    settings = LMSettings(lora=lora)
    train(pocket, labels, tmp_path / "killed", settings, training=SHORT)
    metrics = train(pocket, labels, tmp_path / "whole", settings, training=SHORT)
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")
    resumed = json.loads((tmp_path / "killed" / "metrics.json").read_text())
    assert resumed["validation"] == metrics["validation"]
    assert metrics["validation"]["loss"] == pytest.approx(
        metrics["history"][metrics["best_epoch"] - 1]["eval_loss"], abs=1e-3
    )  # the trainer's forward and the engine's agree


def test_a_torn_checkpoint_is_passed_over(tmp_path: Path) -> None:
    for step, state in ((3, '{"log_history": []}'), (6, '{"log_hist'), (9, None)):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"")
        if state is not None:
            (folder / STATE).write_text(state)
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-3"
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-3"]


def test_it_stops_when_the_utility_no_longer_rises() -> None:
    log = [{"eval_merit": merit} for merit in (0.2, 0.5, 0.4, 0.5, 0.3)]
    assert is_spent(log, "merit", 3)
    assert not is_spent(log, "merit", 4)
    assert not is_spent([], "merit", 1)
    assert not is_spent(log, "merit", None)
    assert not is_spent(log, None, 1)
    assert epochs_trained([{"loss": 1.0}, *log, {"loss": 0.5}, {"train_loss": 0.7}]) == 2


def test_the_defaults_are_the_papers_for_large_models() -> None:
    def plan(parameters: int, **settings: Any) -> FineTuningPlan:
        return FineTuningPlan.of(parameters, FineTuningConfig(**settings), lm.DEFAULTS)

    large = plan(8_000_000_000)
    assert (large.lora, large.epochs, large.learning_rate) == (True, 5, 2e-4)
    assert 32 % large.rows_at_once == 0
    small = plan(900_000)
    assert (small.lora, small.epochs, small.learning_rate) == (False, 6, 5e-4)
    assert (small.weight_decay, large.weight_decay) == (0.05, 0.0)
    assert plan(900_000, lora=True, epochs=2).epochs == 2


async def test_a_start_that_splits_the_digits_is_refused(
    pocket: TeamConfig, make_model: Any, byte_tokenizer: Any, tmp_path: Path
) -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    split = Tokenizer(models.WordLevel({"<unk>": 0, "</s>": 1}, unk_token="<unk>"))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=split, eos_token="</s>", bos_token="</s>", unk_token="<unk>"
    )
    start = ModelSpec(str(make_model(tokenizer=tokenizer)))
    with pytest.raises(ConfigError, match="does not write 0 as one token"):
        await lm.render(pocket, start, [], [])


async def test_examples_that_fit_no_context_are_refused(
    pocket: TeamConfig, make_model: Any, write_labels: Any
) -> None:
    labels = list(read_labels(write_labels(4), ["pretrained", "sft", "aligned"]))
    examples = [Example(label, (1, 0, 0)) for label in labels]
    start = ModelSpec(str(make_model(max_position_embeddings=64)))
    with pytest.raises(DataError, match=r"no example fits the context of .*, 64 tokens"):
        await lm.render(pocket, start, examples, examples)


def test_an_adapter_is_no_start(pocket: TeamConfig) -> None:
    last = pocket.candidates[2]
    adapted = replace(last, spec=replace(last.spec, adapter="org/lora"))
    team = replace(pocket, candidates=(*pocket.candidates[:2], adapted))
    with pytest.raises(ConfigError, match=r"aligned is an adapter on .* --start"):
        lm.start_spec(team, LMSettings())
    assert lm.start_spec(team, LMSettings("sft")) == pocket.candidates[1].spec
    assert lm.start_spec(team, LMSettings("org/model")) == ModelSpec("org/model")


def test_soft_targets_are_learned_as_a_distribution(
    pocket: TeamConfig, write_labels: Any, tmp_path: Path
) -> None:
    metrics = train(
        pocket,
        write_labels(40),
        tmp_path / "soft",
        LMSettings(),
        Selection(targets="soft", temperature=0.5),
        TrainingConfig(epochs=1),
    )
    lines = (tmp_path / "soft" / "examples.jsonl").read_text().splitlines()
    assert all(0 < share < 1 for share in json.loads(lines[0])["target"])
    assert metrics["switcher"]["targets"] == "soft"


def test_a_training_that_diverges_stops_before_it_spoils_the_weights(
    pocket: TeamConfig, write_labels: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from taketurns.training.trainer import ObjectiveTrainer

    labels, out = write_labels(40), tmp_path / "switcher"
    with pytest.raises(NotANumberError, match=r"diverged in step 2: .*; lower the learning rate"):
        train(
            pocket,
            labels,
            tmp_path / "far",
            LMSettings(),
            training=TrainingConfig(2, learning_rate=1e30),
        )
    whole = ObjectiveTrainer.compute_loss

    def loss(self: Any, *arguments: Any, **settings: Any) -> Any:
        found = whole(self, *arguments, **settings)
        over = self.state.epoch is not None and self.state.epoch >= 1 and self.model.training
        return found * float("nan") if over else found

    monkeypatch.setattr(ObjectiveTrainer, "compute_loss", loss)
    with pytest.raises(NotANumberError, match="the loss is nan; the last complete epoch") as told:
        train(pocket, labels, out, LMSettings(), training=SHORT)
    kept = str(told.value).partition("is in ")[2].partition(";")[0]
    assert weights(Path(kept))
    assert not (out / "metrics.json").exists()


def test_checkpointing_has_the_name_that_the_installed_transformers_knows() -> None:
    """Fault: beside vLLM 0.32, which asks for transformers 5.19, no student could be trained."""
    from trl import SFTConfig

    older = make_dataclass("Older", [("gradient_checkpointing", bool)])
    assert checkpointing(older, True) == {"gradient_checkpointing": True}
    assert checkpointing(SFTConfig, False) == {"activation_checkpointing": False}
