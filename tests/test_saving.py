"""A model is saved with the generation_config.json that it came with, and what may fail when the
work is done is tried before it begins."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from recipes.pocket.build import build
from taketurns.config.loading import load_team_config
from taketurns.config.team_config import SwitcherConfig, TeamConfig
from taketurns.engines.local.loading import pretrained
from taketurns.errors import ConfigError, DataError, UsageError
from taketurns.evaluation.distillation import compare
from taketurns.evaluation.methods.checkpoints import CheckpointTensors, merge, rehearse_merge
from taketurns.integrations.export.run import export_folded
from taketurns.pocket import TASKS
from taketurns.pocket.judge import train_judge
from taketurns.switchers.head import Head, HeadConfig, Scale
from taketurns.tasks.base import Task
from taketurns.training.distillation import run as distillation
from taketurns.training.distillation.settings import (
    ComparisonConfig,
    FilterConfig,
    SamplingConfig,
    StudentConfig,
)
from taketurns.training.epochs import last_checkpoint
from taketurns.training.fine_tuning import rehearse
from taketurns.training.policy_gradient.lm import LMLearner
from taketurns.training.supervised.run import train
from taketurns.training.supervised.settings import LMSettings, TrainingConfig
from taketurns.types import ModelSpec, Patch
from taketurns.utils.locks import lock_now

# Warmth without sampling is refused by transformers once anything in the file was touched.
SHIPPED = b'{"temperature": 0.9, "top_p": 0.8,\n "of_our_own": [1, 2]}'
FILE = "generation_config.json"


@pytest.fixture
def pocket() -> TeamConfig:
    return load_team_config("pocket")


@pytest.fixture
def published(pocket: TeamConfig, tmp_path: Path) -> Path:
    """The bundled aligned checkpoint with SHIPPED beside it."""
    folder = tmp_path / "published"
    shutil.copytree(pocket.candidates[2].spec.model, folder)
    (folder / FILE).write_bytes(SHIPPED)
    return folder


@pytest.fixture
def labels(pocket: TeamConfig, tmp_path: Path) -> Path:
    """Labels of which any three candidates may be learned."""
    from taketurns.checkpoints.text import TextCodec
    from taketurns.runs.records import patch_to_json

    codec, names = TextCodec.load(pocket.candidates[2].spec), [c.name for c in pocket.candidates]
    ids = tuple(codec.encode("the sheep"))
    prefix = patch_to_json(Patch(0, ids, codec.decode(ids), "length", "chosen"), names)
    path = tmp_path / "labels.jsonl"
    with path.open("w") as file:
        for number in range(12):
            record = {
                "schema": "taketurns.rollouts/1", "id": f"q{number}#0", "task": "recall",
                "query": {"id": f"q{number}", "text": f"what is {number}?"}, "candidates": names,
                "prefix": [prefix],
                "branches": [
                    {"speaker": i, "utilities": [float(number % 3 == i)]} for i in range(3)
                ],
            }  # fmt: skip
            file.write(json.dumps(record) + "\n")
    return path


def order(team: TeamConfig, student: str | None = None, **learning: Any) -> distillation.DistillJob:
    tasks: list[Task] = [TASKS["recall"]]
    return distillation.DistillJob(
        team,
        tasks,
        SamplingConfig(answers=1, questions=4),
        FilterConfig("all"),
        StudentConfig(epochs=1, student=student, **learning),
        ComparisonConfig(limit=1),
    )


def unforgiving(model: Any) -> Any:
    """Touched as trainers touch it."""
    model.generation_config.pad_token_id = 0
    return model


def test_what_is_loaded_saves_the_file_as_it_came(published: Path, tmp_path: Path) -> None:
    spec = ModelSpec(str(published))
    unforgiving(pretrained(spec, dtype=torch.float32)).save_pretrained(tmp_path / "one")
    assert (tmp_path / "one" / FILE).read_bytes() == SHIPPED
    (published / FILE).unlink()
    model = pretrained(spec, dtype=torch.float32)
    wanted = model.generation_config.to_diff_dict()
    unforgiving(model).save_pretrained(tmp_path / "two")
    assert json.loads((tmp_path / "two" / FILE).read_text()) == wanted


def test_a_switcher_is_trained_and_saved(
    pocket: TeamConfig, published: Path, labels: Path, tmp_path: Path
) -> None:
    """Fault: the training was lost, because its first checkpoint could not be saved."""
    settings = LMSettings(start=str(published))
    train(
        pocket, labels, tmp_path / "out", settings, training=TrainingConfig(epochs=1, batch_size=4)
    )
    assert (tmp_path / "out" / FILE).read_bytes() == SHIPPED


def test_a_student_is_distilled_and_saved(
    pocket: TeamConfig, published: Path, tmp_path: Path
) -> None:
    distillation.distill(order(pocket, str(published)), tmp_path / "out", compare)
    assert (tmp_path / "out" / "student" / FILE).read_bytes() == SHIPPED


def head_of(pocket: TeamConfig, folder: Path) -> SwitcherConfig:
    names = tuple(candidate.name for candidate in pocket.candidates)
    config = HeadConfig("speaker", names, names[-1])
    config = HeadConfig("speaker", names, names[-1], dict.fromkeys(config.readers, (4,)))
    scales = {n: Scale(torch.zeros(128), torch.ones(128), torch.ones(3, 128)) for n in names}
    folder.mkdir()
    Head(config, scales, torch.zeros(4, 3)).save(folder)
    return SwitcherConfig("head", path=str(folder))


def on(team: TeamConfig, folder: Path, **changes: Any) -> TeamConfig:
    """The team with its last candidate in `folder`."""
    last = replace(team.candidates[-1], spec=ModelSpec(str(folder)))
    return replace(team, candidates=(*team.candidates[:-1], last), **changes)


def test_a_folded_checkpoint_is_saved_with_one_setting_more(
    pocket: TeamConfig, published: Path, tmp_path: Path
) -> None:
    team = on(pocket, published, switcher=head_of(pocket, tmp_path / "head"))
    export_folded(team, tmp_path / "out")
    found = json.loads((tmp_path / "out" / "aligned" / FILE).read_text())
    assert found.pop("suppress_tokens") == [10, 11, 12]
    assert found == json.loads(SHIPPED)


def test_reinforcement_judge_and_merging_save_it_too(
    pocket: TeamConfig, published: Path, tmp_path: Path
) -> None:
    spec = ModelSpec(str(published))
    learner = LMLearner(replace(pocket, switcher=SwitcherConfig("lm", spec=spec)), None)
    unforgiving(learner._model)
    (tmp_path / "switcher").mkdir()
    learner.export(tmp_path / "switcher")
    asyncio.run(learner.close())
    train_judge(published, tmp_path / "judge", examples=32)
    part = CheckpointTensors("aligned", spec)
    merge([part], lambda name, tensors: tensors[0], part, tmp_path / "merged")
    for name in ("switcher", "judge", "merged"):
        assert (tmp_path / name / FILE).read_bytes() == SHIPPED, name


def refuse(*arguments: Any, **settings: Any) -> None:
    raise ValueError("this tokenizer cannot be written")


@pytest.fixture
def unsavable(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import PreTrainedTokenizerFast

    monkeypatch.setattr(PreTrainedTokenizerFast, "save_pretrained", refuse)


CANNOT = "cannot be written"


@pytest.mark.usefixtures("unsavable")
def test_a_tokenizer_that_cannot_be_saved_is_known_before_the_work(
    pocket: TeamConfig,
    published: Path,
    labels: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from taketurns.training.trainer import ObjectiveTrainer

    def begun(*arguments: Any, **settings: Any) -> None:
        pytest.fail("the work has begun")

    monkeypatch.setattr(ObjectiveTrainer, "train", begun)
    monkeypatch.setattr(distillation, "sample", begun)
    monkeypatch.setattr("taketurns.integrations.export.run.load_model", begun)
    with pytest.raises(ConfigError, match=f"is not trained: .*{CANNOT}"):
        train(pocket, labels, tmp_path / "switcher", LMSettings())
    for lora in (False, True):
        with pytest.raises(ConfigError, match=f"is not trained: .*{CANNOT}"):
            distillation.distill(order(pocket, lora=lora), tmp_path / f"student-{lora}", compare)
    headed = replace(pocket, switcher=head_of(pocket, tmp_path / "head"))
    with pytest.raises(ConfigError, match=f"tokenizer of pretrained cannot be saved: .*{CANNOT}"):
        export_folded(headed, tmp_path / "folded")
    with pytest.raises(
        UsageError, match=f"merged checkpoint cannot be saved .* aligned .*{CANNOT}"
    ):
        rehearse_merge(CheckpointTensors("aligned", ModelSpec(str(published))), tmp_path)
    assert not list(tmp_path.rglob(".trial-*"))


def test_a_disk_without_room_is_known_before_the_work(
    pocket: TeamConfig, labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = 20_000_000  # a checkpoint of 900,000 numbers and its optimizer take 11 MB
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=free))
    said = r"has 0.0 GB free, but the checkpoints of a training may take 0.0 GB: free some"
    with pytest.raises(DataError, match=said):
        train(pocket, labels, tmp_path / "switcher", LMSettings())
    with pytest.raises(DataError, match=said):
        rehearse(pocket.candidates[2].spec, tmp_path, StudentConfig(), distillation.DEFAULTS)
    assert last_checkpoint(tmp_path / "switcher" / "checkpoints") is None


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (
            ("a/b", "a b", "c"),
            r"'a b' would be 'a-b', which is also the name for the candidate 'a/b'",
        ),
        (("..", "b", "c"), r"'\.\.' would be '\.\.', which is also the name for another file"),
        (("team.yaml", "b", "c"), "the name for another file of the export; rename the candidate"),
    ],
)
def test_names_that_make_no_folder_of_their_own(
    names: tuple[str, ...], said: str, pocket: TeamConfig, tmp_path: Path
) -> None:
    """Fault: a candidate was taken for one that was written already, and left out."""
    renamed = tuple(
        replace(candidate, name=name)
        for candidate, name in zip(pocket.candidates, names, strict=True)
    )
    team = replace(pocket, candidates=renamed)
    headed = replace(team, switcher=head_of(team, tmp_path / "head"))
    with pytest.raises(ConfigError, match=said):
        export_folded(headed, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_no_build_made_is_not_replaced(tmp_path: Path) -> None:
    """Fault: `pocket build` removed a folder called sft, and wrote over a team.yaml."""
    (tmp_path / "one" / "sft").mkdir(parents=True)
    (tmp_path / "one" / "sft" / "model.safetensors").write_text("of the user")
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "team.yaml").write_text("of the user")
    for name, file in (("one", "sft"), ("two", "team.yaml")):
        theirs = re.escape(str(tmp_path / name / file))
        with pytest.raises(UsageError, match=f"{theirs} exists and no build made it"):
            build(tmp_path / name, 0)
    assert len(list(tmp_path.rglob("*"))) == 5


def test_a_folder_is_written_by_one_process_at_a_time(
    pocket: TeamConfig, labels: Path, tmp_path: Path
) -> None:
    headed = replace(pocket, switcher=head_of(pocket, tmp_path / "head"))
    out = tmp_path / "out"
    runs: dict[str, Callable[[], Any]] = {
        "examples.jsonl": lambda: train(pocket, labels, out, LMSettings()),
        "kept.jsonl": lambda: distillation.distill(order(pocket), out, compare),
        "local.yaml": lambda: export_folded(headed, out),
    }
    out.mkdir()
    for first, run in runs.items():
        with lock_now(out / first), pytest.raises(DataError, match="is being written by another"):
            run()
    assert not list(out.iterdir())
