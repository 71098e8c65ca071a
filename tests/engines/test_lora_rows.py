"""Rows of different adapters, and of the base, in one forward: each row gets what its own adapter
gives alone, and what cannot be in such a forward runs apart."""

from __future__ import annotations

import asyncio
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import nan
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import Gemma3TextConfig, GPT2Config, Lfm2Config, Qwen3_5TextConfig

from taketurns.config.loading import load_team_config
from taketurns.engines.local import lanes, lora_rows, packed_products, reclaimable
from taketurns.engines.local.engine import LocalEngine
from taketurns.engines.local.library_logging import asked_by_an_old_name
from taketurns.engines.local.loading import Weights
from taketurns.engines.local.scheduler import LaneRunner
from taketurns.errors import ConfigError, NotANumberError
from taketurns.generation.check.local import inspect_team
from taketurns.types import ModelSpec, Sampling

peft = pytest.importorskip("peft")

PROMPT = tuple(range(40, 70))
LORA: Mapping[str, Mapping[str, Any]] = {
    "narrow": {"r": 4, "target_modules": ["q_proj", "down_proj"]},
    "wide": {"r": 8, "target_modules": "all-linear", "use_rslora": True, "lora_alpha": 32},
    "mixed": {"r": 4, "target_modules": ["k_proj", "up_proj"], "rank_pattern": {"up_proj": 16}},
}
NAMES = ("base", *LORA)
ALONE: Mapping[str, tuple[Mapping[str, Any], str]] = {
    "dora": ({"use_dora": True}, "it is not a plain LoRA, but has PEFT's DoraLinear"),
    "saved": ({"modules_to_save": ["norm"]}, "it has modules_to_save"),
    "embedded": ({"target_modules": ["embed_tokens"]}, "it changes model.embed_tokens, which is"),
}
"""Adapters that run apart, and why."""


def adapter(base: Path, folder: Path, seed: int, **config: Any) -> str:
    """Save a random LoRA."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    settings_of_it = {"r": 4, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM", **config}
    made = peft.LoraConfig(init_lora_weights=False, **settings_of_it)
    with asked_by_an_old_name():
        tuned = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(base), made)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT 0.21 takes the biases of an adapter for torn weights
        tuned.save_pretrained(folder, save_embedding_layers=False)
    return str(folder)


@pytest.fixture(scope="module")
def specs(make_model: Callable[..., Path], tmp_path_factory: Any) -> dict[str, ModelSpec]:
    """A base and three adapters."""
    base, folder = make_model(5), tmp_path_factory.mktemp("adapters")
    made = {
        name: ModelSpec(str(base), adapter=adapter(base, folder / name, seed, **config))
        for seed, (name, config) in enumerate(LORA.items())
    }
    return {"base": ModelSpec(str(base)), **made}


def runners_of(engine: LocalEngine) -> dict[str, Any]:
    return {
        name: runner
        for thread in engine._threads._distinct
        for name, runner in thread.runners.items()
    }


def truth(spec: ModelSpec, ids: Sequence[int]) -> Tensor:
    """Log-probabilities after each token, by PEFT's own forward."""
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(spec.model)
    if spec.adapter is not None:
        with asked_by_an_old_name():
            model = peft.PeftModel.from_pretrained(model, spec.adapter)
    with torch.inference_mode():
        logits: Tensor = model.eval()(torch.tensor([list(ids)])).logits[0]
    return logits.log_softmax(-1)


@dataclass(frozen=True)
class Answer:
    """Turns of models after one prompt: which writes, how many tokens, and whether it is drawn."""

    seed: int
    prompt: int
    turns: tuple[tuple[str, int, float], ...]


@st.composite
def answers(draw: st.DrawFn) -> Answer:
    turn = st.tuples(st.sampled_from(NAMES), st.integers(1, 9), st.sampled_from([0.0, 1.0]))
    turns = draw(st.lists(turn, min_size=1, max_size=4))
    return Answer(draw(st.integers(0, 3)), draw(st.integers(1, 70)), tuple(turns))


async def write(engine: LocalEngine, answer: Answer) -> list[Any]:
    """What the turns give: tokens, scores and states."""
    ids = [3 + (7 * place + answer.seed) % 250 for place in range(answer.prompt)]
    log: list[Any] = []
    async with engine.session(answer.seed, 200) as session:
        for name, tokens, temperature in answer.turns:
            found = await session.generate(name, ids, Sampling(tokens, temperature))
            ids += found.token_ids
            log.append((found.token_ids, await session.score(name, ids, [5, 6])))
            log.append((await session.hidden(name, ids, (-1,))).tolist())
    return log


async def together(engine: LocalEngine, asked: Sequence[Answer]) -> list[Any]:
    return list(await asyncio.gather(*(write(engine, answer) for answer in asked)))


@pytest.fixture(params=["packed", pytest.param("padded", marks=pytest.mark.slow), "one by one"])
def products(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How low-rank parts of single tokens are multiplied."""
    if request.param == "padded":
        monkeypatch.setattr(packed_products, "pack", lambda model: False)
    if request.param == "one by one":
        monkeypatch.setattr(lora_rows, "WIDEST", 0)
        monkeypatch.setattr(packed_products, "pack", lambda model: False)
    return str(request.param)


def test_an_answer_is_the_same_in_every_company(specs: dict[str, ModelSpec], products: str) -> None:
    """Bitwise: tokens, scores and states, greedy and drawn, whoever is beside it."""
    engine = LocalEngine(specs, deterministic=True)
    alone: dict[Answer, list[Any]] = {}

    @settings(
        max_examples=6,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(st.lists(answers(), min_size=2, max_size=7), st.randoms())
    def tried(asked: list[Answer], random: Any) -> None:
        for answer in asked:
            if answer not in alone:
                alone[answer] = asyncio.run(write(engine, answer))
        random.shuffle(asked)
        found = asyncio.run(together(engine, asked))
        assert found == [alone[answer] for answer in asked]

    try:
        tried()
        (runner,) = set(runners_of(engine).values())
        assert runner.models == NAMES
        assert runner.forward.packed == (products == "packed")
    finally:
        asyncio.run(engine.close())


@pytest.mark.parametrize("deterministic", [True, False])
async def test_rows_get_what_pefts_own_forward_gives(
    specs: dict[str, ModelSpec], deterministic: bool, products: str
) -> None:
    engine = LocalEngine(specs, deterministic=deterministic)

    async def written(name: str) -> tuple[list[int], Tensor, Tensor]:
        async with engine.session(1, 200) as session:
            found = await session.generate(name, PROMPT, Sampling(12, temperature=0.0))
            ids = [*PROMPT, *found.token_ids]
            step = await session.next_logprobs(name, ids)  # its last token alone
            whole = [*ids[:20], 9, *ids]
            return ids, step, await session.next_logprobs(name, whole)

    for _ in range(2):
        found = await asyncio.gather(*map(written, specs))
    for name, (ids, step, block) in zip(specs, found, strict=True):
        logprobs = truth(specs[name], ids)
        assert logprobs[len(PROMPT) - 1 : -1].argmax(-1).tolist() == ids[len(PROMPT) :]
        torch.testing.assert_close(step, logprobs[-1], atol=2e-4, rtol=2e-4)
        whole = truth(specs[name], [*ids[:20], 9, *ids])[-1]
        torch.testing.assert_close(block, whole, atol=2e-4, rtol=2e-4)
    assert len({tuple(ids) for ids, *_ in found}) == len(NAMES)
    await engine.close()


async def test_in_lower_precision_they_are_proved_beside_each_other(
    specs: dict[str, ModelSpec], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """PEFT keeps adapters in float32 on a base in bfloat16; what the base gives is rounded once."""
    monkeypatch.setenv("TAKETURNS_CACHE", str(tmp_path))
    engine = LocalEngine({n: replace(spec, dtype="bfloat16") for n, spec in specs.items()})
    await together(engine, [Answer(0, 30, ((name, 9, 0.0),)) for name in NAMES])
    (runner,) = set(runners_of(engine).values())
    assert runner.models == NAMES
    layer = runner.forward._model.model.layers[0].self_attn.q_proj
    assert layer.base_layer.weight.dtype == torch.bfloat16
    assert layer.taketurns_stacked.down.weight.dtype == torch.float32
    await engine.close()


async def test_a_step_of_all_of_them_is_one_forward(
    specs: dict[str, ModelSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[tuple[str | None, ...]] = []
    used = lora_rows.LoraRows.used

    def noted(self: Any, adapters: Sequence[str | None], *rest: Any) -> Any:
        rows.append(tuple(adapters))
        return used(self, adapters, *rest)

    engine = LocalEngine(specs, deterministic=True)
    async with engine.session(0, 200):
        (runner,) = set(runners_of(engine).values())
        proved = runner.forwards
    monkeypatch.setattr(lora_rows.LoraRows, "used", noted)
    await together(engine, [Answer(0, 30, ((name, 9, 0.0),)) for name in NAMES])
    assert any(len(set(adapters)) == len(NAMES) for adapters in rows)
    counted = [engine.counters(name) for name in NAMES]
    assert all(counters.written_tokens == 9 for counters in counted)
    assert len(rows) == runner.forwards - proved < sum(counters.forwards for counters in counted)
    assert all(counters.seconds > 0 for counters in counted)
    await engine.close()


async def test_the_switcher_and_equal_models_share_too(specs: dict[str, ModelSpec]) -> None:
    """A model without an adapter twice, as candidate and as switcher, and an adapter alone."""
    more = {**specs, "again": specs["base"], "switcher": specs["wide"]}
    engine = LocalEngine(more, deterministic=True)
    found = await together(
        engine, [Answer(1, 20, ((name, 9, 1.0),)) for name in (*NAMES, "again", "switcher")]
    )
    assert found[NAMES.index("base")] == found[4]
    assert found[NAMES.index("wide")] == found[5]
    assert len(set(runners_of(engine).values())) == 1
    await engine.close()


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=() if kind == "dora" else pytest.mark.slow) for kind in ALONE]
)
async def test_what_is_no_plain_lora_runs_apart(
    specs: dict[str, ModelSpec], tmp_path: Path, kind: str
) -> None:
    config, why = ALONE[kind]
    base = Path(specs["base"].model)
    other = ModelSpec(str(base), adapter=adapter(base, tmp_path / kind, 7, **config))
    engine = LocalEngine({**specs, kind: other}, deterministic=True)
    asked = [Answer(1, 20, ((name, 9, 0.0), ("base", 3, 0.0))) for name in (*NAMES, kind)]
    alone = [await write(engine, answer) for answer in asked]
    assert await together(engine, asked) == alone
    runners = runners_of(engine)
    assert runners["base"].models == NAMES
    assert runners[kind].models == (kind,)
    loaded = engine._threads._engine.weights.load(kind)
    assert loaded.rows is None
    assert why in loaded.apart
    async with engine.session(1, 200) as session:
        seen = await session.next_logprobs(kind, PROMPT)
    torch.testing.assert_close(seen, truth(other, PROMPT)[-1], atol=2e-4, rtol=2e-4)
    await engine.close()


async def test_a_row_that_fails_harms_no_other(specs: dict[str, ModelSpec]) -> None:
    """An adapter that computes NaN, which no check of its weights has seen."""
    engine = LocalEngine(specs, deterministic=True)
    asked = [Answer(1, 20, ((name, 9, 0.0),)) for name in NAMES]
    alone = await together(engine, asked)
    (runner,) = set(runners_of(engine).values())
    layer = runner.forward._model.model.layers[0].self_attn.k_proj
    layer.lora_A["turn_mixed"].weight.fill_(nan)
    stacked = layer.taketurns_stacked
    names = [name for name, count in stacked.columns for _ in range(count)]
    start = names.index("turn_mixed")
    stacked.down.weight[start : start + 4] = nan
    found = await asyncio.gather(
        *(write(engine, answer) for answer in asked * 2), return_exceptions=True
    )
    for answer, result, expected in zip(asked * 2, found, alone * 2, strict=True):
        if answer.turns[0][0] == "mixed":
            assert isinstance(result, NotANumberError)
            assert str(result).startswith("mixed computed NaN")
        else:
            assert result[0][0] == expected[0][0]
    await engine.close()


async def test_a_model_that_does_not_read_rows_one_by_one_runs_apart(
    specs: dict[str, ModelSpec], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its layers get all tokens in one row, as those of experts do."""
    from transformers.models.llama.modeling_llama import LlamaMLP

    forward = LlamaMLP.forward
    monkeypatch.setenv("TAKETURNS_CACHE", str(tmp_path))

    def flat(self: Any, x: Tensor) -> Tensor:
        whole: Tensor = forward(self, x.reshape(1, -1, x.shape[-1]))
        return whole.reshape(x.shape)

    monkeypatch.setattr(LlamaMLP, "forward", flat)
    engine = LocalEngine(specs, deterministic=True)
    asked = [Answer(1, 20, ((name, 9, 0.0),)) for name in NAMES]
    alone = [await write(engine, answer) for answer in asked]
    assert await together(engine, asked) == alone
    runners = runners_of(engine)
    assert len(set(runners.values())) == len(NAMES)
    for _ in range(2):  # as tried, then as recorded
        again = LocalEngine(specs, deterministic=True)
        assert [await write(again, answer) for answer in asked] == alone
        assert {runner.models for runner in runners_of(again).values()} == {(n,) for n in NAMES}
        await again.close()
    await engine.close()


async def test_an_adapter_that_differs_beside_others_runs_apart(
    specs: dict[str, ModelSpec], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The proof of equivalence covers the forward that is shared."""
    monkeypatch.setenv("TAKETURNS_CACHE", str(tmp_path))
    foreign = lora_rows._Plan.foreign

    def wrong(self: Any, columns: Any, device: Any) -> Tensor:
        return ~foreign(self, columns, device)

    monkeypatch.setattr(lora_rows._Plan, "foreign", wrong)
    engine = LocalEngine(specs)
    async with engine.session(1, 200) as session:
        for name in NAMES:
            seen = await session.next_logprobs(name, PROMPT)
            torch.testing.assert_close(seen, truth(specs[name], PROMPT)[-1], atol=2e-4, rtol=2e-4)
    assert len(set(runners_of(engine).values())) == len(NAMES)
    records = [path.read_text() for path in tmp_path.rglob("*.json")]
    assert sum("in a batch with others its logits are not those" in text for text in records) == 3
    await engine.close()


DELTA = {"linear_key_head_dim": 16, "linear_value_head_dim": 16, "linear_num_key_heads": 2}
OTHERS: Mapping[str, tuple[Mapping[str, Any], Sequence[str]]] = {
    "windows": (
        {"config_class": Gemma3TextConfig, "sliding_window": 24, "head_dim": 16},
        ["k_proj", "gate_proj", "o_proj"],
    ),
    "delta rule": (
        {
            "config_class": Qwen3_5TextConfig,
            **DELTA,
            "linear_num_value_heads": 4,
            "head_dim": 16,
            "layer_types": ["linear_attention", "full_attention"],
        },
        ["in_proj_qkv", "out_proj", "q_proj", "down_proj"],
    ),
    "convolutions": (
        {"config_class": Lfm2Config, "layer_types": ["conv", "full_attention"]},
        ["in_proj", "w2", "q_proj"],
    ),
    "biases and Conv1D": ({"config_class": GPT2Config, "n_layer": 2, "n_head": 4}, ["c_attn"]),
}
"""Models other than Llamas, and the layers that adapters change."""


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=pytest.mark.slow if kind == "convolutions" else ())
        for kind in OTHERS
    ],
)
async def test_adapters_of_other_models_share_forwards(
    make_model: Callable[..., Path], tmp_path: Path, kind: str
) -> None:
    changes, layers = OTHERS[kind]
    base = make_model(8, **changes)
    its = {"base": ModelSpec(str(base))}
    for seed, name in enumerate(("narrow", "wide")):
        folder = adapter(
            base,
            tmp_path / name,
            seed,
            target_modules=layers,
            fan_in_fan_out=kind == "biases and Conv1D",
        )
        its[name] = ModelSpec(str(base), adapter=folder)
    engine = LocalEngine(its, deterministic=True)
    names = tuple(its)
    orders = [names[first:] + names[:first] for first in range(len(names))]
    turns = [tuple((n, 3 + 8 * i, 1.0) for n in order) for i, order in enumerate(orders)]
    asked = [Answer(seed, 5 + 13 * seed, turn) for seed, turn in enumerate(turns)]
    alone = [await write(engine, answer) for answer in asked]
    assert await together(engine, asked) == alone
    (runner,) = set(runners_of(engine).values())
    assert runner.models == tuple(its)
    async with engine.session(1, 200) as session:
        for name, spec in its.items():
            found = await session.generate(name, PROMPT, Sampling(6, temperature=0.0))
            ids = [*PROMPT, *found.token_ids]
            seen = await session.next_logprobs(name, ids)
            torch.testing.assert_close(seen, truth(spec, ids)[-1], atol=2e-4, rtol=2e-4)
    await engine.close()


def test_an_adapter_with_biases_runs_apart(make_model: Callable[..., Path], tmp_path: Path) -> None:
    base = make_model(6, attention_bias=True)
    folder = adapter(base, tmp_path / "biased", 1, lora_bias=True)
    weights = Weights({"base": ModelSpec(str(base)), "b": ModelSpec(str(base), adapter=folder)})
    assert weights.load("base").rows is not None
    assert weights.load("b").rows is None
    assert weights.load("b").apart == "it has biases"


async def test_check_says_which_share_a_forward_and_why_others_do_not(
    specs: dict[str, ModelSpec], tmp_path: Path, three_models: dict[str, str]
) -> None:
    base = Path(specs["base"].model)
    config, why = ALONE["dora"]
    dora = adapter(base, tmp_path / "dora", 7, **config)
    entries = [{"name": n, "model": s.model, "adapter": s.adapter} for n, s in specs.items()]
    others = [
        {"name": "dora", "model": str(base), "adapter": dora},
        {"name": "m0", "model": three_models["m0"]},
    ]
    team = {"candidates": [*entries, *others], "switcher": {"kind": "random"}}
    file = tmp_path / "team.yaml"
    file.write_text(json.dumps(team))
    for changes, shared in (({}, True), ({"engine.max_batch": 4}, False)):
        report = await inspect_team(load_team_config(str(file), changes))
        assert report.fits
        notes = [note for note in report.notes if "forward" in note]
        if shared:
            assert notes == [
                "base, narrow, wide and mixed share each forward, because their base is the same",
                f"dora shares no forward with others on its base, because {why}",
            ]
        else:
            assert len(notes) == 5
            assert "because engine.max_batch is less than the 5 models on it" in notes[0]


# What models write together


def mean(logprobs: Tensor) -> Tensor:
    return logprobs.mean(1)


async def jointly(engine: LocalEngine, names: Sequence[str], seed: int) -> tuple[int, ...]:
    async with engine.session(seed, 120) as session:
        prompts = [PROMPT[: 4 + 5 * place] for place in range(len(names))]
        found = await session.generate_together(names, prompts, Sampling(9 + seed), mean)
        return found.token_ids


@pytest.mark.parametrize("max_batch", [4, 5, 64])
async def test_adapters_of_one_base_write_tokens_together(
    specs: dict[str, ModelSpec], max_batch: int
) -> None:
    """Also where a batch has room for one such answer and some lanes of a second."""
    engine = LocalEngine(specs, deterministic=True, max_batch=max_batch)
    asked = [(NAMES, 0), (NAMES[:3], 1), (("wide", "wide", "base"), 2), (NAMES[::-1], 3)]
    alone = [await jointly(engine, *each) for each in asked]
    async with asyncio.timeout(300):
        found = await asyncio.gather(
            *(jointly(engine, *each) for each in asked * 2),
            together(engine, [Answer(1, 20, ((name, 30, 0.0),)) for name in NAMES]),
        )
    assert found[:-1] == alone * 2
    assert not any(runner.busy for runner in runners_of(engine).values())
    await engine.close()


async def test_a_batch_must_have_room_for_all_parts_of_an_answer(
    specs: dict[str, ModelSpec],
) -> None:
    engine = LocalEngine(specs, deterministic=True, max_batch=4)
    with pytest.raises(ConfigError, match=r"cannot have 5 parts in one answer, because a batch"):
        await jointly(engine, [*NAMES, "wide"], 0)
    await engine.close()


async def test_a_batch_smaller_than_the_models_is_not_shared(
    specs: dict[str, ModelSpec],
) -> None:
    """Each model has rows of its own, so an answer that all write together still has its lanes."""
    engine = LocalEngine(specs, deterministic=True, max_batch=1)
    shared = LocalEngine(specs, deterministic=True)
    assert await jointly(engine, NAMES, 0) == await jointly(shared, NAMES, 0)
    assert len(set(runners_of(engine).values())) == len(NAMES)
    await engine.close()
    await shared.close()


# Memory


async def test_lanes_that_are_shared_have_the_memory_of_all_their_models(
    specs: dict[str, ModelSpec], three_models: dict[str, str]
) -> None:
    engine = LocalEngine({**specs, "m0": ModelSpec(three_models["m0"])}, memory_bytes=1 << 20)
    async with engine.session(0, 50):
        runners = runners_of(engine)
        assert runners["base"]._pool.max_bytes == pytest.approx((1 << 20) * 4 / 5, abs=8)
        assert runners["m0"]._pool.max_bytes == pytest.approx((1 << 20) / 5, abs=8)
    await engine.close()


@pytest.mark.parametrize("rigid", [False, True])
async def test_answers_wait_for_memory_and_all_end(
    specs: dict[str, ModelSpec], monkeypatch: pytest.MonkeyPatch, rigid: bool
) -> None:
    """Room for one answer at a time in all models, then for three: answers of one model, and of all
    together with prompts of many lengths, whose lanes are the same ones."""
    if rigid:
        for module in (lanes, reclaimable):
            monkeypatch.setattr(module, "is_elastic", lambda device: False)
    step = LaneRunner.step

    def bounded(runner: LaneRunner) -> None:
        step(runner)
        most = runner._pool.max_bytes
        assert most is None or runner._pool.nbytes <= most

    monkeypatch.setattr(LaneRunner, "step", bounded)

    async def joint(engine: LocalEngine, seed: int) -> tuple[int, ...]:
        async with engine.session(seed, 200) as session:
            prompts = [[5 + seed] * ((61 * place + 97 * seed) % 180 + 3) for place in range(4)]
            found = await session.generate_together(NAMES, prompts, Sampling(9), mean)
            return found.token_ids

    async def answers(limit: int | None) -> tuple[list[Any], int]:
        engine = LocalEngine(specs, deterministic=True, memory_bytes=limit)
        asked = [Answer(seed % 4, 30, ((name, 16, 0.0),)) for seed in range(2) for name in NAMES]
        async with engine.session(0, 200):
            need = engine.reserved_bytes
        async with asyncio.timeout(200):
            found = await asyncio.gather(
                *(work for n in range(6) for work in (joint(engine, n), write(engine, asked[n])))
            )
        assert engine.reserved_bytes == 0
        await engine.close()
        return list(found), need

    plenty, need = await answers(None)
    for limit in (need, 3 * need):
        assert (await answers(limit))[0] == plenty
