"""Checkpoints whose weights are in parts, of experts, or in fewer bits."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from taketurns.checkpoints.text import TextCodec
from taketurns.engines.local import loading
from taketurns.engines.local.engine import LocalEngine
from taketurns.engines.local.library_logging import asked_by_an_old_name
from taketurns.errors import ConfigError
from taketurns.generation.check import weights as weight_sizes
from taketurns.training.models import load_trainable
from taketurns.types import ModelSpec, Sampling

Life = Callable[..., dict[str, Any]]


def experts(kind: str) -> Any:
    import transformers

    return getattr(transformers, kind)


EIGHT_BITS = {"quant_method": "quanto", "weights": "int8"}
MIXTURES = {
    "MixtralConfig": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "Qwen3MoeConfig": {
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 32,
        "head_dim": 16,
    },
    "OlmoeConfig": {"num_experts": 4, "num_experts_per_tok": 2},
}


@pytest.fixture(scope="session")
def mixtures(make_model: Callable[..., Path]) -> dict[str, Path]:
    return {
        kind: make_model(1, config_class=experts(kind), **settings)
        for kind, settings in MIXTURES.items()
    }


@pytest.fixture(scope="session")
def parted(tmp_path_factory: pytest.TempPathFactory, make_model: Callable[..., Path]) -> Path:
    """A bfloat16 checkpoint in several files with an index."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    whole, folder = make_model(2), tmp_path_factory.mktemp("parted")
    model = AutoModelForCausalLM.from_pretrained(whole, dtype=torch.bfloat16)
    model.save_pretrained(folder, max_shard_size="60KB")
    AutoTokenizer.from_pretrained(whole).save_pretrained(folder)
    assert len(list(folder.glob("*.safetensors"))) > 2
    assert not (folder / "model.safetensors").exists()
    return folder


def test_a_life_in_parts(life: Life, parted: Path, three_models: dict[str, str]) -> None:
    gave = life({"model": str(parted)}, {"model": three_models["m0"]})
    one, two = gave["check"]["models"]
    assert one["dtype"] == "float32"
    assert one["weight_bytes"] == two["weight_bytes"]
    model = loading.Weights({"m": ModelSpec(str(parted))}).load("m").model
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=() if kind == "Qwen3MoeConfig" else pytest.mark.slow)
        for kind in MIXTURES
    ],
)
def test_a_life_of_experts(
    life: Life, mixtures: dict[str, Path], kind: str, three_models: dict[str, str]
) -> None:
    gave = life({"model": str(mixtures[kind])}, {"model": three_models["m0"]})
    one, two = gave["check"]["models"]
    model = loading.Weights({"m": ModelSpec(str(mixtures[kind]))}).load("m").model
    assert one["weight_bytes"] == model.get_memory_footprint(return_buffers=False)
    assert one["inexact"] == "it is a mixture of experts"
    assert two["inexact"] is None
    assert any("one: it is a mixture of experts" in note for note in gave["check"]["notes"])


@pytest.mark.parametrize("kind", MIXTURES)
async def test_experts_write_what_transformers_writes(mixtures: dict[str, Path], kind: str) -> None:
    await same_as_transformers(ModelSpec(str(mixtures[kind])))


async def test_a_checkpoint_may_ask_for_its_routers_logits(make_model: Callable[..., Path]) -> None:
    """A trainer leaves that in config.json."""
    settings = MIXTURES["OlmoeConfig"] | {"output_router_logits": True}
    folder = make_model(1, config_class=experts("OlmoeConfig"), **settings)
    assert json.loads((folder / "config.json").read_text())["output_router_logits"]
    await same_as_transformers(ModelSpec(str(folder)))


def test_a_life_in_fewer_bits(life: Life, three_models: dict[str, str]) -> None:
    bits = {"model": three_models["m1"], "quantization_config": EIGHT_BITS}
    gave = life(bits, {"model": three_models["m0"]}, kinds=("head",))
    one, two = gave["check"]["models"]
    model = loading.Weights({"m": ModelSpec(**bits)}).load("m").model
    held = {name: part for name, part in model.state_dict().items() if "put_scale" not in name}
    assert {part.dtype for part in held.values()} == {torch.int8, torch.float32}
    taken = sum(part.nbytes for part in held.values())
    assert one["weight_bytes"] == pytest.approx(taken, rel=0.02)
    assert one["weight_bytes"] < two["weight_bytes"] * 0.7
    assert one["inexact"] == "its weights are quantised"


@pytest.fixture
def tuned(tmp_path: Path, three_models: dict[str, str], byte_tokenizer: Any) -> Path:
    """An adapter whose folder has a tokenizer and a chat template of its own, in which two letters
    have changed their ids."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    base = AutoModelForCausalLM.from_pretrained(three_models["m0"])
    folder = tmp_path / "adapter"
    with asked_by_an_old_name():
        get_peft_model(base, LoraConfig(r=2, init_lora_weights=False)).save_pretrained(folder)
    described = json.loads(byte_tokenizer.backend_tokenizer.to_str())
    words = described["model"]["vocab"]
    words["a"], words["b"] = words["b"], words["a"]
    (folder / "tokenizer.json").write_text(json.dumps(described))
    own = PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"), bos_token="<s>", eos_token="</s>"
    )
    own.chat_template = "{% for m in messages %}<s>{{ m.content }}{% endfor %}"
    own.save_pretrained(folder)
    return folder


def test_a_life_of_an_adapter_with_its_own_tokenizer(
    life: Life, three_models: dict[str, str], tuned: Path
) -> None:
    base = {"model": three_models["m0"]}
    gave = life(base, {**base, "adapter": str(tuned)}, kinds=("head",))
    one, two = gave["check"]["models"]
    assert two["shares_weights"]
    assert (one["prompt"], two["prompt"]) == ("bare text", "chat template")
    assert not gave["check"]["exact"]
    specs = ModelSpec(**base), ModelSpec(**base, adapter=str(tuned))
    codecs = [TextCodec.load(spec) for spec in specs]
    ids = [codec.encode("a") for codec in codecs]
    assert ids[0] == codecs[1].encode("b")
    for answer in gave["answers"]:
        written = "".join(patch["text"] for patch in answer["patches"])
        assert written == answer["text"]


def test_fewer_bits_are_trained_by_an_adapter_only(three_models: dict[str, str]) -> None:
    spec = ModelSpec(three_models["m1"], quantization_config=EIGHT_BITS)
    for whole in (False, None):  # a model as small as this is trained whole where nothing is said
        with pytest.raises(ConfigError, match="train an adapter on them with --lora"):
            load_trainable(spec, whole)
    assert load_trainable(spec, True)


async def test_fewer_bits_write_what_transformers_writes(three_models: dict[str, str]) -> None:
    await same_as_transformers(ModelSpec(three_models["m1"], quantization_config=EIGHT_BITS))


@pytest.mark.parametrize("inexact", ["experts", "bits"])
async def test_what_depends_on_the_batch_is_not_called_deterministic(
    mixtures: dict[str, Path], three_models: dict[str, str], inexact: str
) -> None:
    spec = (
        ModelSpec(str(mixtures["MixtralConfig"]))
        if inexact == "experts"
        else ModelSpec(three_models["m1"], quantization_config=EIGHT_BITS)
    )
    engine = LocalEngine({"m": spec})
    await engine.load("m")
    assert not engine.running("m").exact
    await engine.close()
    strict = LocalEngine({"m": spec}, deterministic=True)
    with pytest.raises(ConfigError, match="m cannot be run with engine"):
        await strict.load("m")
    await strict.close()


def test_what_reads_fewer_bits_is_named(
    invoke: Callable[..., tuple[int, str, str]],
    three_models: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(weight_sizes, "find_spec", lambda name: None)
    entries = [
        {
            "name": method,
            "model": three_models["m0"],
            "quantization_config": {"quant_method": method},
        }
        for method in ("quanto", "torchao", "bitsandbytes")
    ]
    (tmp_path / "team.yaml").write_text(json.dumps({"candidates": entries}))
    code, out, _ = invoke("check", "--team", tmp_path, "--json")
    assert code != 0
    problems = json.loads(out)["problems"]
    for package in ("optimum-quanto", "torchao", "bitsandbytes"):
        assert any(problem.endswith(f"pip install {package}") for problem in problems)


async def same_as_transformers(spec: ModelSpec) -> None:
    """Alone and in a crowd, greedily."""
    engine = LocalEngine({"m": spec})
    prompts = [[5, 9, 30 + i, *[7] * (3 * i)] for i in range(7)]
    sampling = Sampling(max_tokens=24, temperature=0)

    async def answer(prompt: list[int]) -> list[int]:
        async with engine.session(0) as session:
            return [*(await session.generate("m", prompt, sampling)).token_ids]

    written = [await answer(prompts[0]), *await asyncio.gather(*map(answer, prompts[1:]))]
    await engine.close()
    model = loading.Weights({"m": spec}).load("m").model
    end = model.config.eos_token_id
    for prompt, ids in zip(prompts, written, strict=True):
        wanted = model.generate(torch.tensor([prompt]), max_new_tokens=24, do_sample=False)
        assert ids == [token for token in wanted[0, len(prompt) :].tolist() if token != end]
