"""Files of a model that are broken or mistaken: one sentence says which, and a user's exit code."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taketurns.checkpoints.model_config import (
    end_token_ids,
    read_config,
    require_model,
    suppressed_token_ids,
)
from taketurns.checkpoints.prompts import render_speaker
from taketurns.checkpoints.text import TextCodec
from taketurns.engines.local.adapters import require_adapter
from taketurns.errors import ConfigError, PromptError
from taketurns.tasks.scorers.reward import Reward
from taketurns.types import Message, ModelSpec, Query
from taketurns.utils import json_files

Invoke = Callable[..., tuple[int, str, str]]
CONFIG, GENERATION = "config.json", "generation_config.json"
TOKENIZER, SETTINGS, TEMPLATE = "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"
MIXED = "its tokenizer.json, tokenizer_config.json or config.json has a value that cannot be used"
BROKEN = ["{", b"\xff\xfe", "[]", "5", "null"]


@pytest.fixture
def damaged(three_models: dict[str, str], tmp_path: Path) -> Callable[..., ModelSpec]:
    """A model whose file `name` holds `data`; an object is merged with what is there, None removes
    the file."""

    def make(name: str, data: Any) -> ModelSpec:
        folder = tmp_path / "damaged"
        shutil.copytree(three_models["m0"], folder)
        path = folder / name
        if data is None:
            path.unlink()
        elif isinstance(data, bytes):
            path.write_bytes(data)
        elif isinstance(data, dict):
            path.write_text(json.dumps({**json.loads(path.read_text()), **data}))
        else:
            path.write_text(data)
        return ModelSpec(str(folder))

    return make


def read(spec: ModelSpec) -> None:
    """All that is read before weights are."""
    codec = TextCodec.load(spec)
    end_token_ids(spec, codec.tokenizer)
    suppressed_token_ids(spec)
    read_config(spec)


@pytest.mark.parametrize("data", BROKEN, ids=repr)
@pytest.mark.parametrize("name", [CONFIG, GENERATION, TOKENIZER, SETTINGS])
def test_a_file_that_is_broken_is_named(
    name: str, data: Any, damaged: Callable[..., ModelSpec]
) -> None:
    spec = damaged(name, data)
    with pytest.raises(ConfigError) as caught:
        read(spec)
    said = str(caught.value)
    assert f"its {name} " in said
    assert f"fetch or save {name} again" in said
    assert spec.model in said


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        (GENERATION, {"eos_token_id": "x"}, 'eos_token_id in the generation_config.json of .* "x"'),
        (GENERATION, {"eos_token_id": [[1]]}, r"\[\[1\]\] and must be a list of token ids or one"),
        (GENERATION, {"eos_token_id": {"a": 1}}, "must be a list of token ids or one token id"),
        (GENERATION, {"eos_token_id": 1.5}, r"is 1\.5 and must be"),
        (GENERATION, {"eos_token_id": True}, "is true and must be"),
        (GENERATION, {"suppress_tokens": 5}, "suppress_tokens in .* is 5 and must be a list"),
        (GENERATION, {"suppress_tokens": ["a"]}, r'is \["a"\] and must be a list of token ids'),
        (CONFIG, {"num_attention_heads": 0}, rf"{MIXED} \(ZeroDivisionError"),
        (TOKENIZER, "{}", rf"{MIXED} \(KeyError: 'added_tokens'\)"),
        (TOKENIZER, None, r"it has no tokenizer\.json and no other tokenizer file"),
        (SETTINGS, {"eos_token": 5}, MIXED),
        (SETTINGS, {"tokenizer_class": 5}, MIXED),
        (SETTINGS, {"added_tokens_decoder": 5}, MIXED),
        (SETTINGS, {"model_max_length": "x"}, MIXED),
        (SETTINGS, {"chat_template": [{"name": "a"}]}, rf"{MIXED} \(KeyError: 'template'\)"),
        (TEMPLATE, b"\xff\xfe", r"its chat_template\.jinja is not UTF-8"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_value_that_is_mistaken_is_said(
    name: str, data: Any, said: str, damaged: Callable[..., ModelSpec]
) -> None:
    spec = damaged(name, data)
    with pytest.raises(ConfigError, match=said) as caught:
        read(spec)
    assert spec.model in str(caught.value)


def test_an_end_token_in_config_json_is_held_to_the_same(
    damaged: Callable[..., ModelSpec], byte_tokenizer: Any
) -> None:
    spec = damaged(CONFIG, {"eos_token_id": "x"})
    (Path(spec.model) / GENERATION).unlink()
    with pytest.raises(ConfigError, match=r'eos_token_id in the config\.json of .* is "x"'):
        end_token_ids(spec, byte_tokenizer)


def test_a_value_for_the_model_alone_is_said(damaged: Callable[..., ModelSpec]) -> None:
    spec = damaged(CONFIG, {"num_attention_heads": 0})
    with pytest.raises(ConfigError, match=r"config\.json, or a setting for it, has a value that"):
        read_config(spec)


@pytest.mark.parametrize("name", [CONFIG, GENERATION, SETTINGS])
def test_deep_nesting_is_a_sentence(
    name: str, damaged: Callable[..., ModelSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under a limit that is lowered to what these files keep, but for one key."""
    monkeypatch.setattr(json_files, "MAX_DEPTH", 3)
    spec = damaged(
        name, '{"model_type": 5, "eos_token_id": [[[["x"]]]], "added_tokens_decoder": 5}'
    )
    with pytest.raises(
        ConfigError, match=rf"its {name} is not valid JSON \(nested too deeply: more than 3"
    ):
        read(spec)


def test_an_adapter_that_is_broken_is_named(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{")
    require_adapter(str(tmp_path))
    with pytest.raises(ConfigError, match=r"its adapter_config\.json is not valid JSON"):
        load_adapter(tmp_path)
    with pytest.raises(ConfigError, match="cannot load the model"):
        require_model(ModelSpec(str(tmp_path)))


def load_adapter(folder: Path) -> None:
    from peft import PeftConfig

    from taketurns.checkpoints import hub
    from taketurns.engines.local.adapters import WHAT

    with hub.loading(WHAT, str(folder)):
        PeftConfig.from_pretrained(str(folder))


TEMPLATES = {
    "{{ 1/0 }}": r"fails on the conversation \(ZeroDivisionError: division by zero\); correct",
    "{{ none + 1 }}": r"fails on the conversation \(TypeError: .*\); correct the template",
    "{{ '%d' % 'x' }}": r"fails on the conversation \(TypeError: ",
    "{{ messages[9].role.x }}": "refuses the conversation: list object has no element 9",
    "{{ raise_exception('no system') }}": "refuses the conversation: no system",
    "{% include 'x' %}": r"fails on the conversation \(TypeError: ",
    "{% for": "refuses the conversation: unexpected",
}


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("begun", [False, True], ids=["asked", "begun"])
def test_whatever_a_template_raises_is_a_sentence(
    template: str, begun: bool, byte_tokenizer: Any
) -> None:
    from copy import copy

    tokenizer = copy(byte_tokenizer)
    tokenizer.chat_template = template
    turns = [Message("user", "hi"), *([Message("assistant", "ho")] if begun else [])]
    query = Query("7", messages=tuple(turns))
    with pytest.raises(PromptError, match=rf"query '7': the chat template {TEMPLATES[template]}"):
        render_speaker(ModelSpec("m"), TextCodec(tokenizer), query)


def test_a_template_of_a_team_is_a_users_mistake(
    damaged: Callable[..., ModelSpec], three_models: dict[str, str], invoke: Invoke, tmp_path: Path
) -> None:
    entries = [
        {"name": "a", "model": damaged(TEMPLATE, "{{ 1/0 }}").model},
        {"name": "b", "model": three_models["m1"]},
    ]
    (tmp_path / "team.yaml").write_text(json.dumps({"candidates": entries}))
    (tmp_path / "q.jsonl").write_text('{"id": "1", "text": "hi"}\n')
    out = tmp_path / "out.jsonl"
    code, _, err = invoke(
        "generate", "-o", out, "--team", tmp_path / "team.yaml", "-i", tmp_path / "q.jsonl"
    )
    assert code == 2
    assert (
        "q.jsonl: query '1': the chat template fails on the conversation (ZeroDivisionError" in err
    )
    assert not out.exists() or not out.read_text()


def test_the_template_of_a_reward_model_too(
    make_model: Callable[..., Path], tmp_path: Path, byte_tokenizer: Any
) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, LlamaConfig

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=300, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
        num_attention_heads=1, num_labels=1, pad_token_id=0,
    )  # fmt: skip
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path)
    byte_tokenizer.save_pretrained(tmp_path)
    (tmp_path / TEMPLATE).write_text("{{ none + 1 }}")
    with pytest.raises(PromptError) as caught:
        Reward(str(tmp_path)).score(Query("7", text="hi"), "ho")
    said = (
        f"query '7': the chat template of the reward model {tmp_path} fails on the conversation ("
    )
    assert said in str(caught.value)
