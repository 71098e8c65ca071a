"""Text is split as the checkpoint's own files say."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taketurns.checkpoints.text import TextCodec
from taketurns.config.loading import load_team_config
from taketurns.generation.check.local import inspect_team
from taketurns.types import ModelSpec


async def test_a_tokenizer_is_the_one_of_its_file(
    make_model: Callable[..., Path], byte_tokenizer: Any, tmp_path: Path
) -> None:
    """Fault: beside a qwen2 config, transformers replaces how tokenizer.json splits text."""
    from tokenizers import Tokenizer, pre_tokenizers
    from transformers import AutoTokenizer, PreTrainedTokenizerFast, Qwen2Config

    tokenizer = Tokenizer.from_str(byte_tokenizer.backend_tokenizer.to_str())
    digits = pre_tokenizers.Digits(individual_digits=True)
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, byte_level])
    kept = {"bos_token": "<s>", "eos_token": "</s>", "chat_template": "{{ bos_token }}"}
    folder = make_model(
        config_class=Qwen2Config,
        tokenizer=PreTrainedTokenizerFast(tokenizer_object=tokenizer, **kept),
    )
    text = "in 1999 it"
    ids = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text).ids
    assert AutoTokenizer.from_pretrained(folder).encode(text) != ids  # else there is no fault
    codec = TextCodec.load(ModelSpec(str(folder)))
    assert codec.encode(text) == ids
    assert {key: getattr(codec.tokenizer, key) for key in kept} == kept
    report = await inspect_team(load_team_config(team(tmp_path, folder)))
    said = "its tokenizer is read from its tokenizer.json alone; the Qwen2Tokenizer that"
    assert [note[:3] for note in report.notes if said in note] == ["a: ", "b: "]


def test_a_tokenizer_that_is_its_files_is_left_alone(three_models: dict[str, str]) -> None:
    assert TextCodec.load(ModelSpec(three_models["m0"])).note is None


@pytest.fixture
def adapter(tmp_path: Path, three_models: dict[str, str]) -> Path:
    """A folder in which only the names of files count here."""
    (folder := tmp_path / "adapter").mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    return folder


def test_an_adapters_own_tokenizer_and_template_are_used(
    three_models: dict[str, str], other_tokenizer: Any, adapter: Path
) -> None:
    spec = ModelSpec(three_models["m0"], adapter=str(adapter))
    base = TextCodec.load(spec)
    assert base.encode("then") == TextCodec.load(ModelSpec(three_models["m0"])).encode("then")
    assert base.tokenizer.chat_template is None
    (adapter / "chat_template.jinja").write_text("{{ 'own' }}")
    assert TextCodec.load(spec).tokenizer.chat_template == "{{ 'own' }}"
    other_tokenizer.save_pretrained(adapter)
    own = TextCodec.load(spec)
    assert own.encode("then") == TextCodec(other_tokenizer).encode("then") != base.encode("then")
    assert own.tokenizer.chat_template == "{{ 'own' }}"
    told = ModelSpec(three_models["m0"], adapter=str(adapter), tokenizer=three_models["m1"])
    assert TextCodec.load(told).encode("then") == base.encode("then")
    assert TextCodec.load(told).tokenizer.chat_template is None


def team(folder: Path, model: Path) -> Path:
    file = folder / "team.yaml"
    candidates = [{"name": name, "model": str(model)} for name in ("a", "b")]
    file.write_text(json.dumps({"candidates": candidates, "policy": {"max_tokens": 8}}))
    return file
