"""Checkpoints in the forms they are published in, built small, and a team's whole life on them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

Invoke = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="session")
def make_gguf() -> Callable[..., Path]:
    """Write a Llama's folder as a GGUF file, in the way llama.cpp's converter does."""
    import gguf
    import numpy as np
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    def make(
        source: Path,
        path: Path,
        kind: str = "F32",
        architecture: str = "llama",
        more: Mapping[str, Any] | None = None,
        drop: str | None = None,
    ) -> Path:
        """`kind` is the type of its matrices, `more` are further integers and texts of the header,
        the tensors whose names begin with `drop` are left out."""
        model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(source)
        config = model.config
        writer = gguf.GGUFWriter(str(path), architecture)
        writer.add_name("tiny")
        writer.add_context_length(config.max_position_embeddings)
        writer.add_embedding_length(config.hidden_size)
        writer.add_block_count(config.num_hidden_layers)
        writer.add_feed_forward_length(config.intermediate_size)
        writer.add_head_count(config.num_attention_heads)
        writer.add_head_count_kv(config.num_key_value_heads)
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
        writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
        writer.add_rope_dimension_count(config.head_dim)
        writer.add_vocab_size(config.vocab_size)
        named = {number: token for token, number in tokenizer.get_vocab().items()}
        added = tokenizer.added_tokens_decoder
        control = {number for number, token in added.items() if token.special}
        kinds = gguf.TokenType
        ids = range(config.vocab_size)
        writer.add_tokenizer_model("gpt2")
        writer.add_token_list([named.get(i, f"[PAD{i}]") for i in ids])
        writer.add_token_types(
            [
                kinds.CONTROL
                if i in control
                else kinds.USER_DEFINED
                if i in added
                else kinds.NORMAL
                if i in named
                else kinds.UNUSED
                for i in ids
            ]
        )
        writer.add_token_merges([" ".join(pair) for pair in _merges(tokenizer)])
        writer.add_bos_token_id(tokenizer.bos_token_id)
        writer.add_eos_token_id(tokenizer.eos_token_id)
        if tokenizer.chat_template is not None:
            writer.add_chat_template(tokenizer.chat_template)
        for key, value in (more or {}).items():
            write = writer.add_string if isinstance(value, str) else writer.add_uint32
            write(key, value)
        names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
        for name, tensor in model.state_dict().items():
            stem, suffix = name.rsplit(".", 1)
            called = f"{names.get_name(stem)}.{suffix}"
            if drop is not None and called.startswith(drop):
                continue
            values = tensor.numpy()
            for part, number in heads.items():
                if part in name:  # llama.cpp turns neighbouring pairs, transformers halves
                    halves = values.reshape(number, 2, -1, *values.shape[1:])
                    values = halves.swapaxes(1, 2).reshape(values.shape)
            values = np.ascontiguousarray(values)
            if values.ndim == 2 and kind != "F32":
                stored = gguf.GGMLQuantizationType[kind]
                values = gguf.quants.quantize(values, stored)
                writer.add_tensor(called, values, raw_dtype=stored)
            else:
                writer.add_tensor(called, values)
        if config.rope_parameters["rope_type"] == "llama3":
            writer.add_tensor("rope_freqs.weight", _frequency_factors(config))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    return make


def _merges(tokenizer: Any) -> list[list[str]]:
    merges: list[list[str]] = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    assert merges, "a GGUF file without merges has no BPE tokenizer"
    return merges


def _frequency_factors(config: Any) -> Any:
    """By what Llama 3.1 divides each of its frequencies, after its authors' rule."""
    import numpy as np

    rope = config.rope_parameters
    width = config.head_dim
    frequencies = rope["rope_theta"] ** (-np.arange(0, width, 2) / width)
    lengths, old = 2 * np.pi / frequencies, rope["original_max_position_embeddings"]
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    smooth = (old / lengths - low) / (high - low)
    between = 1 / ((1 - smooth) / rope["factor"] + smooth)
    factors = np.where(
        lengths < old / high, 1, np.where(lengths > old / low, rope["factor"], between)
    )
    return factors.astype(np.float32)


@pytest.fixture
def life(invoke: Invoke, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Take two candidates through check, generate, rollout and train, and answer with what was
    trained; what each step gave, by its name."""

    def live(
        first: Mapping[str, Any], second: Mapping[str, Any], kinds: Sequence[str] = ("head", "lm")
    ) -> dict[str, Any]:
        """`kinds` are those of the switchers that are trained; the language model starts from the
        first."""
        team = tmp_path / "team.yaml"
        document = {
            "candidates": [{"name": "one", **first}, {"name": "two", **second}],
            "policy": {"patch_size": 4, "max_tokens": 12, "temperature": 0},
        }
        team.write_text(json.dumps(document))
        rows = [
            {"id": f"{split}{i}", "split": split, "text": f"{split} {i}?", "reference": "e"}
            for split in ("train", "dev", "test")
            for i in range(4)
        ]
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (tmp_path / "task.yaml").write_text("name: rows\ndata: rows.jsonl\nscorer: f1\n")
        gave: dict[str, Any] = {}
        gave["check"] = json.loads(_well(invoke("check", "--team", team, "--json")))
        asked = ("--team", team, "--task", tmp_path / "task.yaml")
        answers = tmp_path / "answers.jsonl"
        _well(invoke("generate", *asked, "--output", answers))
        gave["answers"] = _records(answers)
        labels = tmp_path / "labels.jsonl"
        _well(invoke("rollout", *asked, "--output", labels, "--prefixes", "4", "--k", "2"))
        gave["labels"] = _records(labels)
        taught = tmp_path / "taught.jsonl"
        lines = [
            {**record, "branches": _decided(record["branches"], number % 2), "error": None}
            for number, record in enumerate(gave["labels"] * 3)
        ]
        taught.write_text(
            "".join(
                json.dumps({**line, "id": f"{line['id']}-{number}"}) + "\n"
                for number, line in enumerate(lines)
            )
        )
        learned = ("--labels", taught, "--epochs", "1")
        for kind in kinds:
            more = ("--start", "one") if kind == "lm" else ()
            out = tmp_path / kind
            train = ("train", "--team", team, *learned, "-o", out, "--switcher", kind, *more)
            _well(invoke(*train))
            again = tmp_path / f"{kind}.jsonl"
            _well(invoke("generate", "--team", out, *asked[2:], "--output", again))
            gave[kind] = _records(again)
        return gave

    return live


def _decided(branches: list[dict[str, Any]], right: int) -> list[dict[str, Any]]:
    """The same branches, of which one was worth more."""
    return [
        {**branch, "utilities": [float(number == right)] * len(branch["utilities"])}
        for number, branch in enumerate(branches)
    ]


def _well(result: tuple[int, str, str]) -> str:
    code, out, err = result
    assert code == 0, err
    return out


def _records(path: Path) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert records
    assert all(record.get("error") is None for record in records)
    return records
