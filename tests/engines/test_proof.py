"""No model is run in a way that gives other answers than its own forward."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    BloomConfig,
    DeepseekV3Config,
    DogeConfig,
    DynamicCache,
    Gemma3TextConfig,
    GPTNeoConfig,
    JambaConfig,
    LlamaConfig,
    LlamaForCausalLM,
    Mamba2Config,
    MambaConfig,
    MiniMaxConfig,
    MistralConfig,
    PhimoeConfig,
    Qwen3NextConfig,
    RecurrentGemmaConfig,
    RwkvConfig,
)

from taketurns.engines.local.engine import LocalEngine
from taketurns.engines.local.library_logging import asked_by_an_old_name
from taketurns.engines.local.plain_forward import kv_argument
from taketurns.errors import ConfigError, EngineError
from taketurns.types import ModelSpec, Sampling

QUESTIONS = ([*range(40, 63)], [*range(70, 75)], [*range(80, 91)])
PATCHES = (3, 4, 2, 3)
END = 257  # of the tokenizer
LLAMA = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own."""
    monkeypatch.setenv("TAKETURNS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "proofs"


@pytest.fixture
def save(tmp_path: Path, byte_tokenizer: Any) -> Callable[..., Path]:
    """Save a model with random weights large enough to tell its answers from others."""

    def make(config: Any, seed: int = 0, name: str | None = None) -> Path:
        folder = tmp_path / (name or f"{config.model_type}{seed}")
        torch.manual_seed(seed)
        config.vocab_size = len(byte_tokenizer)
        model = AutoModelForCausalLM.from_config(config)
        with torch.no_grad():
            for weight in model.parameters():
                if weight.dim() > 1:
                    weight.normal_(0, 0.2)
        model.save_pretrained(folder)
        byte_tokenizer.save_pretrained(folder)
        return folder

    return make


def plain_loop(speakers: Sequence[Any], question: Sequence[int]) -> list[int]:
    """What the models write in turns, a whole forward of each text for every token."""
    ids = list(question)
    for turn, count in enumerate(PATCHES):
        for _ in range(count):
            with torch.inference_mode():
                logits = speakers[turn % len(speakers)](
                    input_ids=torch.tensor([ids]), use_cache=False
                ).logits
            token = int(logits[0, -1].argmax())
            if token == END:  # it ends the patch
                break
            ids.append(token)
    return ids


async def written(engine: LocalEngine, names: Sequence[str]) -> list[list[int]]:
    """Three answers side by side."""

    async def answer(question: Sequence[int]) -> list[int]:
        ids = list(question)
        async with engine.session(0, 100) as session:
            for turn, count in enumerate(PATCHES):
                sampling = Sampling(count, temperature=0)
                name = names[turn % len(names)]
                ids += (await session.generate(name, ids, sampling)).token_ids
        return ids

    return list(await asyncio.gather(*map(answer, QUESTIONS)))


async def way_of_a_right_team(folders: Sequence[Path]) -> str:
    """How a team was run, whose answers were those of a plain loop."""
    specs = {f"m{place}": ModelSpec(str(folder)) for place, folder in enumerate(folders)}
    engine = LocalEngine(specs)
    try:
        answers = await written(engine, list(specs))
        models = [AutoModelForCausalLM.from_pretrained(folder).eval() for folder in folders]
        assert answers == [plain_loop(models, question) for question in QUESTIONS]
        (way,) = {str(engine.running(name).way) for name in specs}
        return way
    finally:
        await engine.close()


REAL = {
    "Mamba": (
        MambaConfig(hidden_size=32, state_size=8, num_hidden_layers=2, time_step_rank=4),
        "cache kept",
    ),
    "Mamba-2": (
        Mamba2Config(
            hidden_size=32, num_heads=8, head_dim=8, state_size=8, n_groups=1, chunk_size=8,
            num_hidden_layers=2,
        ),
        "cache kept",
    ),
    "RWKV": (
        RwkvConfig(
            hidden_size=32, attention_hidden_size=32, context_length=256, num_hidden_layers=2
        ),
        "re-encoded",
    ),
    "RecurrentGemma": (
        RecurrentGemmaConfig(
            hidden_size=32, lru_width=32, intermediate_size=64, num_attention_heads=4,
            num_hidden_layers=3, attention_window_size=8,
        ),
        "re-encoded, one answer at a time",
    ),
    "GPT-Neo": (
        GPTNeoConfig(
            hidden_size=32, num_heads=4, num_layers=2, attention_types=[[["global", "local"], 1]],
            window_size=8, max_position_embeddings=256,
        ),
        "re-encoded, in batches",
    ),
    "MiniMax": (
        MiniMaxConfig(**LLAMA, num_local_experts=2, num_experts_per_tok=1, block_size=8),
        "re-encoded, in batches",
    ),
    "Doge": (DogeConfig(**LLAMA, keep_window_size=8), "whole forward a token"),
    "PhiMoE": (PhimoeConfig(**LLAMA, num_local_experts=2, num_experts_per_tok=1), "cache kept"),
    "DeepSeek-V3": (
        DeepseekV3Config(
            **{**LLAMA, "num_key_value_heads": 4}, moe_intermediate_size=16, n_routed_experts=4,
            n_shared_experts=1, num_experts_per_tok=2, n_group=2, topk_group=1, q_lora_rank=8,
            kv_lora_rank=8, qk_nope_head_dim=8, qk_rope_head_dim=8, v_head_dim=8,
            first_k_dense_replace=1,
        ),
        "cache kept",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REAL)
async def test_a_team_writes_what_a_plain_loop_does(
    name: str, save: Callable[..., Path], cache: Path
) -> None:
    config, way = REAL[name]
    assert await way_of_a_right_team([save(config, 0), save(config, 1)]) == way


# Models that are wrong on purpose


CACHE = kv_argument(LlamaForCausalLM(LlamaConfig(**LLAMA)))  # its name in this transformers


class IgnoresItsCacheConfig(LlamaConfig):
    model_type = "ignores_its_cache"


class IgnoresItsCache(LlamaForCausalLM):
    config_class = IgnoresItsCacheConfig

    def forward(self, *args: Any, past_key_values: Any = None, **more: Any) -> Any:
        return super().forward(*args, **more)


class LooksAsideConfig(LlamaConfig):
    model_type = "looks_aside"


class LooksAside(LlamaForCausalLM):
    """All rows of a batch stand where the first one does."""

    config_class = LooksAsideConfig

    def forward(self, *args: Any, position_ids: Any = None, **more: Any) -> Any:
        if position_ids is not None:
            position_ids = position_ids[:1].expand_as(position_ids)
        return super().forward(*args, position_ids=position_ids, **more)


class RemembersConfig(LlamaConfig):
    model_type = "remembers"


class Remembers(LlamaForCausalLM):
    """The cache is its own, and belongs to the text that was begun last."""

    config_class = RemembersConfig

    def forward(
        self, input_ids: Any, past_key_values: Any = None, use_cache: bool = True, **more: Any
    ) -> Any:
        if not use_cache:
            return super().forward(input_ids, use_cache=False, **more)
        if input_ids.shape[1] > 1:
            self._own = DynamicCache()
        more[CACHE] = self._own
        result = super().forward(input_ids, use_cache=True, **more)
        setattr(result, CACHE, None)
        return result


class DriftsConfig(LlamaConfig):
    model_type = "drifts"


class Drifts(LlamaForCausalLM):
    """No two forwards give the same."""

    config_class = DriftsConfig
    calls = 0

    def forward(self, *args: Any, **more: Any) -> Any:
        self.calls += 1
        result = super().forward(*args, **more)
        result.logits = result.logits * (1 if self.calls % 2 else -1)
        return result


class BreaksConfig(LlamaConfig):
    model_type = "breaks"


class Breaks(LlamaForCausalLM):
    config_class = BreaksConfig

    def forward(self, *args: Any, **more: Any) -> Any:
        raise IndexError("list index out of range")


WRONG = {
    "ignores its cache": (IgnoresItsCache, "whole forward a token"),
    "looks aside": (LooksAside, "re-encoded"),
    "remembers": (Remembers, "re-encoded, one answer at a time"),
}


@pytest.fixture(autouse=True)
def _known() -> Iterator[None]:
    """Let `from_pretrained` find the models that are wrong on purpose."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    models = (IgnoresItsCache, LooksAside, Remembers, Drifts, Breaks)
    for model in models:
        AutoConfig.register(model.config_class.model_type, model.config_class)
        AutoModelForCausalLM.register(model.config_class, model)
    yield
    for model in models:
        del CONFIG_MAPPING._extra_content[model.config_class.model_type]
        del AutoModelForCausalLM._model_mapping._extra_content[model.config_class]


@pytest.mark.parametrize("name", WRONG)
async def test_a_model_that_is_wrong_falls_back_to_what_is_right(
    name: str, save: Callable[..., Path], cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model, way = WRONG[name]
    config = model.config_class(**LLAMA)
    assert await way_of_a_right_team([save(config, 0), save(config, 1)]) == way
    told = [r.getMessage() for r in caplog.records if r.name == "taketurns.engines"]
    assert [line.split()[0] for line in told] == ["m0", "m1"], "one line a model"
    assert all(", because " in line for line in told)


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (Drifts, "two forwards of one text give different logits"),
        (Breaks, "a trial ends in IndexError: list index out of range"),
    ],
)
async def test_what_is_wrong_in_every_way_is_refused_in_a_sentence(
    model: Any, why: str, save: Callable[..., Path], cache: Path
) -> None:
    folder = save(model.config_class(**LLAMA))
    for _ in range(2):  # the second time from what was kept
        engine = LocalEngine({"odd": ModelSpec(str(folder))})
        with pytest.raises(ConfigError) as caught:
            await written(engine, ["odd"])
        await engine.close()
        message = str(caught.value)
        assert message.startswith(
            f"odd: {model.__name__} in {str(folder)!r} cannot be run correctly"
        )
        assert f"because {why}: use another checkpoint, or a server" in message
        assert "\n" not in message


class Proofs:
    """Counts how many trials there were on copies and on weights."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from taketurns.engines.local import equivalence

        self.trials: list[str] = []
        differs = equivalence.differs

        def counted(runner: Any, truth: Any, rounds: Any, ids: Any) -> Any:
            self.trials.append("copy" if rounds is equivalence.ROUNDS else "weights")
            return differs(runner, truth, rounds, ids)

        monkeypatch.setattr(equivalence, "differs", counted)

    async def load(self, folder: Path, **options: Any) -> list[str]:
        self.trials = []
        engine = LocalEngine({"m": ModelSpec(str(folder))}, **options)
        await engine.load("m")
        await engine.close()
        return self.trials


async def test_a_proof_is_kept_until_the_checkpoint_changes(
    save: Callable[..., Path], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proofs = Proofs(monkeypatch)
    folder = save(LlamaConfig(**LLAMA), name="one")
    assert await proofs.load(folder) == ["copy", "weights"]
    assert await proofs.load(folder) == []
    assert await proofs.load(folder, deterministic=False) == ["copy", "weights"]
    save(LlamaConfig(**LLAMA), seed=1, name="one")  # written over
    assert await proofs.load(folder) == ["weights"], "the architecture is the same"
    other = save(LlamaConfig(**LLAMA, attention_bias=True), name="other")
    assert await proofs.load(other) == ["copy", "weights"]
    os.utime(other / "model.safetensors", ns=(1, 1))
    assert await proofs.load(other) == ["weights"]


async def test_a_record_that_cannot_be_read_is_made_again(
    save: Callable[..., Path], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proofs = Proofs(monkeypatch)
    folder = save(LlamaConfig(**LLAMA))
    await proofs.load(folder)
    for spoil in (b"", b"{", b"[]", b'{"schema": 1}', b"\xff"):
        for record in cache.iterdir():
            record.write_bytes(spoil)
        assert await proofs.load(folder) == ["copy", "weights"]
        assert await proofs.load(folder) == []
    for record in cache.iterdir():
        stored = json.loads(record.read_text())
        stored["found"] = {"way": "by magic", "reasons": {}, "copied": True}
        record.write_text(json.dumps(stored))
    assert "weights" in await proofs.load(folder)


async def test_a_cache_that_cannot_be_written_costs_only_time(
    save: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TAKETURNS_CACHE", str(tmp_path / "file"))
    proofs = Proofs(monkeypatch)
    folder = save(LlamaConfig(**LLAMA))
    assert await proofs.load(folder) == ["copy", "weights"]
    assert await proofs.load(folder) == ["copy", "weights"]


async def test_an_adapter_speaks_where_the_base_keeps_no_cache(
    save: Callable[..., Path], tmp_path: Path, cache: Path
) -> None:
    """Fault: whoever was loaded last spoke for the base and all its adapters."""
    from peft import LoraConfig, PeftModel, get_peft_model

    base = save(BloomConfig(hidden_size=64, n_layer=2, n_head=4))
    for seed in (1, 2):
        plain: Any = AutoModelForCausalLM.from_pretrained(base)
        with asked_by_an_old_name():
            tuned: Any = get_peft_model(plain, LoraConfig(r=4, init_lora_weights=False))
        torch.manual_seed(seed)
        for name, weight in tuned.named_parameters():
            if "lora" in name:
                torch.nn.init.normal_(weight, std=0.3)
        tuned.save_pretrained(tmp_path / f"adapter{seed}")
    specs = {"base": ModelSpec(str(base))}
    models = [AutoModelForCausalLM.from_pretrained(base).eval()]
    for seed in (1, 2):
        folder = str(tmp_path / f"adapter{seed}")
        specs[f"a{seed}"] = ModelSpec(str(base), adapter=folder)
        model: Any = AutoModelForCausalLM.from_pretrained(base)
        with asked_by_an_old_name():
            models.append(PeftModel.from_pretrained(model, folder).eval())
    engine = LocalEngine(specs)
    answers = await written(engine, list(specs))
    assert answers == [plain_loop(models, question) for question in QUESTIONS]
    assert {str(engine.running(name).way) for name in specs} == {"re-encoded, in batches"}
    await engine.close()


async def test_a_failure_inside_a_model_names_the_model(
    save: Callable[..., Path], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save(LlamaConfig(**LLAMA))
    engine = LocalEngine({"mine": ModelSpec(str(folder))})
    await engine.load("mine")

    def broken(*args: Any, **more: Any) -> Any:
        raise IndexError("list index out of range")

    monkeypatch.setattr(LlamaForCausalLM, "forward", broken)
    with pytest.raises(EngineError, match=r"^mine failed .*: IndexError: list index out of range"):
        await written(engine, ["mine"])
    await engine.close()


# The small copy


@pytest.mark.parametrize(
    "config",
    [
        Gemma3TextConfig(),
        JambaConfig(),
        Qwen3NextConfig(),
        GPTNeoConfig(),
        RecurrentGemmaConfig(),
        MistralConfig(sliding_window=4096),
        LlamaConfig(num_key_value_heads=8, tie_word_embeddings=True),
    ],
    ids=lambda config: config.model_type,
)
def test_a_copy_has_every_kind_of_layer_and_shows_what_each_reads(config: Any) -> None:
    from taketurns.engines.local.equivalence import apart
    from taketurns.engines.local.plain_forward import PlainForward
    from taketurns.engines.local.small_copy import WINDOW, small_config, small_model

    def kinds(of: Any) -> set[str]:
        return set(getattr(of, "layer_types", None) or getattr(of, "attention_layers", ()))

    small = small_config(config)
    assert kinds(small) == kinds(config)
    assert small.num_hidden_layers <= 4
    for window in ("sliding_window", "window_size", "attention_window_size"):
        assert getattr(small, window, None) in (None, WINDOW)
    assert small.tie_word_embeddings == config.tie_word_embeddings
    model = small_model(
        AutoModelForCausalLM._model_mapping[type(config)], small, None, torch.float32
    )
    again = small_model(
        AutoModelForCausalLM._model_mapping[type(config)], small, None, torch.float32
    )
    plain = PlainForward(model)
    ids = [*range(10, 30)]
    logits = plain(ids).logits[0, -1]
    assert torch.equal(logits, PlainForward(again)(ids).logits[0, -1])
    for moved in ([*ids[:-3], ids[-2], ids[-3], ids[-1]], [*ids[:-4], 9, *ids[-3:]]):
        assert apart(plain(moved).logits[0, -1], logits) > 0.01, "a wrong place would not show"


def test_making_a_copy_leaves_the_random_numbers_alone() -> None:
    from taketurns.engines.local.small_copy import small_config, small_model

    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    small_model(LlamaForCausalLM, small_config(LlamaConfig()), None, torch.float32)
    assert torch.equal(torch.rand(3), expected)


def test_the_page_of_models_says_what_each_gets() -> None:
    from benchmarks.models import survey

    rows = list(survey.survey(["gpt_neo", "llama", "glm_moe_dsa", "bart", "xlnet", "reformer"]))
    assert [row.gets for row in rows] == [
        "re-encoded, in batches",
        "cache kept",
        "re-encoded (index)",
        "re-encoded",
        "refused",
        None,
    ]
    page = survey.page(rows)
    assert "| llama | LlamaForCausalLM | cache kept |  |" in page
    assert "| GlmMoeDsaForCausalLM | re-encoded (index) | it has layers with" in page
    assert "No small copy could be made of reformer:" in page


# check


async def test_check_says_what_each_model_gets(save: Callable[..., Path], cache: Path) -> None:
    from taketurns.config.loading import load_team_config
    from taketurns.generation.check.local import inspect_team

    folders = {
        "llama": save(LlamaConfig(**LLAMA)),
        "mamba": save(REAL["Mamba"][0]),
        "bloom": save(BloomConfig(hidden_size=64, n_layer=2, n_head=4)),
        "drifts": save(DriftsConfig(**LLAMA)),
    }
    team = cache.parent.parent / "team.yaml"
    lines = "".join(f"  - {{name: {name}, model: {path}}}\n" for name, path in folders.items())
    team.write_text(f"candidates:\n{lines}switcher: {{kind: random}}\n")
    report = await inspect_team(load_team_config(str(team)))
    assert [model.way for model in report.models] == [
        "cache kept",
        "cache kept",
        "re-encoded, in batches",
        "refused",
    ]
    kept = 2 * 2 * 64 * 4  # bytes of a token: keys and values of two layers
    bloom = report.models[2].cache
    assert bloom.bytes_per_token == 2 * kept, "a batch may have as much padding"
    assert [model.cache.states > 0 for model in report.models] == [False, True, False, False]
    assert any(note.startswith("bloom encodes its prompt again") for note in report.notes)
    (problem,) = report.problems
    assert problem.startswith("drifts: Drifts in ")
    assert "cannot be run correctly here, because two forwards" in problem
    assert not report.fits
