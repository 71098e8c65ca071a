"""A candidate in a GGUF file: the same model and tokenizer as its checkpoint, or one sentence."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from taketurns.checkpoints import gguf, model_config
from taketurns.checkpoints.text import TextCodec
from taketurns.config.loading import load_team_config
from taketurns.engines.http.engine import HttpEngine
from taketurns.engines.local import loading
from taketurns.engines.local.library_logging import asked_by_an_old_name
from taketurns.errors import ConfigError
from taketurns.generation.check.weights import weight_bytes
from taketurns.generation.team import Team
from taketurns.integrations.launch.plan import GpuShare, _server
from taketurns.types import Candidate, Endpoint, ModelSpec, Sampling

Invoke = Callable[..., tuple[int, str, str]]
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


@pytest.fixture(scope="session")
def source(make_model: Callable[..., Path], other_tokenizer: Any) -> Path:
    return make_model(3, tokenizer=other_tokenizer)


@pytest.fixture(scope="session")
def folder(
    tmp_path_factory: pytest.TempPathFactory, make_gguf: Callable[..., Path], source: Path
) -> Path:
    folder = tmp_path_factory.mktemp("gguf")
    make_gguf(source, folder / "whole.gguf")
    make_gguf(source, folder / "bits.gguf", "Q8_0")
    return folder


def logits(model: Any) -> Any:
    with torch.inference_mode():
        return model(torch.tensor([[5, 9, 30, 40, 7, 7, 1]])).logits


def test_the_file_is_the_checkpoint(folder: Path, source: Path) -> None:
    spec, plain = ModelSpec(str(folder), gguf_file="whole.gguf"), ModelSpec(str(source))
    same, other = (loading.Weights({"m": one}).load("m").model for one in (spec, plain))
    assert torch.equal(logits(same), logits(other))
    assert same.dtype == torch.float32
    codec, known = TextCodec.load(spec), TextCodec.load(plain)
    text = "the thé, 12 + 3\n"
    assert codec.encode(text) == known.encode(text)
    assert codec.decode(codec.encode(text)) == text
    assert model_config.context_length(spec) == model_config.context_length(plain)
    assert model_config.vocabulary_size(spec) == model_config.vocabulary_size(plain)
    assert model_config.end_token_ids(spec, codec.tokenizer) == model_config.end_token_ids(
        plain, known.tokenizer
    )


def test_a_template_is_the_candidates_own(folder: Path) -> None:
    spec = ModelSpec(str(folder), gguf_file="whole.gguf")
    assert TextCodec.load(replace(spec, template="{{ bos_token }}")).tokenizer.chat_template
    assert TextCodec.load(spec).tokenizer.chat_template is None


async def test_a_team_writes_as_its_checkpoints_do(folder: Path, source: Path) -> None:
    def team(spec: dict[str, str]) -> Team:
        path = folder / "team.yaml"
        entries = [{"name": name, **spec} for name in ("a", "b")]
        policy = {"patch_size": 5, "max_tokens": 40, "temperature": 0}
        path.write_text(json.dumps({"candidates": entries, "policy": policy}))
        return Team.load(path)

    traces = []
    for spec in ({"model": str(folder), "gguf_file": "whole.gguf"}, {"model": str(source)}):
        async with team(spec) as one:
            traces.append(await one.agenerate("what is it?"))
    assert traces[0].text == traces[1].text
    assert traces[0].tokens > 0


def test_a_life_with_a_quantised_file(
    life: Callable[..., dict[str, Any]], folder: Path, source: Path
) -> None:
    bits, whole = (
        {"model": str(folder), "gguf_file": f"{kind}.gguf"} for kind in ("bits", "whole")
    )
    gave = life(bits, whole)
    one, two = gave["check"]["models"]
    assert gave["check"]["exact"]
    assert one["weight_bytes"] == two["weight_bytes"]  # what it takes once it is loaded
    assert one["weight_bytes"] == weight_bytes(ModelSpec(str(source)))
    assert any(patch["text"] for answer in gave["answers"] for patch in answer["patches"])


def test_an_adapter_stands_on_it(folder: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    spec = ModelSpec(str(folder), gguf_file="bits.gguf")
    base = loading.Weights({"m": spec}).load("m").model
    before = logits(base)
    with asked_by_an_old_name():
        tuned = get_peft_model(base, LoraConfig(r=2, init_lora_weights=False))
    wanted = logits(tuned)
    tuned.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    both = {
        "m": spec,
        "n": ModelSpec(spec.model, adapter=str(tmp_path / "adapter"), gguf_file=spec.gguf_file),
    }
    weights = loading.Weights(both)
    plain, adapted = weights.load("m"), weights.load("n")
    adapted.activate()
    assert torch.allclose(logits(adapted.model), wanted, atol=1e-5)
    plain.activate()
    assert torch.equal(logits(plain.model), before)


def test_two_files_in_a_folder_are_two_models(folder: Path) -> None:
    first, second = (ModelSpec(str(folder), gguf_file=f"{name}.gguf") for name in ("whole", "bits"))
    assert loading.base_of(first) != loading.base_of(second)
    weights = loading.Weights({"a": first, "b": second})
    assert not torch.equal(logits(weights.load("a").model), logits(weights.load("b").model))


def test_stretched_positions_are_kept(
    make_model: Callable[..., Path],
    other_tokenizer: Any,
    make_gguf: Callable[..., Path],
    tmp_path: Path,
) -> None:
    source = make_model(4, tokenizer=other_tokenizer, rope_parameters=LLAMA3, head_dim=32)
    make_gguf(source, tmp_path / "long.gguf")
    spec = ModelSpec(str(tmp_path), gguf_file="long.gguf")
    same, other = (
        loading.Weights({"m": one}).load("m").model for one in (spec, ModelSpec(str(source)))
    )
    assert torch.allclose(logits(same), logits(other), atol=1e-5)


def test_the_end_of_a_turn_ends_an_answer(
    make_gguf: Callable[..., Path], source: Path, tmp_path: Path
) -> None:
    more = {"tokenizer.ggml.eot_token_id": 7, "tokenizer.ggml.eom_token_id": 9}
    make_gguf(source, tmp_path / "turns.gguf", more=more)
    spec = ModelSpec(str(tmp_path), gguf_file="turns.gguf")
    ends = model_config.end_token_ids(spec, TextCodec.load(spec).tokenizer)
    assert {7, 9} < ends
    assert loading.pretrained(spec).generation_config.eos_token_id == sorted(ends)


@pytest.mark.parametrize("ids", [True, False])
async def test_a_served_model_has_its_tokenizer_from_it(folder: Path, ids: bool) -> None:
    """A server that does not say how long its context is, and may read text alone."""
    spec, asked = ModelSpec(str(folder), gguf_file="whole.gguf"), []

    def reply(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/models":
            return httpx.Response(200, json={"data": [{"id": "m"}]})
        if request.url.path != "/v1/completions":
            return httpx.Response(404)
        body = json.loads(request.content)
        if not ids and not isinstance(body["prompt"], str):
            return httpx.Response(400, json={"error": "a text, please"})
        asked.append(body["prompt"])
        choice = {"text": "the", "finish_reason": "length"}
        return httpx.Response(200, json={"choices": [choice]})

    engine = HttpEngine([Candidate("m", spec, Endpoint(("http://one",)))], first_cooldown=0.01)
    engine.connect = lambda: httpx.MockTransport(reply)
    info = await engine.info("m")
    assert info.context == 512
    assert info.codec.encode("the") == TextCodec.load(spec).encode("the")
    async with engine.session(0) as session:
        await session.generate("m", info.codec.encode("see the "), Sampling(3))
    assert asked[-1] == (info.codec.encode("see the ") if ids else "see the ")
    await engine.close()


def test_it_is_not_launched_under_vllm(folder: Path) -> None:
    spec = ModelSpec(str(folder), gguf_file="whole.gguf")
    with pytest.raises(ConfigError, match="m is a GGUF file, and only checkpoints are launched"):
        _server("http://127.0.0.1:8000", [Candidate("m", spec)], GpuShare((), 0.9), ())


def cut(whole: bytes) -> bytes:
    return whole[:-5000]


def cut_in_header(whole: bytes) -> bytes:
    return whole[:3000]


def empty(whole: bytes) -> bytes:
    return b""


def no_gguf(whole: bytes) -> bytes:
    return b"PK" + whole


def old(whole: bytes) -> bytes:
    return whole[:4] + (1).to_bytes(4, "little") + whole[8:]


def unknown_type(whole: bytes) -> bytes:
    """A tensor's name is followed by the number of its dimensions, these, and its type."""
    at = whole.index(b"blk.0.attn_q.weight") + len(b"blk.0.attn_q.weight") + 4 + 2 * 8
    return whole[:at] + (99).to_bytes(4, "little") + whole[at + 4 :]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (cut, "is cut off: "),
        (cut_in_header, "its header ends too early"),
        (empty, "is not a GGUF file"),
        (no_gguf, "is not a GGUF file"),
        (old, "is GGUF version 1; versions 2 and 3 can be read"),
        (unknown_type, "holds blk.0.attn_q.weight in the type number 99"),
    ],
)
def test_a_spoilt_file_is_one_sentence(
    invoke: Invoke, folder: Path, tmp_path: Path, spoil: Callable[[bytes], bytes], said: str
) -> None:
    (tmp_path / "m.gguf").write_bytes(spoil((folder / "whole.gguf").read_bytes()))
    assert said in refusal(invoke, tmp_path)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"architecture": "rwkv9"}, "has the architecture rwkv9, which transformers does not read"),
        ({"more": {"llama.expert_count": 8}}, "is a mixture of 8 experts"),
        ({"more": {"llama.rope.scaling.type": "yarn"}}, "scales its rotary positions (yarn)"),
        ({"more": {"split.count": 3}}, "is one of 3 parts"),
        ({"drop": "blk.1.ffn"}, "4 tensors (model.layers.1.mlp.down_proj.weight"),
    ],
)
def test_what_would_be_read_wrongly_is_refused(
    invoke: Invoke,
    make_gguf: Callable[..., Path],
    source: Path,
    tmp_path: Path,
    settings: dict[str, Any],
    said: str,
) -> None:
    make_gguf(source, tmp_path / "m.gguf", **settings)
    assert said in refusal(invoke, tmp_path)


def test_weights_that_would_be_left_out_are_refused(
    make_model: Callable[..., Path],
    other_tokenizer: Any,
    make_gguf: Callable[..., Path],
    tmp_path: Path,
) -> None:
    source = make_model(4, tokenizer=other_tokenizer, attention_bias=True)
    make_gguf(source, tmp_path / "m.gguf")
    with pytest.raises(ConfigError, match="holds 384 numbers that transformers does not load"):
        loading.pretrained(ModelSpec(str(tmp_path), gguf_file="m.gguf"))


def test_positions_of_another_kind_are_refused(
    make_model: Callable[..., Path],
    other_tokenizer: Any,
    make_gguf: Callable[..., Path],
    tmp_path: Path,
) -> None:
    source = make_model(4, tokenizer=other_tokenizer, rope_parameters=LLAMA3, head_dim=32)
    make_gguf(source, tmp_path / "m.gguf")
    header = gguf.read_header(tmp_path / "m.gguf")
    (factors,) = (one for one in header.tensors if one.name == "rope_freqs.weight")
    with (tmp_path / "m.gguf").open("r+b") as file:
        file.seek(header.data + factors.offset)
        file.write(torch.linspace(1, 9, factors.numbers).numpy().tobytes())
    with pytest.raises(ConfigError, match="in a way that transformers does not know"):
        model_config.read_config(ModelSpec(str(tmp_path), gguf_file="m.gguf"))


def test_a_missing_package_is_one_sentence(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hidden(name: str, package: str | None = None) -> Any:
        return None if name == "gguf" else importlib.util.find_spec(name, package)

    monkeypatch.setattr(gguf, "find_spec", hidden)
    with pytest.raises(
        ConfigError, match=r"needs the package gguf: pip install 'taketurns\[gguf\]'"
    ):
        model_config.context_length(ModelSpec(str(folder), gguf_file="whole.gguf"))


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"model": ".", "gguf_file": "lost.gguf"}, "there is no lost.gguf in"),
        ({"model": "./whole.gguf"}, "write model: . and gguf_file: whole.gguf"),
        (
            {
                "model": ".",
                "gguf_file": "whole.gguf",
                "quantization_config": {"load_in_8bit": True},
            },
            "quantised already: remove quantization_config",
        ),
    ],
)
def test_a_team_file_names_it_rightly(folder: Path, entry: dict[str, Any], said: str) -> None:
    path = folder / "wrong.yaml"
    path.write_text(json.dumps({"candidates": [{"name": "a", **entry}, {"name": "b", **entry}]}))
    with pytest.raises(ConfigError, match=said) as caught:
        load_team_config(path)
    assert str(path) in str(caught.value)


def refusal(invoke: Invoke, folder: Path) -> str:
    """What `generate` says of a team of `m.gguf`, and nothing is written."""
    entries = [{"name": name, "model": ".", "gguf_file": "m.gguf"} for name in ("a", "b")]
    (folder / "team.yaml").write_text(json.dumps({"candidates": entries}))
    (folder / "in.jsonl").write_text('{"id": "1", "text": "hi"}\n')
    code, out, err = invoke(
        *("generate", "--team", folder, "--input", folder / "in.jsonl"),
        *("--output", folder / "out.jsonl"),
    )
    said = [line for line in err.splitlines() if line.startswith("taketurns: ")]
    assert (code, out, len(said)) == (2, "", 1), err
    assert not (folder / "out.jsonl").exists()
    return said[0]
