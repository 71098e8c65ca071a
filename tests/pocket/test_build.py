"""A pipeline of a few steps, end to end, stopped and taken up again."""

import json
import shutil
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest

from recipes.pocket.build import build, sample_text
from recipes.pocket.recipe import (
    CHECKPOINTS,
    Alignment,
    Labelling,
    Measuring,
    ModelShape,
    Pretraining,
    Recipe,
    SwitcherTraining,
    Tuning,
)
from taketurns import Team
from taketurns.errors import UsageError

pytest.importorskip("trl", reason="needs the train extra")

TINY = Recipe(
    shape=ModelShape(width=32, layers=1, inner=32),
    pretraining=Pretraining(steps=3, batch=2, block=64, warmup=1, bf16=False),
    tuning=Tuning(examples=16, epochs=1, batch=8, warmup=1),
    alignment=Alignment(steps=2, prompts=2, answers=2, longest=8, warmup=1),
    labelling=Labelling(prefixes=39, k=2),
    switching=SwitcherTraining(steps=1, checked=1),
    measuring=Measuring(questions=2, together=1, budget=8, batch=8),
)
WEIGHTS = Path(str(files("taketurns.pocket") / "weights"))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    out = tmp_path_factory.mktemp("trio")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        build(out, seed=0, threads=1, recipe=TINY, until="aligned")
        yield out


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped checkpoints, and the stages that follow them."""
    out = tmp_path_factory.mktemp("team")
    for stage in CHECKPOINTS:
        shutil.copytree(WEIGHTS / stage, out / stage)
        marker = {"digest": TINY.digest(stage, sample_text(TINY, stage)), "seconds": 1}
        (out / stage / "stage.json").write_text(json.dumps(marker))
    build(out, recipe=TINY)
    return out


def _stamps(out: Path) -> dict[str, float]:
    return {stage: (out / stage / "model.safetensors").stat().st_mtime_ns for stage in CHECKPOINTS}


def test_every_stage_loads_as_any_checkpoint(built: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    for stage in CHECKPOINTS:
        model = AutoModelForCausalLM.from_pretrained(built / stage)
        tokenizer = AutoTokenizer.from_pretrained(built / stage)
        assert model.config.max_position_embeddings >= 2048
        assert model.generation_config.eos_token_id == tokenizer.eos_token_id
        assert (tokenizer.chat_template is None) == (stage == "pretrained")
    assert not [path for path in built.iterdir() if path.name.startswith(".")]


@pytest.mark.slow
def test_switchers_are_learned_from_its_own_labels(team: Path) -> None:
    assert {"global", "lm", "practised"} <= {path.name for path in (team / "switchers").iterdir()}
    head = Team.load(team)
    assert [candidate.name for candidate in head.candidates] == list(CHECKPOINTS)
    answer = head.generate("what is 12 + 30?")
    assert answer.error is None
    assert Team.load(team / "switchers" / "lm").generate("what is 12 + 30?").error is None


@pytest.mark.slow
def test_the_card_says_what_each_scores(team: Path) -> None:
    card = json.loads((team / "card.json").read_text())
    assert set(card["scores"]) == set(CHECKPOINTS)
    assert all(0 <= f["low"] <= f["high"] <= 1 for f in card["scores"]["sft"])
    assert {"random", "switch-global", "switch-practised", "switch-lm"} <= set(card["together"])
    text = (team / "card.md").read_text()
    assert "| recall | knowledge |" in text
    assert "## Together" in text


@pytest.mark.slow
def test_a_finished_build_is_left_alone(team: Path) -> None:
    files = [team / "card.md", team / "switchers" / "global" / "head.safetensors"]
    before = [path.stat().st_mtime_ns for path in files]
    build(team, recipe=TINY)
    assert [path.stat().st_mtime_ns for path in files] == before


def test_a_broken_off_build_goes_on_and_ends_the_same(built: Path, tmp_path: Path) -> None:
    out = tmp_path / "again"
    out.mkdir()
    shutil.copytree(built / "pretrained", out / "pretrained")
    (out / ".sft.taketurns-draft").mkdir()
    (out / ".sft.taketurns-draft" / "model.safetensors").write_text("half written")
    stamp = (out / "pretrained" / "model.safetensors").stat().st_mtime_ns
    build(out, seed=0, threads=1, recipe=TINY, until="aligned")
    assert (out / "pretrained" / "model.safetensors").stat().st_mtime_ns == stamp
    for stage in CHECKPOINTS:
        weights = "model.safetensors"
        assert (out / stage / weights).read_bytes() == (built / stage / weights).read_bytes()


def test_a_file_is_no_place_to_build_in(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("")
    with pytest.raises(UsageError, match="is a file"):
        build(tmp_path / "x", recipe=TINY)
