"""A small copy of a model: its configuration with few layers, small widths and a window of 8, and
random weights. It has every kind of layer and every switch of the original, so a fault in the way
of running the model also shows in the copy, within milliseconds."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import torch
from transformers import PreTrainedConfig

WINDOW = 8  # tokens
VOCABULARY = 96
FIRST_ID = 4  # smaller ids are padding, beginning and end
SPREAD = 0.15  # standard deviation of the weights: large enough for each layer to change the logits

_HIDDEN, _HEADS, _HEAD = 64, 4, 16
_EXPERTS, _CHOSEN = 4, 2
_LAYERS = (
    "num_hidden_layers",
    "n_layer",
    "n_layers",
    "num_layers",
    "decoder_layers",
    "encoder_layers",
    "num_blocks",
    "num_decoder_layers",
    "num_encoder_layers",
)
# Periods of a kind of layer, in configurations that do not list the kinds layer by layer.
_PERIODS = (
    "attn_layer_period",
    "expert_layer_period",
    "layer_group_size",
    "interleave_moe_layer_step",
    "decoder_sparse_step",
    "moe_layer_interval",
)

# Sizes by name; the first match counts. A size that is 0 or not set stays so.
_SIZES: list[tuple[str, Callable[[int], int]]] = [
    (r"(type|task_type|decoder)_vocab_size", lambda old: min(old, VOCABULARY)),
    (r".*vocab_size.*|.*_group_vocab", lambda old: VOCABULARY),
    (r"(max_|n_)position.*|max_target_positions|n_ctx|max_seq_len", lambda old: min(old, 512)),
    (
        r"sliding_window(_size)?|attention_window_size|window_size|attention_chunk_size"
        r"|local_attention_window_len|keep_window_size|index_topk",
        lambda old: WINDOW,
    ),
    (r"local_attention", lambda old: 2 * WINDOW),
    (r"(mamba_)?chunk_size|block_size|index_block_size", lambda old: WINDOW),
    (
        r"hidden_size|d_model|n_embd|emb(edding)?_dim|word_embed_proj_dim|lru_width"
        r"|((in|out)put_)?embedding_size|(pronunciation|shape)_embed_dim|ple_embed_dim",
        lambda old: _HIDDEN,
    ),
    (
        r"num_experts_per_tok(en)?|moe_topk|moe_k|num_experts_per_token",
        lambda old: min(old, _CHOSEN),
    ),
    (r"n_group|num_expert_group", lambda old: min(old, 2)),
    (r"topk_group", lambda old: 1),
    (r"(moe_)?num_(local_)?experts|n_routed_experts", lambda old: min(old, _EXPERTS)),
    (r"zero_expert_num|(moe_)?num_shared_experts|n_shared_experts", lambda old: min(old, 2)),
    (r".*(expert|moe|shared).*(intermediate_size|ffn_hidden_size)", lambda old: 32),
    (
        r".*intermediate_size.*|.*ffn_dim|ffn_hidden_size|d_inner|dff|dim_ff|n_inner"
        r"|feed_forward_size|mamba_d_ssm",
        lambda old: 2 * _HIDDEN,
    ),
    (r"(mamba_)?expand", lambda old: 2),
    (r"(mamba_n_heads|mamba_num_heads|n_mamba_heads)", lambda old: min(old, 2 * _HEADS)),
    (r"mamba_d_head|mamba_head_?dim", lambda old: _HEAD),
    (r"mamba_n_?groups|n_groups", lambda old: min(old, 2)),
    (r"(mamba_d_|ssm_)?state(_size)?", lambda old: _HEAD),
    (r"time_step_rank|mamba_dt_rank", lambda old: 4),
    (r"linear_num_key_heads", lambda old: 2),
    (r"linear_num_value_heads", lambda old: 4),
    (
        r"(index_|linear_|swa_)?n?u?m?_?(attention_|decoder_attention_|encoder_attention_)?n?_?heads"
        r"|n_head|attention_heads",
        lambda old: min(old, _HEADS),
    ),
    (r"qk_(rope|nope)_head_dim", lambda old: _HEAD // 2),
    (r"(q|kv|o)_lora_rank|.*_rank|hc_lowrank", lambda old: min(old, 8)),
    (r"o_groups|[HL]_cycles", lambda old: min(old, 2)),
    (r"block_multiple_of", lambda old: 32),
    (r".*head_dim|dim_head|d_head|attention_head_size|kv_channels", lambda old: _HEAD),
    (r"rotary_dim", lambda old: _HEAD // 2),
    (r"query_pre_attn_scalar", lambda old: _HEAD),
    (r".*hidden_size_per_layer_input|.*router_hidden_size", lambda old: 16),
    (r"ngram_vocab_size_base", lambda old: VOCABULARY),
    (r"split_ngram_parts", lambda old: 2),
    (r"floor_scale", lambda old: old),
]
_RULES = [(re.compile(name), size) for name, size in _SIZES]


def small_config(config: PreTrainedConfig) -> PreTrainedConfig:
    """The configuration of the copy. If the smaller sizes do not fit each other, it raises whatever
    the configuration's own checks raise."""
    small = deepcopy(config)
    if hasattr(small, "quantization_config"):
        del small.quantization_config
    for part in _parts(small):
        _shrink(part)
    return small


def small_model(
    model_class: Any, config: PreTrainedConfig, attention: str | None, dtype: torch.dtype
) -> Any:
    """A copy with random weights on the CPU, always the same, ready to run. `config` comes from
    `small_config`; `attention` None lets transformers choose."""
    with torch.random.fork_rng(devices=[]), torch.inference_mode(False):
        torch.manual_seed(0)
        arguments = {} if attention is None else {"attn_implementation": attention}
        model = model_class._from_config(deepcopy(config), dtype=dtype, **arguments)
        with torch.no_grad():
            for weight in model.parameters():
                _show(weight)
    return model.requires_grad_(False).eval()


def _show(weight: torch.Tensor) -> None:
    """Enlarge a weight. Initial weights for training are so small, or even 0, that a layer which
    reads the wrong position would hardly change the logits."""
    if not weight.is_floating_point() or not weight.numel():
        return
    spread = float(weight.float().std()) if weight.numel() > 1 else 0.0
    if not bool(weight.any()):
        weight.normal_(0.0, SPREAD)
    elif weight.dim() >= 2 and 0.0 < spread < SPREAD and abs(float(weight.float().mean())) < spread:
        weight.mul_(SPREAD / spread)


def _parts(config: PreTrainedConfig) -> Iterator[PreTrainedConfig]:
    yield config
    for value in list(vars(config).values()):
        if isinstance(value, PreTrainedConfig):
            yield from _parts(value)


def _shrink(config: Any) -> None:
    old = {key: value for key, value in vars(config).items() if not key.startswith("_")}
    unequal = old.get("v_head_dim") != (
        (old.get("qk_nope_head_dim") or 0) + (old.get("qk_rope_head_dim") or 0)
    )
    _fewer_layers(config, old)
    for key, value in old.items():
        if key in _LAYERS:
            continue
        if key.endswith("_token_id"):
            _set(config, key, _token(key, value))
        elif isinstance(value, int) and not isinstance(value, bool) and value > 0:
            size = _size(key, value, old)
            if size is not None:
                _set(config, key, size)
        elif isinstance(value, list) and value and all(type(item) is int for item in value):
            now = vars(config)[key]
            size = _size(key, value[0], old)
            if size is not None and len(now) > 0 and key not in ("eos_token_id",):
                _set(config, key, [size] * len(now))
        elif isinstance(value, dict):
            _set(config, key, _inside(value))
    if "qk_nope_head_dim" in old:
        _set(config, "v_head_dim", _HEAD // 2 if unequal else _HEAD)
        if old.get("head_dim") == old.get("qk_rope_head_dim"):  # the size of the rotated part
            _set(config, "head_dim", _HEAD // 2)
    if "state_size" in old and "num_heads" in old:  # Mamba-2: heads x head is the inner width
        _set(config, "num_heads", 2 * _HIDDEN // _HEAD)
    if (width := old.get("attention_hidden_size")) is not None:
        times = 2 if width == 2 * old["hidden_size"] else 1  # Zamba attends to twice the width
        _set(config, "attention_hidden_size", times * _HIDDEN)
        if "attention_head_dim" in old:
            _set(config, "attention_head_dim", times * _HEAD)


def _size(key: str, value: int, old: dict[str, Any]) -> int | None:
    if re.fullmatch(r"(.*_)?num_key_value_heads|num_kv_heads|num_query_groups", key):
        heads = old.get(key.replace("key_value", "attention")) or old.get("num_attention_heads")
        return _HEADS if value == heads else min(value, 2)
    return next((size(value) for name, size in _RULES if name.fullmatch(key)), None)


def _inside(settings: dict[Any, Any]) -> dict[Any, Any]:
    """Shrink settings in a dictionary, such as those of positions, with lists per dimension."""
    made: dict[Any, Any] = {}
    share = settings.get("partial_rotary_factor") or 1.0
    pairs = max(1, int(_HEAD * share) // 2) if isinstance(share, float | int) else _HEAD // 2
    for key, value in settings.items():
        if isinstance(value, dict):
            made[key] = _inside(value)
        elif key in ("short_factor", "long_factor") and isinstance(value, list):
            made[key] = value[:pairs]
        elif key == "mrope_section" and isinstance(value, list):
            third = pairs // len(value)
            made[key] = [pairs - third * (len(value) - 1), *[third] * (len(value) - 1)]
        elif type(value) is int and value > 0 and (size := _size(key, value, {})) is not None:
            made[key] = size
        else:
            made[key] = value
    return made


def _fewer_layers(config: Any, old: dict[str, Any]) -> None:
    """Keep two layers, or as many as needed for each kind of layer to occur. The kind of a layer is
    its entries in lists with one entry per layer, and whether a list of numbers has its number."""
    name = next((key for key in _LAYERS if isinstance(old.get(key), int)), None)
    if name is None:
        return
    depth = old[name]
    lists = {key: value for key, value in old.items() if isinstance(value, list | tuple) and value}
    numbers = {
        key: value
        for key, value in lists.items()
        if re.search(r"layer|idxs|indices", key)
        and all(type(item) is int and 0 <= item < depth for item in value)
        and len(set(value)) == len(value)
    }
    listed = {k: v for k, v in lists.items() if len(v) == depth and k not in numbers}
    kinds = [
        (
            *(repr(value[layer]) for value in listed.values()),
            *(layer in value for value in numbers.values()),
        )
        for layer in range(depth)
    ]
    chosen = sorted({kinds.index(kind) for kind in kinds})
    if len(chosen) < 2:
        chosen = list(range(min(2, depth)))
    shared = old.get("num_kv_shared_layers") or 0
    if shared:  # the last layers use the keys of earlier layers of their kind
        chosen = chosen * 2
        _set(config, "num_kv_shared_layers", len(chosen) // 2)
    dense = next((k for k in ("first_k_dense_replace", "num_dense_layers") if old.get(k)), None)
    if dense is not None:
        kept = sum(layer < old[dense] for layer in chosen)
        _set(config, dense, kept if shared or listed else 1)
    for key, value in listed.items():
        _set(config, key, type(value)(value[layer] for layer in chosen))
    for key, value in numbers.items():
        _set(config, key, [place for place, layer in enumerate(chosen) if layer in value])
    for key in _PERIODS:
        if isinstance(old.get(key), int) and old[key] > 1:
            _set(config, key, 2)
            offset = key.replace("period", "offset")
            if offset in old:
                _set(config, offset, 1 if old[offset] else 0)
    pattern = old.get("block_types")
    layers = max(len(chosen), len(pattern) if isinstance(pattern, list | tuple) else 0)
    for key in _LAYERS:
        if isinstance(old.get(key), int):
            _set(config, key, layers)
    attention = old.get("attention_types")
    if isinstance(attention, list):  # GPT-Neo: [[kinds, how often], …] beside the list of layers
        kinds_now = list(vars(config).get("attention_layers", ()))
        _set(config, "attention_types", [[kinds_now, 1]])


def _token(key: str, value: Any) -> Any:
    if value is None:
        return None
    small = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}.get(key, 3)
    return [small] if isinstance(value, list) else small


def _set(config: Any, key: str, value: Any) -> None:
    if vars(config).get(key) != value:
        setattr(config, key, value)
