"""Reads a model's configuration, without weights and without torch."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

from taketurns.checkpoints import gguf, hub
from taketurns.errors import ConfigError, one_line
from taketurns.types import ModelSpec
from taketurns.utils.json_files import read_json

ADAPTER = "adapter_config.json"
_GENERATION = "generation_config.json"
_IDS = ("eos_token_id", "suppress_tokens")
_ROPE_FREQUENCIES = "rope_freqs.weight"
# llama.cpp's constants for the frequencies of Llama 3; only the factor differs between models.
_LLAMA3 = {
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def end_token_ids(spec: ModelSpec, tokenizer: Any) -> frozenset[int]:
    """The ids that end an answer: the tokenizer's, and those of generation_config.json or of a GGUF
    file's header. Raises ConfigError for values that are not ids."""
    if spec.gguf_file is not None:
        listed: Any = [*gguf.read(spec).end_token_ids]
    else:
        listed = _generation_config(spec).eos_token_id
    ends = {tokenizer.eos_token_id, *(listed if isinstance(listed, list) else [listed])}
    return frozenset(int(i) for i in ends if i is not None)


def suppressed_token_ids(spec: ModelSpec) -> frozenset[int]:
    """The ids that a model must not write: `suppress_tokens` of generation_config.json. Raises
    ConfigError for ids that the model does not have, and if all ids are suppressed."""
    if spec.gguf_file is not None:
        return frozenset()
    suppressed = frozenset(map(int, _generation_config(spec).suppress_tokens or ()))
    if not suppressed:
        return suppressed
    try:
        size = vocabulary_size(spec)
    except ConfigError:  # only a server knows the size
        return suppressed
    if size is not None and (beyond := [i for i in sorted(suppressed) if not 0 <= i < size]):
        raise ConfigError(
            f"suppress_tokens in the generation_config.json of {spec.model} names the id "
            f"{beyond[0]}, and the model's ids are 0 to {size - 1}; remove it"
        )
    if size is not None and len(suppressed) == size:
        raise ConfigError(
            f"suppress_tokens in the generation_config.json of {spec.model} names all {size} ids "
            "of the vocabulary, so the model could write no token; remove the ids that it may write"
        )
    return suppressed


def _generation_config(spec: ModelSpec) -> Any:
    """The settings of generation_config.json; without it those of config.json, as in transformers;
    empty ones for a model on a server that has only a tokenizer here."""
    from transformers import GenerationConfig

    where = ("the model", spec.model)
    try:
        if file := hub.fetch(*where, _GENERATION, spec.revision):
            with hub.loading(*where, spec.revision):
                _check_ids(read_json(file), spec, file)
                return GenerationConfig.from_pretrained(file.parent)
        file = hub.fetch(*where, "config.json", spec.revision)
    except hub.NoModelError:
        if spec.tokenizer is None:
            raise
        file = None
    with hub.loading(*where, spec.revision):
        config: Any = {}
        if file is not None:
            config = read_json(file)
            _check_ids(config, spec, file)
    return GenerationConfig(**{key: config.get(key) for key in _IDS})


def _check_ids(config: Any, spec: ModelSpec, file: Path) -> None:
    """Raise ConfigError if a key for token ids has other values; int() would accept fractions."""
    for key in _IDS:
        value = config.get(key)
        ids = value if isinstance(value, list) else [value]
        alone = key == "eos_token_id" and not isinstance(value, list)
        right = all(type(id_) is int and id_ >= -1 for id_ in ids)
        if value is not None and not (right and (alone or isinstance(value, list))):
            wanted = "a list of token ids" + (" or one token id" if key == "eos_token_id" else "")
            raise ConfigError(
                f"{key} in the {file.name} of {spec.model} is {json.dumps(value)[:80]} and must be "
                f"{wanted}"
            )


def context_length(spec: ModelSpec) -> int:
    """The model's context in tokens. Raises ConfigError if there is no such model."""
    length = getattr(read_config(spec).get_text_config(), "max_position_embeddings", None)
    return int(length) if length else 1 << 30


def vocabulary_size(spec: ModelSpec) -> int | None:
    """The number of ids of the model's embedding, which may be more than the tokenizer's. Raises
    ConfigError if there is no such model."""
    size = getattr(read_config(spec).get_text_config(), "vocab_size", None)
    return int(size) if size else None


def hidden_size(spec: ModelSpec) -> int | None:
    """The size of the model's hidden states, None if its layers have different ones. Raises
    ConfigError if there is no such model."""
    config = read_config(spec).get_text_config()
    size = getattr(config, "hidden_size", None)
    outside = getattr(config, "word_embed_proj_dim", size)  # in OPT
    return int(size) if size and outside == size else None


def require_model(spec: ModelSpec) -> None:
    """Raise ConfigError if an adapter is named as the model."""
    where = ("the model", spec.model)
    if hub.fetch(*where, "config.json", spec.revision) is not None:
        return
    file = hub.fetch(*where, ADAPTER, spec.revision)
    if file is not None:
        with hub.loading(*where, spec.revision):
            described = read_json(file)
            base = described.get("base_model_name_or_path")
        raise ConfigError(
            f"cannot load the model {spec.model!r}: it is an adapter; name the model that it was "
            f"trained on ({base}) as `model`, and this one as `adapter`"
        )


def read_config(spec: ModelSpec) -> Any:
    """The model's configuration, from config.json or its GGUF file. Raises ConfigError if there is
    no such model."""
    from transformers import AutoConfig

    if spec.gguf_file is not None:
        return _read_gguf_config(spec)
    require_model(spec)
    with hub.loading("the model", spec.model, spec.revision) as where:
        return AutoConfig.from_pretrained(
            spec.model, trust_remote_code=spec.trust_remote_code, **where
        )


def _read_gguf_config(spec: ModelSpec) -> Any:
    header = gguf.read(spec)
    try:
        config = deepcopy(_read_gguf(header.path))
    except Exception as error:  # any type: the cause is in the file
        raise ConfigError(f"cannot read {header.path}: {one_line(error)}") from error
    if any(tensor.name == _ROPE_FREQUENCIES for tensor in header.tensors):
        _stretch(config, header)
    return config


@gguf.once
def _read_gguf(path: Path) -> Any:
    """The configuration that transformers reads from a GGUF file's header."""
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(str(path.parent), gguf_file=path.name)


def _stretch(config: Any, header: gguf.GgufHeader) -> None:
    """Add the scaled rotary positions of a Llama 3 to its configuration; transformers leaves them
    out. Raises ConfigError for positions that are scaled in another way."""
    import numpy as np
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    factors = header.floats(_ROPE_FREQUENCIES)
    theta = config.rope_parameters["rope_theta"]
    config.rope_parameters = {
        **_LLAMA3,
        "rope_type": "llama3",
        "rope_theta": theta,
        "factor": float(factors.max()),
    }
    width = 2 * len(factors)
    wanted = theta ** (-np.arange(0, width, 2, dtype=np.float64) / width) / factors
    computed = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")[0].numpy()
    if computed.shape != wanted.shape or not np.allclose(computed, wanted, rtol=1e-4, atol=0):
        raise ConfigError(
            f"{header.path} scales its rotary positions ({_ROPE_FREQUENCIES}) in a way that "
            "transformers does not know: name the checkpoint it was made from"
        )
