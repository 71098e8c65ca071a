"""Load weights from a path or the hub: each base model once, with any number of adapters on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from taketurns.checkpoints import gguf, hub
from taketurns.checkpoints.model_config import read_config, require_model
from taketurns.checkpoints.weight_files import fetch_first
from taketurns.engines.local.adapters import put_on
from taketurns.engines.local.completeness import require_complete
from taketurns.engines.local.finite_weights import check_weights
from taketurns.engines.local.lora_rows import LoraRows, obstacle
from taketurns.errors import CapacityError, ConfigError, TakeTurnsError, concerning, one_line
from taketurns.types import ModelSpec

SHORT_LOAD = 1 << 30  # bytes: loading fewer is quick, so it needs no progress bar


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model ready to run. `activate` selects its adapter; None if its weights are not shared.

    `rows` has the models on the same weights that may share a forward with it, and `adapter` its
    own adapter among them (None: it is the base). Without `rows` it runs alone, because of `apart`
    if it has an adapter (a clause)."""

    model: Any
    activate: Callable[[], None] | None
    rows: LoraRows | None = None
    adapter: str | None = None
    apart: str = ""

    def alone(self, why: str) -> LoadedModel:
        """The same model, whose rows share no forward with others'."""
        return replace(self, rows=None, adapter=None, apart=why)


class Weights:
    """The loaded weights of an engine. Specs that differ only in their adapter share them."""

    def __init__(self, specs: Mapping[str, ModelSpec]) -> None:
        self._specs = dict(specs)
        self._bases: dict[str, _Base] = {}
        self._loaded: dict[str, LoadedModel] = {}

    def load(self, name: str) -> LoadedModel:
        """Load a model by its name, or return the loaded one. Raises ConfigError or
        CapacityError."""
        if name not in self._loaded:
            spec = self._specs[name]
            with concerning(name):
                self._loaded[name] = self._load(name, spec, base_of(spec))
        return self._loaded[name]

    def _load(self, name: str, spec: ModelSpec, key: str) -> LoadedModel:
        if key not in self._bases:
            self._bases[key] = _Base(_to_run(spec))
        base = self._bases[key]
        shared = len(sharing(self._specs, name)) > 1
        if spec.adapter is not None:
            return base.add(name, spec.adapter, shared=shared)
        if not shared:
            return LoadedModel(base.model, None)
        return LoadedModel(base.model, base.rows.bare, base.rows)


def base_of(spec: ModelSpec) -> str:
    """A key that is equal for specs that share their weights."""
    return repr(
        replace(
            spec,
            adapter=None,
            tokenizer=None,
            tokenizer_revision=None,
            template=None,
            prompt=None,
        )
    )


def sharing(specs: Mapping[str, ModelSpec], name: str) -> tuple[str, ...]:
    """The models whose weights are those of this one, itself included; their adapters differ."""
    key = base_of(specs[name])
    return tuple(other for other, spec in specs.items() if base_of(spec) == key)


class _Base:
    """A base model and the LoRA adapters on it. In PEFT's own forward at most one is active;
    `rows` has those whose rows may share a forward."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.rows = LoraRows(model, partial(self.activate, None))
        self._peft: Any = None
        self._active: str | None = None

    def add(self, name: str, adapter: str, *, shared: bool) -> LoadedModel:
        with _memory_for(f"the adapter {adapter!r}"):
            known = _adapter_name(name)
            self._peft = put_on(self.model, adapter, known, self._peft, shared=shared)
        check_weights(self.model, f"the adapter {adapter!r}", only=f".{known}.")
        self._peft.requires_grad_(False).eval()
        self._active = name
        self.activate(name, force=True)
        loaded = LoadedModel(self.model, partial(self.activate, name), self.rows, known)
        why = obstacle(self.model, known, self._peft.peft_config[known])
        if why is not None:
            return loaded.alone(why)
        self.rows.join(known)
        return loaded

    def activate(self, name: str | None, force: bool = False) -> None:
        """Make an adapter the active one; None switches all off. Fast if nothing changes."""
        if self._peft is None or (name == self._active and not force):
            return
        if name is None:
            self._peft.base_model.disable_adapter_layers()
        else:
            self._peft.base_model.enable_adapter_layers()
            self._peft.base_model.set_adapter(_adapter_name(name), inference_mode=True)
        self._active = name


def _adapter_name(name: str) -> str:
    # A module name may not hold dots, and PEFT confuses names that occur inside "lora_".
    return "turn_" + "".join(c if c.isalnum() else "_" for c in name)


def pretrained(spec: ModelSpec, **settings: Any) -> Any:
    """Load a model with transformers, with `settings` as further arguments. When the model is
    saved, its original generation_config.json is kept. Raises ConfigError, also for incomplete
    weights, or CapacityError."""
    from transformers import AutoModelForCausalLM

    from taketurns.checkpoints.generation_config import keep_shipped

    for key in ("device_map", "quantization_config", "attn_implementation"):
        if (value := getattr(spec, key)) is not None:
            settings[key] = value
    if spec.gguf_file is not None:
        return _from_gguf(spec, settings)
    if spec.quantization_config is not None and spec.device_map is None:
        # Quantisation happens on the target device, and each library has another default.
        settings["device_map"] = {"": choose_device(spec.device)}
    with (
        hub.loading("the model", spec.model, spec.revision) as where,
        _memory_for(f"the model {spec.model!r}"),
    ):
        require_model(spec)
        fetch_first(spec.model, spec.revision)  # raises a clear error if the download fails
        with bar_if_long(spec.model):
            model, report = AutoModelForCausalLM.from_pretrained(
                spec.model,
                trust_remote_code=spec.trust_remote_code,
                ignore_mismatched_sizes=True,  # refused by name below
                output_loading_info=True,
                **settings,
                **where,
            )
        keep_shipped(model, spec)
    require_complete(spec.model, report)
    return model


def _from_gguf(spec: ModelSpec, settings: Mapping[str, Any]) -> Any:
    """Load the model in a GGUF file as an ordinary model: its weights are dequantised, so it can be
    trained and saved like any other. Raises ConfigError for an invalid file, or if its weights are
    not exactly those that transformers loads."""
    from transformers import AutoModelForCausalLM, GgufConfig

    from taketurns.checkpoints.generation_config import keep_shipped

    config, header = read_config(spec), gguf.read(spec)
    try:
        with _memory_for(f"the model {header.path}"):
            model, report = AutoModelForCausalLM.from_pretrained(
                str(header.path.parent),
                config=config,
                gguf_file=header.path.name,
                quantization_config=GgufConfig(dequantize=True),
                output_loading_info=True,
                **settings,
            )
    except TakeTurnsError:
        raise
    except Exception as error:  # any exception here is a fault of the file
        raise ConfigError(f"cannot load the model {header.path}: {one_line(error)}") from error
    require_complete(str(header.path), report)
    if (more := header.numbers(tied=config.tie_word_embeddings) - model.num_parameters()) > 0:
        raise ConfigError(
            f"{header.path} holds {more:,} numbers that transformers does not load into a "
            f"{config.model_type} model: use the checkpoint that the file was made from"
        )
    if header.end_token_ids:
        model.generation_config.eos_token_id = sorted(header.end_token_ids)
    keep_shipped(model, spec)
    return model


def _to_run(spec: ModelSpec) -> Any:
    device = choose_device(spec.device)
    model = pretrained(spec, dtype=choose_dtype(spec.dtype, device))
    if spec.device_map is None and spec.quantization_config is None:
        try:
            with _memory_for(f"the model {spec.model!r}"):
                model.to(device)
        except (AssertionError, RuntimeError) as error:  # no such device, or none here
            raise ConfigError(f"cannot load the model {spec.model!r}: {one_line(error)}") from error
    check_weights(model, f"the model {spec.model!r}")
    for config in (model.config, model.config.get_text_config()):
        if getattr(config, "output_router_logits", False):
            # Trainers leave this switch for their loss in config.json; generation must not use it.
            config.output_router_logits = False
    return model.requires_grad_(False).eval()


@contextmanager
def _memory_for(what: str) -> Iterator[None]:
    """Turn an out-of-memory error into CapacityError. Other errors are faults of the checkpoint or
    of the settings."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise CapacityError(
            f"no memory left to load {what}: use a smaller or quantised one ({one_line(error)})"
        ) from error


@contextmanager
def bar_if_long(model: str) -> Iterator[None]:
    """Let transformers show its progress bar only for large weights."""
    from transformers.utils import logging

    weights = sum(file.stat().st_size for file in Path(model).glob("*.safetensors"))
    drawn = logging.is_progress_bar_enabled()
    if 0 < weights < SHORT_LOAD:
        logging.disable_progress_bar()
    try:
        yield
    finally:
        if drawn:
            logging.enable_progress_bar()


def choose_device(wanted: str) -> str:
    """For "auto", the first available of cuda, mps and cpu; else the device itself."""
    if wanted != "auto":
        return wanted
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def choose_dtype(wanted: str, device: str) -> Any:
    """For "auto", float32 on a CPU, where it is exact and fast, and the checkpoint's own precision
    elsewhere. Raises ConfigError for an unknown name."""
    if wanted == "auto":
        return torch.float32 if device == "cpu" else "auto"
    dtype = getattr(torch, wanted, None)
    if not isinstance(dtype, torch.dtype):
        raise ConfigError(
            f"the dtype {wanted!r} is not one of torch's: write float32, bfloat16 or float16"
        )
    return dtype
