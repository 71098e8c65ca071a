"""A pipeline of a few steps, end to end, stopped and taken up again."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from taketurns.errors import UsageError
from taketurns.pocket.build import build
from taketurns.pocket.recipe import STAGES, Alignment, Measuring, Pretraining, Recipe, Shape, Tuning

pytest.importorskip("trl", reason="needs the train extra")
pytestmark = pytest.mark.filterwarnings("ignore")  # the trainers warn of their own future

TINY = Recipe(
    shape=Shape(width=32, layers=1, inner=32),
    pretraining=Pretraining(steps=3, batch=2, block=64, warmup=1, bf16=False),
    tuning=Tuning(examples=16, epochs=1, batch=8, warmup=1),
    alignment=Alignment(steps=2, prompts=2, answers=2, longest=8, warmup=1),
    measuring=Measuring(questions=2, budget=8, batch=8),
)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    out = tmp_path_factory.mktemp("trio")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        build(out, seed=0, threads=1, recipe=TINY)
        yield out


def _stamps(out: Path) -> dict[str, float]:
    return {stage: (out / stage / "model.safetensors").stat().st_mtime_ns for stage in STAGES}


def test_every_stage_loads_as_any_checkpoint(built: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    for stage in STAGES:
        model = AutoModelForCausalLM.from_pretrained(built / stage)
        tokenizer = AutoTokenizer.from_pretrained(built / stage)
        assert model.config.max_position_embeddings >= 2048
        assert model.generation_config.eos_token_id == tokenizer.eos_token_id
        assert (tokenizer.chat_template is None) == (stage == "pretrained")
    assert not [path for path in built.iterdir() if path.name.startswith(".")]


def test_the_card_says_what_each_scores(built: Path) -> None:
    card = json.loads((built / "card.json").read_text())
    assert set(card["scores"]) == set(STAGES)
    assert all(0 <= f["low"] <= f["high"] <= 1 for f in card["scores"]["sft"])
    assert "| recall | knowledge |" in (built / "card.md").read_text()


def test_a_finished_build_is_left_alone(built: Path) -> None:
    before = _stamps(built)
    build(built, seed=0, threads=1, recipe=TINY)
    assert _stamps(built) == before


def test_a_broken_off_build_goes_on_and_ends_the_same(built: Path, tmp_path: Path) -> None:
    out = tmp_path / "again"
    out.mkdir()
    shutil.copytree(built / "pretrained", out / "pretrained")
    (out / ".sft.partial").mkdir()
    (out / ".sft.partial" / "model.safetensors").write_text("half written")
    stamp = (out / "pretrained" / "model.safetensors").stat().st_mtime_ns
    build(out, seed=0, threads=1, recipe=TINY)
    assert (out / "pretrained" / "model.safetensors").stat().st_mtime_ns == stamp
    for stage in STAGES:
        weights = "model.safetensors"
        assert (out / stage / weights).read_bytes() == (built / stage / weights).read_bytes()


def test_a_file_is_no_place_to_build_in(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("")
    with pytest.raises(UsageError, match="is a file"):
        build(tmp_path / "x", recipe=TINY)
