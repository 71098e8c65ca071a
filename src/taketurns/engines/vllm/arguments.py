"""vLLM's engine arguments, from a team file."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Any

from taketurns.checkpoints.model_config import context_length, read_config
from taketurns.config.team_config import EngineConfig
from taketurns.errors import ConfigError
from taketurns.types import Candidate, ModelSpec

_BLOCK = 32  # tokens: the smallest block of vLLM's attention on a CPU
_UNKNOWN_CONTEXT = 1 << 30
_OF_CANDIDATES: Mapping[str, str] = {
    "model": "model",
    "revision": "revision",
    "tokenizer": "tokenizer",
    "tokenizer_revision": "tokenizer_revision",
    "dtype": "dtype",
    "trust_remote_code": "trust_remote_code",
    "device_ids": "device",
    "default_mm_loras": "adapter",
}
"""Arguments that a candidate's own keys set, and these keys."""
_FIXED: Mapping[str, str] = {
    "runner": "a team's models write text",
    "convert": "a team's models write text",
    "logprobs_mode": "a switcher needs the log-probabilities of the full softmax",
    "skip_tokenizer_init": "formats need the tokenizer",
    "tokens_only": "formats need the tokenizer",
}
_NOT_HAD: Mapping[str, str] = {
    "gguf_file": "name the checkpoint that it was made from, or use engine.kind: local",
    "device_map": "use vllm: {tensor_parallel_size: 2}, or pipeline_parallel_size",
    "quantization_config": "use vllm: {quantization: …}; the checkpoint's own is followed",
    "attn_implementation": "use vllm: {attention_backend: …}",
}


def further_arguments(
    model: Candidate, settings: EngineConfig, known: Collection[str]
) -> dict[str, Any]:
    """The arguments of the team file's `vllm` mappings for a model: its own before the engine's.
    `known` are vLLM's names. Raises ConfigError for any other name, and for arguments that are not
    the user's to set."""
    given = {**settings.vllm, **(model.spec.vllm or {})}
    for name in given:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "see vLLM's documentation of its"
            raise ConfigError(
                f"{model.name}: vLLM has no engine argument {name!r}: {hint}"
                f"{'' if near else ' AsyncEngineArgs'}"
            )
        if (key := _OF_CANDIDATES.get(name)) is not None:
            raise ConfigError(
                f"{model.name}: the argument {name!r} of vLLM is set by the key {key} of a model: "
                f"remove it from vllm, and set {key}"
            )
        if (why := _FIXED.get(name)) is not None:
            raise ConfigError(
                f"{model.name}: the argument {name!r} of vLLM is not free to set, because {why}: "
                "remove it from vllm"
            )
    if given.get("enable_lora") is False and model.spec.adapter is not None:
        raise ConfigError(
            f"{model.name}: it has an adapter, but enable_lora is false: remove enable_lora"
        )
    return given


def model_arguments(model: Candidate, given: Mapping[str, Any], *, cpu: bool) -> dict[str, Any]:
    """All arguments of an engine for a model, apart from adapters and memory; `given` are the
    further ones. Raises ConfigError for what vLLM cannot do."""
    spec = model.spec
    for key, cure in _NOT_HAD.items():
        if getattr(spec, key) is not None:
            raise ConfigError(f"{model.name}: an engine of kind vllm has no {key}: {cure}")
    arguments: dict[str, Any] = {
        "model": spec.model,
        "revision": spec.revision,
        "trust_remote_code": spec.trust_remote_code,
        "dtype": dtype_of(spec, cpu=cpu),
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
        "enable_prefix_caching": True,
    }
    if spec.tokenizer is not None:
        tokenizer, revision = spec.tokenizer_source
        arguments |= {"tokenizer": tokenizer, "tokenizer_revision": revision}
    if (context := context_length(spec)) < _UNKNOWN_CONTEXT:
        arguments["max_model_len"] = context
    if cpu:
        # A sampled request whose prompt is read in chunks stops the engine (vLLM 0.32).
        arguments |= {"block_size": _BLOCK, "enable_chunked_prefill": False}
    if (gpu := _gpu(model, cpu=cpu)) is not None:
        arguments["device_ids"] = [gpu]
    return arguments | dict(given)


def context_of(model: Candidate, settings: EngineConfig) -> int:
    """The most tokens that a prompt and its continuation may have together."""
    given = {**settings.vllm, **(model.spec.vllm or {})}.get("max_model_len")
    longest = context_length(model.spec)
    return min(longest, given) if type(given) is int and given > 0 else longest


def dtype_of(spec: ModelSpec, *, cpu: bool) -> str:
    """The precision by torch's name: for "auto" float32 on a CPU, elsewhere the checkpoint's own
    (vLLM itself would halve a float32 checkpoint's)."""
    if spec.dtype != "auto":
        return spec.dtype
    if cpu:
        return "float32"
    own = getattr(read_config(spec).get_text_config(), "dtype", None)
    return str(own).removeprefix("torch.") if own is not None else "auto"


def _gpu(model: Candidate, *, cpu: bool) -> int | None:
    """The index of the GPU that a model's `device` names; None for any. Raises ConfigError for a
    device that this vLLM does not have."""
    device = model.spec.device
    if device == "auto" or (cpu and device == "cpu"):
        return None
    match = re.fullmatch(r"cuda(?::(\d+))?", device)
    if match is None or cpu:
        has = "was built for the CPU" if cpu else "runs on GPUs"
        raise ConfigError(
            f"{model.name}: its device is {device!r}, and the vLLM that is installed {has}: "
            f"write {'cpu' if cpu else 'cuda or cuda:1'}, or auto"
        )
    return int(match[1]) if match[1] else None
