"""Merged weights, tensor by tensor: by hand, and against mergekit where it is installed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from taketurns.config.team_config import EngineConfig
from taketurns.engines.local.library_logging import asked_by_an_old_name
from taketurns.errors import UsageError
from taketurns.evaluation.methods.adapters import whole_checkpoint
from taketurns.evaluation.methods.base import MethodContext
from taketurns.evaluation.methods.checkpoints import CheckpointTensors, check_mergeable, merge
from taketurns.evaluation.methods.merging import DareTies, GreedySoup, average, dare_ties
from taketurns.types import ModelSpec, Query
from taketurns.utils.seeds import derive

SEEDS = [11, 12]


def test_signs_are_elected_and_the_rest_is_left_out() -> None:
    base = torch.tensor([1.0, 1.0, 1.0, 1.0])
    tuned = [torch.tensor([2.0, 3.0, 0.0, 1.0]), torch.tensor([3.0, 0.5, 0.5, 1.0])]
    merged = dare_ties(base, tuned, SEEDS, density=1.0)
    # Changes: (1, 2, -1, 0) and (2, -0.5, -0.5, 0).
    assert merged.tolist() == [2.5, 3.0, 0.25, 1.0]
    assert dare_ties(base, tuned, SEEDS, density=1.0, scale=0.5).tolist() == [1.75, 2, 0.625, 1]


def test_half_is_dropped_and_what_stays_is_doubled() -> None:
    """Fault: a density of 1 drops nothing."""
    base, tuned = torch.zeros(100, 100), torch.ones(100, 100)
    merged = dare_ties(base, [tuned], SEEDS[:1])
    assert merged.unique().tolist() == [0.0, 2.0]
    assert float((merged == 0).float().mean()) == pytest.approx(0.5, abs=0.03)
    assert float(merged.mean()) == pytest.approx(1.0, abs=0.05)
    assert torch.equal(merged, dare_ties(base, [tuned], SEEDS[:1]))
    assert not torch.equal(merged, dare_ties(base, [tuned], SEEDS[1:]))


@pytest.mark.parametrize("shape", [(40,), (30, 20)])
def test_it_is_what_mergekit_makes_of_the_same_draws(shape: tuple[int, ...]) -> None:
    """mergekit draws from torch's own generator, for one checkpoint after the other; its scale for
    what is kept is set by hand to the papers' 1 / density."""
    gta = pytest.importorskip("mergekit.merge_methods.generalized_task_arithmetic")
    random = torch.Generator().manual_seed(5)
    base, *tuned = (torch.randn(shape, generator=random) for _ in range(3))
    method = gta.GeneralizedTaskArithmeticMerge(
        consensus_method=gta.ConsensusMethod.sum,
        sparsification_method=gta.SparsificationMethod.random,
        default_normalize=True,
        default_rescale=False,
        method_name="dare_ties",
        method_pretty_name=None,
        method_reference_url=None,
    )
    entries = [SimpleNamespace(id=str(i), tensor=tensor) for i, tensor in enumerate(tuned)]
    group = SimpleNamespace(base=SimpleNamespace(tensor=base), non_base=entries)
    bernoulli, seeds = torch.bernoulli, iter(SEEDS)

    def seeded(probabilities: torch.Tensor) -> torch.Tensor:
        return bernoulli(probabilities, generator=torch.Generator().manual_seed(next(seeds)))

    sparsify = sys.modules[gta.sparsify.__module__]
    patched = SimpleNamespace(**{**vars(torch), "bernoulli": seeded})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sparsify, "torch", patched)
        theirs = method.merge_group(
            group,
            density=dict.fromkeys("01", 0.5),
            weight=dict.fromkeys("01", 1.0),
            rescale=False,
            normalize=True,
            int8_mask=False,
            **{"lambda": 1 / 0.5},
        )
    torch.testing.assert_close(dare_ties(base, tuned, SEEDS), theirs)


def test_a_merged_checkpoint_is_a_checkpoint(three_models: dict[str, str], tmp_path: Path) -> None:
    """It loads, answers with the mean of all weights, and speaks as the last one does."""
    parts = [CheckpointTensors(name, ModelSpec(path)) for name, path in three_models.items()]
    check_mergeable(parts)
    spec = merge(parts, average, parts[-1], tmp_path / "soup")
    merged = AutoModelForCausalLM.from_pretrained(spec.model).state_dict()
    all_ = [AutoModelForCausalLM.from_pretrained(p).state_dict() for p in three_models.values()]
    assert merged.keys() == all_[0].keys()
    for name, tensor in merged.items():
        torch.testing.assert_close(tensor, sum(one[name] for one in all_) / 3)
    before = (tmp_path / "soup" / "config.json").stat().st_mtime_ns
    assert merge(parts, average, parts[-1], tmp_path / "soup") == spec
    assert (tmp_path / "soup" / "config.json").stat().st_mtime_ns == before


def test_large_checkpoints_are_read_and_written_in_parts(
    three_models: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taketurns.evaluation.methods.checkpoints.SHARD_BYTES", 20_000)
    parts = [CheckpointTensors(name, ModelSpec(path)) for name, path in three_models.items()]
    spec = merge(parts, average, parts[-1], tmp_path / "soup")
    assert len(list((tmp_path / "soup").glob("model-*.safetensors"))) > 2
    sharded = CheckpointTensors("soup", spec)
    check_mergeable([sharded, parts[0]])
    again = merge([sharded], average, sharded, tmp_path / "again")
    mine, theirs = (AutoModelForCausalLM.from_pretrained(s.model) for s in (spec, again))
    assert all(
        torch.equal(a, b)
        for a, b in zip(mine.state_dict().values(), theirs.state_dict().values(), strict=True)
    )


def test_shapes_that_differ_are_named_before_anything_is_merged(
    three_models: dict[str, str], make_model: Callable[..., Path], tmp_path: Path
) -> None:
    first = CheckpointTensors("base", ModelSpec(three_models["m0"]))
    wide = CheckpointTensors("wide", ModelSpec(str(make_model(1, intermediate_size=96))))
    deep = CheckpointTensors("deep", ModelSpec(str(make_model(1, num_hidden_layers=3))))
    with pytest.raises(
        UsageError, match=r"base and wide cannot be merged: .* is 64x128 in base and 64x96 in wide"
    ):
        check_mergeable([first, wide])
    with pytest.raises(UsageError, match=r"layers\.2\..* is missing in base"):
        check_mergeable([first, deep])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no safetensors weights"):
        CheckpointTensors("empty", ModelSpec(str(tmp_path / "empty")))


async def test_weights_of_other_vocabularies_are_not_averaged(
    real: Callable[..., MethodContext],
    three_models: dict[str, str],
    make_model: Callable[..., Path],
) -> None:
    """Fault: of one shape were enough, so embeddings of different tokens were averaged."""
    other = make_model(1)
    tokenizer = json.loads((other / "tokenizer.json").read_text(encoding="utf-8"))
    ids = tokenizer["model"]["vocab"]
    ids["a"], ids["b"] = ids["b"], ids["a"]
    (other / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    stage = real({"m0": three_models["m0"], "swapped": other}, [])
    for method in (GreedySoup(stage), DareTies(stage)):
        with pytest.raises(UsageError, match="vocabularies of m0, swapped differ"):
            await method.check()
    await stage.close()


async def test_what_is_merged_is_served_nowhere(scripted: Callable[..., Any]) -> None:
    stage, _ = scripted([], scripts={"a": "", "b": "", "c": ""})
    stage.config = replace(stage.config, engine=EngineConfig(kind="http"))
    for method in (GreedySoup(stage), DareTies(stage)):
        with pytest.raises(UsageError, match="a merged checkpoint needs an engine on this machine"):
            await method.check()


async def test_a_soup_takes_in_what_does_not_hurt(
    real: Callable[..., MethodContext],
    three_models: dict[str, str],
    word: Any,
    asking: Any,
    tmp_path: Path,
) -> None:
    """Two good checkpoints that are equal, one that is broken: the soup is of the two."""

    def copy(name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        for file in Path(three_models["m1"]).iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        weights = load_file(folder / "model.safetensors")
        save_file({n: change(t) for n, t in weights.items()}, folder / "model.safetensors",
                  metadata={"format": "pt"})  # fmt: skip
        return folder

    models = {
        "a": three_models["m1"],
        "b": copy("b", lambda t: t),
        "bad": copy("bad", lambda t: t.roll(1, 0) * -3),
    }
    probe = real(models, [word("t", {"q": "x"})], temperature=0.0)
    text = (await probe.alone("a").agenerate("say it")).text
    await probe.close()
    task = word("t", {"say it": text.split()[-1].strip(".")})
    stage = real(models, [task], temperature=0.0)
    soup = GreedySoup(stage)
    await soup.check()
    dev = asking(stage.tasks)
    chosen = await soup.prepare(dev)
    assert sorted(chosen["ingredients"]) == ["a", "b"]
    assert chosen["dev"] == 1.0
    assert (await soup.answer(task, task.queries("test")[0], 0)).text == text
    sparse = DareTies(stage)
    assert (await sparse.prepare(asking(stage.tasks)))["density"] == 0.5
    assert (await sparse.answer(task, task.queries("test")[0], 0)).error is None
    await stage.close()


@pytest.fixture(scope="session")
def on_m0(
    three_models: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, ModelSpec]:
    """Two adapters on m0, and m0 as it is."""
    specs = {}
    for seed, name in enumerate(("first", "second")):
        torch.manual_seed(seed)
        config = LoraConfig(r=4, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
        folder = tmp_path_factory.mktemp("adapters") / name
        with asked_by_an_old_name():
            tuned = get_peft_model(AutoModelForCausalLM.from_pretrained(three_models["m0"]), config)
        tuned.save_pretrained(folder)
        specs[name] = ModelSpec(three_models["m0"], adapter=str(folder), prompt="{text}")
    return {**specs, "bare": ModelSpec(three_models["m0"], prompt="{text}")}


def test_an_adapter_is_merged_into_its_model(on_m0: dict[str, ModelSpec], tmp_path: Path) -> None:
    spec = on_m0["first"]
    made = whole_checkpoint(CheckpointTensors("first", spec), tmp_path / "whole")
    assert made.spec == ModelSpec(str(tmp_path / "whole"), prompt="{text}")
    whole = AutoModelForCausalLM.from_pretrained(made.spec.model).state_dict()
    model = AutoModelForCausalLM.from_pretrained(spec.model)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with asked_by_an_old_name():
        merged = PeftModel.from_pretrained(model, spec.adapter).merge_and_unload().state_dict()
    assert {name for name in whole if not torch.equal(whole[name], before[name])} == {
        name for name in whole if "q_proj" in name or "down_proj" in name
    }
    for name, tensor in merged.items():
        torch.testing.assert_close(whole[name], tensor)
    again = whole_checkpoint(CheckpointTensors("first", spec), tmp_path / "whole")
    assert again.spec == made.spec
    bare = CheckpointTensors("bare", on_m0["bare"])
    assert whole_checkpoint(bare, tmp_path / "none") is bare


async def test_adapters_on_one_model_are_merged_onto_that_model(
    real: Callable[..., MethodContext], on_m0: dict[str, ModelSpec], word: Any, asking: Any
) -> None:
    """The base is the model of all, not the first adapter on it; the bare model adds no change."""
    stage = real(on_m0, [word("t", {"q": "x"})])
    method = DareTies(stage)
    await method.check()
    chosen = await method.prepare(asking(stage.tasks))
    assert chosen["base"] == on_m0["bare"].model
    [merged] = stage.folder.glob("dare-ties-*/model-00001.safetensors")
    weights, base = load_file(merged), load_file(Path(chosen["base"]) / "model.safetensors")
    parts = [
        load_file(stage.folder / f"whole-{name}" / "model-00001.safetensors")
        for name in ("first", "second")
    ]
    for name, tensor in weights.items():
        seeds = [derive(stage.policy.seed, name, index) for index in range(2)]
        torch.testing.assert_close(tensor, dare_ties(base[name], [p[name] for p in parts], seeds))
    assert (await method.answer(stage.tasks["t"], Query("q", text="q"), 0)).error is None

    soup = GreedySoup(stage)
    await soup.check()
    assert set((await soup.prepare(asking(stage.tasks)))["ingredients"]) <= set(on_m0)
    await stage.close()
