"""A model that computes NaN has failed, alone of its batch; weights with NaN are not loaded."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable
from math import inf, nan
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import MistralConfig

from taketurns import Candidate, ModelSpec, Policy, Team
from taketurns.engines.local import loading
from taketurns.engines.local.engine import LocalEngine
from taketurns.engines.local.finite_weights import check_tensors
from taketurns.engines.local.library_logging import asked_by_an_old_name
from taketurns.engines.local.sampling import drawable
from taketurns.errors import ConfigError, NotANumberError
from taketurns.switchers.simple import FixedSwitcher, RandomSwitcher
from taketurns.types import Sampling

Invoke = Callable[..., tuple[int, str, str]]

BAD_TOKEN = 7  # "(": the models below compute NaN at it and at all after it


@pytest.fixture
def spoil(tmp_path: Path, three_models: dict[str, str]) -> Callable[..., Path]:
    """A copy of a model with a number of one of its tensors changed."""

    def make(tensor: str, value: float, at: int = 0, model: Path | None = None) -> Path:
        folder = tmp_path / "spoiled"
        shutil.copytree(model or three_models["m0"], folder, dirs_exist_ok=True)
        weights = load_file(folder / "model.safetensors")
        weights[tensor].view(-1)[at] = value
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
        return folder

    return make


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if what is wrong with the weights showed at certain prompts alone, as an overflow does."""
    monkeypatch.setattr(loading, "check_weights", lambda *arguments, **more: None)


def at_a_token(spoil: Callable[..., Path], model: Path | None = None) -> Path:
    return spoil("model.embed_tokens.weight", nan, at=BAD_TOKEN * 64, model=model)


@pytest.mark.parametrize("value", [nan, inf])
@pytest.mark.parametrize("tensor", ["model.norm.weight", "model.layers.1.mlp.up_proj.weight"])
def test_weights_that_hold_no_number_are_refused_with_their_name(
    invoke: Invoke, tmp_path: Path, spoil: Callable[..., Path], tensor: str, value: float
) -> None:
    folder = str(spoil(tensor, value, at=3))
    plain = [{"name": name, "model": folder} for name in ("a", "b")]
    (tmp_path / "team.yaml").write_text(json.dumps({"candidates": plain}))
    (tmp_path / "in.jsonl").write_text('{"id": "1", "text": "Q"}\n')
    answers = tmp_path / "out.jsonl"
    code, _, err = invoke(
        *("generate", "--team", tmp_path / "team.yaml"),
        *("--input", tmp_path / "in.jsonl", "--output", answers),
    )
    assert code == 2
    assert f"the model {folder!r} cannot be used: 1 of the " in err
    assert f"infinite in {tensor}, as float32" in err
    assert not answers.exists()
    code, out, err = invoke("check", "--team", tmp_path / "team.yaml")
    assert code == 1
    assert tensor in " ".join((out + err).split())


def test_what_is_too_large_to_be_read_at_once_is_read_on_request(
    invoke: Invoke, tmp_path: Path, spoil: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taketurns.generation.check.local.SHORT_LOAD", 1000)
    folder = str(spoil("model.norm.weight", nan))
    plain = [{"name": name, "model": folder} for name in ("a", "b")]
    (tmp_path / "team.yaml").write_text(json.dumps({"candidates": plain}))
    code, out, _ = invoke("check", "--team", tmp_path / "team.yaml")
    assert code == 0
    assert "of weights were not searched for NaN" in " ".join(out.split())
    code, out, err = invoke("check", "--team", tmp_path / "team.yaml", "--weights")
    assert code == 1
    assert "infinite in model.norm.weight" in " ".join((out + err).split())


def test_an_adapter_is_looked_through_too(tmp_path: Path, three_models: dict[str, str]) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(three_models["m0"])
    lora = LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
    with asked_by_an_old_name():
        get_peft_model(model, lora).save_pretrained(tmp_path)
    weights = load_file(tmp_path / "adapter_model.safetensors")
    next(iter(weights.values()))[0, 0] = nan
    save_file(weights, tmp_path / "adapter_model.safetensors", {"format": "pt"})
    spec = ModelSpec(three_models["m0"], adapter=str(tmp_path))
    with pytest.raises(ConfigError, match=r"the adapter .* cannot be used: 1 of the "):
        loading.Weights({"a": spec}).load("a")


def test_minus_infinity_may_be_meant() -> None:
    bias = torch.tensor([0.0, -inf, 1.0])
    mask = torch.zeros(3, 3).masked_fill(torch.ones(3, 3).triu(1).bool(), -inf)
    many = torch.full((4,), 3e38)  # whose sum is infinite
    check_tensors([("bias", bias), ("mask", mask), ("many", many)], "x")
    check_tensors([("ids", torch.tensor([1, 2])), ("none", torch.zeros(0))], "x")
    for wrong in (torch.tensor([0.0, nan]), torch.tensor([inf]), torch.tensor([[-inf, 1.0]])):
        with pytest.raises(ConfigError, match=r"^x cannot be used: 1 of the .* infinite in w, as "):
            check_tensors([("bias", bias), ("w", wrong.half())], "x")


def test_rows_that_nothing_can_be_drawn_from() -> None:
    rows = torch.tensor([[0.0, -inf], [0.0, nan], [inf, 0.0], [-inf, -inf], [3e38, 0.0]])
    assert drawable(rows).tolist() == [True, False, False, False, False]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("deterministic", "temperature"), [(True, 0.7), (False, 0.0)])
async def test_nan_fails_the_answer_it_is_in_and_no_other(
    three_models: dict[str, str],
    spoil: Callable[..., Path],
    temperature: float,
    deterministic: bool,
) -> None:
    """Also what is written later in the lane where it was: a masked NaN is one."""
    specs = {"sick": ModelSpec(str(at_a_token(spoil))), "sound": ModelSpec(three_models["m0"])}
    engine = LocalEngine(specs, deterministic=deterministic)
    prompts = [[40 + number] * (30 - number) for number in range(4)]
    sick = [BAD_TOKEN, *range(50, 90)]
    sampling = Sampling(8, temperature=temperature)

    async def write(model: str, prompt: list[int]) -> Any:
        async with engine.session(1, 200) as session:
            return await session.generate(model, prompt, sampling)

    wanted = [(await write("sound", prompt)).token_ids for prompt in prompts]
    for _ in range(2):
        work = [write("sick", prompt) for prompt in (*prompts, sick)]
        *found, failed = await asyncio.gather(*work, return_exceptions=True)
        assert isinstance(failed, NotANumberError)
        assert str(failed) == (
            "sick computed NaN or infinity for the next token, after a prompt of 41 tokens"
        )
        if deterministic:
            assert [done.token_ids for done in found] == wanted
        assert all(done.finish == "length" for done in found)
    async with engine.session(1, 200) as session:
        with pytest.raises(NotANumberError, match="sick computed NaN"):
            await session.score("sick", sick, [1, 2])
        with pytest.raises(NotANumberError, match=r"sick computed NaN .* for its hidden states"):
            await session.hidden("sick", sick, (1, -1))
        with pytest.raises(NotANumberError, match="sick computed NaN"):
            await session.next_logprobs("sick", sick)
        # The session goes on with a prompt that is well.
        assert len((await session.generate("sick", prompts[0], sampling)).token_ids) == 8
    await engine.close()


@pytest.mark.usefixtures("unchecked")
async def test_models_that_write_together_fail_with_the_one_that_is_named(
    three_models: dict[str, str], spoil: Callable[..., Path]
) -> None:
    specs = {"sick": ModelSpec(str(at_a_token(spoil))), "sound": ModelSpec(three_models["m0"])}
    engine = LocalEngine(specs)
    names, sampling = ("sound", "sick"), Sampling(4)
    async with engine.session(1, 200) as session:
        with pytest.raises(NotANumberError, match=r"^sick computed NaN"):
            await session.generate_together(
                names, [[40], [40, BAD_TOKEN]], sampling, lambda logprobs: logprobs.mean(1)
            )
        with pytest.raises(NotANumberError, match=r"^sound, sick together gave NaN"):
            await session.generate_together(
                names, [[40], [41]], sampling, lambda logprobs: logprobs.mean(1) * nan
            )
        done = await session.generate_together(
            names, [[40], [41]], sampling, lambda logprobs: logprobs.mean(1)
        )
        assert len(done.token_ids) == 4
    await engine.close()


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("config", ["llama", "mistral"])
async def test_a_team_goes_on_without_the_candidate_that_computes_nan(
    make_model: Callable[..., Path],
    spoil: Callable[..., Path],
    config: str,
    three_models: dict[str, str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    sound = Path(three_models["m1"])
    if config == "mistral":  # a sliding window: encoded anew at each turn
        sound = make_model(config_class=MistralConfig, sliding_window=8)
    sick = at_a_token(spoil, sound)
    candidates = [
        Candidate(name, ModelSpec(str(path), prompt="{text}"))
        for name, path in (("sound", sound), ("sick", sick))
    ]
    engine = LocalEngine({one.name: one.spec for one in candidates})
    policy = Policy(patch_size=4, max_tokens=16)
    async with Team(candidates, engine, FixedSwitcher([0, 1]), policy) as team:
        trace = await team.agenerate("(?")
        assert trace.error is None
        assert trace.tokens == 16
        assert {patch.speaker for patch in trace.patches} == {0}
        assert [patch.reason for patch in trace.patches] == ["chosen", "fallback"] * 2
        alone = await team.alone("sick").agenerate("(?")
        assert alone.error is not None
        assert alone.error.startswith("sick computed NaN or infinity for the next token")
        assert alone.text == ""
        everyone = await team.switched_by(RandomSwitcher()).agenerate("(?")
        assert everyone.error is None
    assert sum("sick computed NaN" in record.message for record in caplog.records) == 1
