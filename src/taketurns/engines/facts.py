"""What a model's configuration says of it; no weights are read and torch is not needed."""

from __future__ import annotations

import json
from typing import Any

from taketurns import hub
from taketurns.errors import ConfigError
from taketurns.types import ModelSpec

ADAPTER = "adapter_config.json"


def end_token_ids(spec: ModelSpec, tokenizer: Any) -> frozenset[int]:
    """Every id that ends an answer: the tokenizer's and those of generation_config.json."""
    listed = _generation_config(spec).eos_token_id
    ends = {tokenizer.eos_token_id, *(listed if isinstance(listed, list) else [listed])}
    return frozenset(int(i) for i in ends if i is not None)


def never_token_ids(spec: ModelSpec) -> frozenset[int]:
    """The ids that a model is not to write: `suppress_tokens` of generation_config.json. Raises
    ConfigError for ids that the model does not have, and where none is left to write."""
    never = frozenset(map(int, _generation_config(spec).suppress_tokens or ()))
    if not never:
        return never
    try:
        size = vocabulary_size(spec)
    except ConfigError:  # only a server knows how large it is
        return never
    if size is not None and (beyond := [i for i in sorted(never) if not 0 <= i < size]):
        raise ConfigError(
            f"suppress_tokens in the generation_config.json of {spec.model} names the id "
            f"{beyond[0]}, and the model's ids are 0 to {size - 1}; remove it"
        )
    if size is not None and len(never) == size:
        raise ConfigError(
            f"suppress_tokens in the generation_config.json of {spec.model} names all {size} ids "
            "of the vocabulary, so that the model could write nothing; remove what it may write"
        )
    return never


def _generation_config(spec: ModelSpec) -> Any:
    """Where there is no generation_config.json, what config.json says, as in transformers; nothing
    where there is only a tokenizer, as for a model on a server."""
    from transformers import GenerationConfig

    where = ("the model", spec.model)
    try:
        if file := hub.fetch(*where, "generation_config.json", spec.revision):
            with hub.loading(*where, spec.revision):
                return GenerationConfig.from_pretrained(file.parent)
        file = hub.fetch(*where, "config.json", spec.revision)
    except hub.NoModelError:
        if spec.tokenizer is None:
            raise
        file = None
    with hub.loading(*where, spec.revision):
        config = json.loads(file.read_text(encoding="utf-8")) if file is not None else {}
    listed = {key: config.get(key) for key in ("eos_token_id", "suppress_tokens")}
    return GenerationConfig(**listed)


def context_length(spec: ModelSpec) -> int:
    """The most tokens the model's positions reach. Raises ConfigError if there is no such model."""
    length = getattr(read_config(spec).get_text_config(), "max_position_embeddings", None)
    return int(length) if length else 1 << 30


def vocabulary_size(spec: ModelSpec) -> int | None:
    """How many ids the model's embedding has, which may be more than its tokenizer knows. Raises
    ConfigError if there is no such model."""
    size = getattr(read_config(spec).get_text_config(), "vocab_size", None)
    return int(size) if size else None


def require_model(spec: ModelSpec) -> None:
    """Raise ConfigError where an adapter is named as the model."""
    where = ("the model", spec.model)
    if hub.fetch(*where, "config.json", spec.revision) is not None:
        return
    file = hub.fetch(*where, ADAPTER, spec.revision)
    if file is not None:
        with hub.loading(*where, spec.revision):
            base = json.loads(file.read_text(encoding="utf-8")).get("base_model_name_or_path")
        raise ConfigError(
            f"cannot load the model {spec.model!r}: it is an adapter; name what it was trained on "
            f"({base}) as the model, and this as its adapter"
        )


def read_config(spec: ModelSpec) -> Any:
    """The model's configuration. Raises ConfigError if there is no such model."""
    from transformers import AutoConfig

    require_model(spec)
    with hub.loading("the model", spec.model, spec.revision) as where:
        return AutoConfig.from_pretrained(
            spec.model, trust_remote_code=spec.trust_remote_code, **where
        )
