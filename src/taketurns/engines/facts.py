"""What a model's configuration says of it; no weights are read and torch is not needed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from taketurns.errors import ConfigError
from taketurns.types import ModelSpec


def end_token_ids(spec: ModelSpec, tokenizer: Any) -> frozenset[int]:
    """Every id that ends an answer: the tokenizer's and those of generation_config.json."""
    listed = _generation_config(spec).eos_token_id
    ends = {tokenizer.eos_token_id, *(listed if isinstance(listed, list) else [listed])}
    return frozenset(int(i) for i in ends if i is not None)


def never_token_ids(spec: ModelSpec) -> frozenset[int]:
    """The ids that a model is not to write: `suppress_tokens` of generation_config.json."""
    return frozenset(map(int, _generation_config(spec).suppress_tokens or ()))


def _generation_config(spec: ModelSpec) -> Any:
    """Where there is no generation_config.json, what config.json says, as in transformers; nothing
    where there is only a tokenizer, as for a model on a server."""
    from transformers import GenerationConfig, PreTrainedConfig

    try:
        return GenerationConfig.from_pretrained(spec.model, revision=spec.revision)
    except OSError:
        pass
    try:
        config, _ = PreTrainedConfig.get_config_dict(spec.model, revision=spec.revision)
    except OSError:
        config = {}
    listed = {key: config.get(key) for key in ("eos_token_id", "suppress_tokens")}
    return GenerationConfig(**listed)


def context_length(spec: ModelSpec) -> int:
    """The most tokens the model's positions reach. Raises ConfigError if there is no such model."""
    length = getattr(_config(spec), "max_position_embeddings", None)
    return int(length) if length else 1 << 30


def vocabulary_size(spec: ModelSpec) -> int | None:
    """How many ids the model's embedding has, which may be more than its tokenizer knows. Raises
    ConfigError if there is no such model."""
    size = getattr(_config(spec), "vocab_size", None)
    return int(size) if size else None


def _config(spec: ModelSpec) -> Any:
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(
            spec.model, revision=spec.revision, trust_remote_code=spec.trust_remote_code
        )
    except (OSError, ValueError, KeyError, json.JSONDecodeError) as error:
        if spec.model.startswith(("/", ".", "~")) and not Path(spec.model).expanduser().exists():
            raise ConfigError(f"no such model folder: {spec.model}") from error
        raise ConfigError(f"cannot load the model {spec.model!r}: {first_line(error)}") from error
    return config.get_text_config()


def first_line(error: Exception) -> str:
    """The first line of an error's text, or what it is where it has none."""
    text = str(error).strip()
    return text.splitlines()[0] if text else repr(error)
