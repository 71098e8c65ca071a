"""Adapters (PEFT): check that an adapter fits its model, and load it onto the model.

PEFT may leave weights of an adapter at random values, ignore some, or overwrite weights of the
model. All these cases are refused, because other candidates share the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from taketurns.checkpoints import hub
from taketurns.checkpoints.diagnosis import ADAPTER as WHAT
from taketurns.checkpoints.model_config import ADAPTER, read_config
from taketurns.checkpoints.safetensors_metadata import TensorInfo, read_adapter_tensors
from taketurns.engines.local.completeness import empty_model
from taketurns.engines.local.library_logging import asked_by_an_old_name, quiet
from taketurns.engines.local.lora_rows import obstacle
from taketurns.errors import ConfigError
from taketurns.types import ModelSpec
from taketurns.utils.extras import install_command, installed

_INSIDE = "base_model.model."  # PEFT's prefix of the names of the model's own modules
_MERGE = "merge it into a new checkpoint (merge_and_unload) and use that as the model"


def put_on(
    model: Any,
    adapter: str,
    name: str,
    peft: Any = None,
    *,
    trainable: bool = False,
    shared: bool = False,
) -> Any:
    """Load an adapter onto a model under a name, beside the adapters of `peft` if there are any.
    Returns the PEFT model, whose layers are now part of `model` itself. `shared`: others use the
    model without the adapter. Raises ConfigError."""
    if not installed("peft"):
        raise ConfigError(f"a LoRA adapter needs peft: {install_command('peft')}")
    from peft import MODEL_TYPE_TO_PEFT_MODEL_MAPPING, PeftConfig, PeftModel

    require_adapter(adapter)
    with hub.loading(WHAT, adapter) as where:
        config = PeftConfig.from_pretrained(adapter, **where)
        tensors = read_adapter_tensors(adapter) or ()
        _require_fit(model, adapter, config, tensors)
        before = _own_weights(model, config, tensors) if shared else []
        if peft is None:
            config.inference_mode = not trainable
            kind = MODEL_TYPE_TO_PEFT_MODEL_MAPPING.get(config.task_type, PeftModel)
            with asked_by_an_old_name():
                peft = kind(model, config, adapter_name=name)
        report = peft.load_adapter(adapter, adapter_name=name, is_trainable=trainable, **where)
    _require_all(adapter, report.missing_keys, report.unexpected_keys)
    for key, weight, was in before:
        if not weight.equal(was):
            _refuse(adapter, f"it changes the model's own {key}, which others share: {_MERGE}")
    return peft


def require_adapter(adapter: str) -> None:
    """Raise ConfigError if this is not an adapter."""
    if hub.fetch(WHAT, adapter, ADAPTER) is None:
        if hub.fetch(WHAT, adapter, "config.json") is not None:
            _refuse(adapter, "it is a whole model: write it under model, and remove adapter")
        _refuse(adapter, f"it has no {ADAPTER}, so it is not an adapter: correct adapter")


def check_adapter(spec: ModelSpec) -> str | None:
    """Raise ConfigError for an adapter that cannot be loaded onto its model; reads only headers.
    Returns why its rows cannot share forwards with those of others on the model, as a clause; None
    if they can, or if that is not known."""
    assert spec.adapter is not None, "only for a spec with an adapter"
    require_adapter(spec.adapter)
    tensors = read_adapter_tensors(spec.adapter)
    if not tensors:
        return None
    import torch
    from peft import PeftConfig, PeftModel, set_peft_model_state_dict

    whole = read_config(spec)
    empty = {tensor.name: torch.empty(tensor.shape, device="meta") for tensor in tensors}
    with hub.loading(WHAT, spec.adapter) as where, quiet():
        config = PeftConfig.from_pretrained(spec.adapter, **where)
        model = empty_model(spec, whole)
        _require_fit(model, spec.adapter, config, tensors)
        peft = PeftModel(model, config, adapter_name="check", low_cpu_mem_usage=True)
        report = set_peft_model_state_dict(
            peft, empty, adapter_name="check", low_cpu_mem_usage=True
        )
    # Ignore missing weights of the model itself: they do not belong to the adapter.
    missing = [key for key in report.missing_keys if ".check." in key]
    _require_all(spec.adapter, missing, report.unexpected_keys)
    return obstacle(model, "check", config)


def _require_fit(model: Any, adapter: str, config: Any, tensors: Sequence[TensorInfo]) -> None:
    """Raise ConfigError for an adapter that changes no weights, and for one that has weights of the
    model itself in another shape."""
    if config.is_prompt_learning or config.is_adaption_prompt:
        kind = config.peft_type.value
        _refuse(adapter, f"its kind {kind} puts tokens before a prompt: use a LoRA adapter")
    for name, weight, shape in _brought(model, config, tensors):
        if tuple(weight.shape) != shape:
            _refuse(
                adapter,
                f"it resized the model's {name} from {list(weight.shape)} to {list(shape)}: "
                f"{_MERGE}",
            )


def _own_weights(
    model: Any, config: Any, tensors: Sequence[TensorInfo]
) -> list[tuple[str, Any, Any]]:
    """The model's own weights that the adapter has too: names, the weights, copies of them."""
    return [
        (name, weight, weight.detach().clone())
        for name, weight, _ in _brought(model, config, tensors)
    ]


def _brought(
    model: Any, config: Any, tensors: Sequence[TensorInfo]
) -> Iterator[tuple[str, Any, tuple[int, ...]]]:
    from peft.mapping import PEFT_TYPE_TO_PREFIX_MAPPING

    prefix = PEFT_TYPE_TO_PREFIX_MAPPING[config.peft_type]
    weights = {_bare(name): weight for name, weight in model.named_parameters()}
    for tensor in tensors:
        name = _bare(tensor.name.removeprefix(_INSIDE))
        if prefix not in tensor.name and name in weights:
            yield name, weights[name], tensor.shape


def _bare(name: str) -> str:
    """A weight's name without the parts that adapters add."""
    return name.replace(".base_layer.", ".").replace(".original_module.", ".")


def _require_all(adapter: str, missing: Sequence[str], left_over: Sequence[str]) -> None:
    if missing:
        _refuse(adapter, f"its weights are incomplete: {missing[0]} is missing; save it again")
    if left_over:
        _refuse(
            adapter,
            f"it was trained on another model: this one has no {left_over[0].removeprefix(_INSIDE)}"
            "; write that model under model",
        )


def _refuse(adapter: str, reason: str) -> Any:
    raise ConfigError(f"cannot load {WHAT} {adapter!r}: {reason}")
