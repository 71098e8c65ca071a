import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from taketurns import Team
from taketurns.config.loading import load_team_config
from taketurns.engines.local.engine import LocalEngine
from taketurns.errors import ConfigError
from taketurns.generation.check.local import inspect_team
from taketurns.generation.check.report import CheckReport, readable


async def report(**overrides: object) -> CheckReport:
    return await inspect_team(load_team_config("pocket", overrides))


async def test_the_bundled_team_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **settings: object) -> None:
        raise AssertionError("weights were loaded")

    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", refuse)
    found = await report()
    assert found.fits
    assert found.exact
    assert [model.prompt for model in found.models] == ["plain prompt", *["chat template"] * 2]
    assert all(model.context >= 2048 for model in found.models)
    weights = Path(found.models[0].model) / "model.safetensors"
    assert found.models[0].weight_bytes == pytest.approx(weights.stat().st_size, rel=0.02)
    assert json.dumps(found.to_json())


async def test_precision_counts_and_shared_weights_count_once() -> None:
    roomy = {"engine.deterministic": False}  # whose keys are read in whole blocks
    full = await report(**roomy)
    half = await report(**roomy, **{f"candidates.{i}.dtype": "bfloat16" for i in range(3)})
    assert half.memory[0].weight_bytes * 2 == full.memory[0].weight_bytes
    assert half.memory[0].kv_bytes_per_answer * 2 == full.memory[0].kv_bytes_per_answer
    same = await report(**{"candidates.sft.model": full.models[2].model})
    assert same.models[2].shares_weights
    assert same.memory[0].weight_bytes < full.memory[0].weight_bytes


async def test_an_answer_takes_what_the_engine_sets_aside_for_it() -> None:
    for deterministic in (True, False):
        settings = {"engine.deterministic": deterministic}
        found = await report(**settings)
        async with Team.load(load_team_config("pocket", settings)) as team:
            assert isinstance(team.engine, LocalEngine)
            async with team.engine.session(0, found.answer_tokens):
                assert team.engine.reserved_bytes == found.memory[0].kv_bytes_per_answer


async def test_only_what_is_loaded_once_is_shared() -> None:
    """The copy in 4 bits is loaded beside the other, and so is one with other attention."""
    aligned = (await report()).models[2]
    for settings in (
        {"quantization_config": {"load_in_4bit": True}},
        {"attn_implementation": "eager"},
        {"device_map": "cpu"},
    ):
        changes = {f"candidates.sft.{key}": value for key, value in settings.items()}
        found = await report(**{"candidates.sft.model": aligned.model}, **changes)
        assert not any(model.shares_weights for model in found.models)


async def test_fewer_bits_take_less_memory() -> None:
    """The bundled models are mostly matrices of linear layers, in float32."""
    full = await report()
    sizes = {}
    for bits in (4, 8):
        settings = {f"load_in_{bits}bit": True}
        found = await report(**{"candidates.sft.quantization_config": settings})
        sizes[bits] = found.models[1].weight_bytes
        assert found.models[1].parameters == full.models[1].parameters
    whole = full.models[1].weight_bytes
    assert whole / 8 < sizes[4] < sizes[8] < whole / 2


async def test_a_model_is_counted_where_its_map_puts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    every = ("pretrained", "sft", "aligned")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr("taketurns.engines.local.memory.free_bytes", lambda device: 1 << 30)
    dtype = {f"candidates.{name}.dtype": "float32" for name in every}

    async def devices(**maps: object) -> list[tuple[str, int]]:
        maps = {f"candidates.{name}.device_map": value for name, value in maps.items()}
        memory = (await report(**dtype, **maps)).memory
        return [(part.device, part.free_bytes) for part in memory]

    assert await devices(**dict.fromkeys(every, "cpu")) == [("cpu", 1 << 30)]
    assert await devices(pretrained={"": "cuda:1"}, sft=1) == [
        ("cuda:1", 1 << 30),
        ("cuda:0", 1 << 30),
    ]
    spread = {"model.layers": 0, "model": 1, "lm_head": 1}
    for value in ("auto", spread):  # two cards and the machine's memory hold what one card does not
        assert await devices(aligned=value) == [("all devices together", 3 << 30)]


def spoilt(tmp_path: Path) -> Path:
    folder = tmp_path / "spoilt"
    shutil.copytree(load_team_config("pocket").candidates[1].spec.model, folder)
    return folder


def cut_the_header(weights: Path) -> None:
    weights.write_bytes(weights.read_bytes()[:500])


def cut_the_data(weights: Path) -> None:
    weights.write_bytes(weights.read_bytes()[:-1])


def lose_a_part(weights: Path) -> None:
    (parts := weights.with_name("model-1-of-2.safetensors")).write_bytes(weights.read_bytes())
    weights.unlink()
    index = {"weight_map": {"a": parts.name, "b": "model-2-of-2.safetensors"}}
    weights.with_name("model.safetensors.index.json").write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (Path.unlink, "sft: there are no weights in "),
        (cut_the_header, "is not a safetensors file, or is cut off"),
        (cut_the_data, "is cut off: "),
        (lose_a_part, "model-2-of-2.safetensors is missing, one of 2 weight files"),
    ],
)
async def test_weights_that_are_not_there_or_not_whole_are_a_problem(
    tmp_path: Path, spoil: Callable[[Path], None], said: str
) -> None:
    folder = spoilt(tmp_path)
    spoil(folder / "model.safetensors")
    found = await report(**{"candidates.sft.model": str(folder)})
    assert not found.fits
    (problem,) = found.problems
    assert problem.startswith("sft: ")
    assert said in problem
    assert not found.notes


async def test_a_checkpoint_in_parts_is_counted_by_its_index(tmp_path: Path) -> None:
    """Other formats of the same weights may lie beside."""
    folder = spoilt(tmp_path)
    shutil.copy(folder / "model.safetensors", folder / "consolidated.safetensors")
    found = await report(**{"candidates.sft.model": str(folder)})
    assert found.models[1].weight_bytes == found.models[0].weight_bytes
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    (folder / "consolidated.safetensors").unlink()
    found = await report(**{"candidates.sft.model": str(folder)})
    assert found.fits
    assert found.models[1].weight_bytes is None
    assert found.notes == (
        "sft: the size of its weights is unknown: they are not safetensors files",
    )


async def test_a_device_that_is_not_here_is_a_problem() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    found = await report(**{"candidates.sft.device": "cuda"})
    assert any(problem.startswith("cuda:0 cannot be used here: ") for problem in found.problems)


async def test_too_little_memory_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taketurns.engines.local.memory.free_bytes", lambda device: 1 << 20)
    found = await report()
    assert not found.fits
    assert "on cpu, which has " in found.problems[0]
    assert "has 1.0 MiB free" in found.problems[0]


async def test_a_switcher_is_looked_at_too(tmp_path: Path) -> None:
    model = load_team_config("pocket").candidates[2].spec.model
    found = await report(switcher={"kind": "lm", "model": model})
    assert len(found.models) == 4
    assert found.switcher.endswith(
        "0 is pretrained, 1 is sft, 2 is aligned: the team's order, because no other is recorded"
    )
    too_long = await report(switcher={"kind": "lm", "model": model}, max_tokens=4000)
    assert any("switcher" in problem for problem in too_long.problems)


async def test_whose_the_switchers_numbers_are_is_shown() -> None:
    lm = Path(load_team_config("pocket").candidates[2].spec.model).parent / "switchers" / "lm"
    candidates = [{"name": name, "model": str(lm)} for name in ("sft", "aligned", "pretrained")]
    found = await report(candidates=candidates, switcher={"kind": "lm", "model": str(lm)})
    assert found.fits
    assert found.switcher.endswith("where 0 is pretrained, 1 is sft, 2 is aligned")
    with pytest.raises(ConfigError, match="was trained for pretrained, sft, aligned, not for"):
        await report(candidates=candidates[:2], switcher={"kind": "lm", "model": str(lm)})


async def test_a_switcher_that_cannot_write_the_digits_is_refused(tmp_path: Path) -> None:
    model = load_team_config("pocket").candidates[2].spec.model
    many = [{"name": str(i), "model": model} for i in range(11)]
    with pytest.raises(ConfigError, match="does not write 10 as one token"):
        await report(candidates=many, switcher={"kind": "lm", "model": model})


async def test_a_head_is_reported_by_what_it_reads(tmp_path: Path) -> None:
    import torch

    from taketurns.switchers.head import Head, HeadConfig

    names = tuple(c.name for c in load_team_config("pocket").candidates)
    layers = dict.fromkeys(names, (4,))
    Head(HeadConfig("speaker", names, "sft", layers), {}, torch.zeros(4, 3)).save(tmp_path)
    found = await report(switcher={"kind": "head", "path": str(tmp_path)})
    assert len(found.models) == 3
    assert found.switcher == "a linear head of 12 numbers on hidden states of the last speaker"
    with pytest.raises(ConfigError, match="was trained for pretrained, sft, aligned"):
        await report(
            switcher={"kind": "head", "path": str(tmp_path)}, **{"candidates.sft.name": "chat"}
        )


async def test_a_model_that_is_not_there_is_one_sentence() -> None:
    with pytest.raises(ConfigError, match="nobody/nothing") as caught:
        await report(**{"candidates.sft.model": "nobody/nothing"})
    assert "\n" not in str(caught.value)


async def test_the_report_reads_well() -> None:
    console = Console(record=True, width=100, quiet=False, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    console.print(await report())
    console.file.close()
    text = console.export_text()
    assert "pretrained  3.5 MiB  float32 on cpu  2048     plain prompt" in text
    assert "hand-over token ids" in text
    assert text.rstrip().endswith("the team fits")


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (None, "unknown"),
        (12, "12 B"),
        (1536, "1.5 KiB"),
        (16 << 30, "16.0 GiB"),
        (3 << 50, "3072.0 TiB"),
    ],
)
def test_sizes_for_people(size: int | None, text: str) -> None:
    assert readable(size) == text
