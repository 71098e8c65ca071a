"""Will a team work here? Facts from configuration files, tokenizers and weight headers. No weights
are loaded; those that take no time to read are looked through for NaN and infinity.

Memory is what the weights take in the precision they are loaded in, plus the keys and values of one
answer, against what is free now; activations and the allocator's slack come on top.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from taketurns.checkpoints.safetensors_metadata import (
    TensorInfo,
    local_adapter_files,
    local_files,
    read_adapter_tensors,
    read_gguf_tensors,
    read_tensors,
)
from taketurns.checkpoints.text import TextCodec
from taketurns.config.team_config import EngineConfig, TeamConfig
from taketurns.errors import ConfigError, PromptError, concerning, one_line
from taketurns.generation.team import SWITCHER, Team
from taketurns.switchers import candidate_order
from taketurns.switchers.head import Head, describe_blind, describe_labels
from taketurns.types import ModelSpec, Query

PROMPT_TOKENS = 512  # what the estimate of an answer's memory allows for its prompt
TOGETHER = "all devices together"
UNKNOWN = "found out when it is loaded"
REFUSED = "refused"

# What loading in fewer bits leaves of a linear layer's number, its share of the scales included.
_BYTES_QUANTISED = {"load_in_4bit": 0.5 + 4 / 64, "load_in_8bit": 1.0}
_BYTES_QUANTO = {"int8": 1.0, "float8": 1.0, "int4": 0.5 + 8 / 128, "int2": 0.25 + 8 / 128}
_BYTES_TORCHAO = {"Int8": 1.0, "Float8": 1.0, "Int4": 0.5 + 8 / 128}
# What quantised weights need beside transformers: a module, and what it is installed as.
_QUANTISERS = {
    "bitsandbytes": ("bitsandbytes", "bitsandbytes"),
    "torchao": ("torchao", "torchao"),
    "quanto": ("optimum.quanto", "optimum-quanto"),
    "compressed-tensors": ("compressed_tensors", "compressed-tensors"),
    "gptq": ("gptqmodel", "gptqmodel"),
    "awq": ("gptqmodel", "gptqmodel"),
    "hqq": ("hqq", "hqq"),
}
_NOT_LINEAR = ("embed", "wte", "wpe", "lm_head")
_SPREADING = ("auto", "balanced", "balanced_low_0", "sequential")


@dataclass(frozen=True, slots=True)
class ModelReport:
    """One model. Bytes and parameters are None where no header could be read; `problem` is why it
    cannot be used, None where it can; `unread_bytes` of weights were too many to be looked through
    for NaN. `way` is how it is run between its turns and `why` why it is no faster one: what its
    last load has found, or else what its architecture allows. `inexact` is why its answers may
    depend on what else is in the batch, None where its kind does not say so."""

    name: str
    model: str
    device: str
    dtype: str
    parameters: int | None
    weight_bytes: int | None
    shares_weights: bool
    kv_bytes_per_token: int
    context: int
    prompt: str
    tokenizer: str
    problem: str | None = None
    inexact: str | None = None
    note: str | None = None
    unread_bytes: int = 0
    way: str = UNKNOWN
    why: str = ""


@dataclass(frozen=True, slots=True)
class MemoryReport:
    """What a device must hold, and what is free on it now, in bytes; `problem` is why it cannot be
    used."""

    device: str
    weight_bytes: int
    kv_bytes_per_answer: int
    free_bytes: int
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class TeamReport:
    """`exact`: token ids are handed from speaker to speaker, otherwise the exact text. `switcher`
    says who decides."""

    models: tuple[ModelReport, ...]
    memory: tuple[MemoryReport, ...]
    answer_tokens: int
    exact: bool
    switcher: str
    problems: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def fits(self) -> bool:
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        return {"fits": self.fits, **asdict(self)}

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table = Table(box=None, pad_edge=False)
        for column in ("model", "weights", "precision", "context", "prompt", "between turns"):
            table.add_column(column)
        for model in self.models:
            size = "shared" if model.shares_weights else readable(model.weight_bytes)
            where = f"{model.dtype} on {model.device}"
            table.add_row(model.name, size, where, str(model.context), model.prompt, model.way)
        yield table
        yield ""
        for part in self.memory:
            yield Text(
                f"memory    {readable(part.weight_bytes)} of weights and "
                f"{readable(part.kv_bytes_per_answer)} for each answer of {self.answer_tokens} "
                f"tokens, prompt included; {readable(part.free_bytes)} free on {part.device}"
            )
        handed = "token ids" if self.exact else "exact text, since their tokenizers differ"
        yield Text(f"hand-over {handed}")
        yield Text(f"switcher  {self.switcher}")
        yield from (Text(f"note      {note}", "yellow") for note in self.notes)
        yield from (Text(f"problem   {problem}", "red") for problem in self.problems)
        yield Text("it fits" if self.fits else "it does not fit", "bold")


async def inspect_team(config: TeamConfig, *, numbers: bool = False) -> TeamReport:
    """Look at a team before it is loaded. Raises ConfigError where it cannot be."""
    team = Team.load(config)
    specs = [(candidate.name, candidate.spec) for candidate in config.candidates]
    if config.switcher.spec is not None:
        specs.append((SWITCHER, config.switcher.spec))
    if config.judge is not None:
        specs.append((config.judge.name, config.judge.spec))
    models = tuple(_inspect_models(specs, config.engine, numbers=numbers))
    if config.switcher.spec is not None:
        digits = f"tagged trace, 0 to {len(config.candidates) - 1} are one token each"
        at = len(config.candidates)
        models = (*models[:at], replace(models[at], prompt=digits), *models[at + 1 :])
    problems = [f"{model.name}: {model.problem}" for model in models if model.problem is not None]
    try:
        await team.check_prompt(Query(id="check", text="?"))
    except PromptError as error:
        problems.append(str(error))
    finally:
        await team.aclose()
    tokens = config.policy.max_tokens + PROMPT_TOKENS
    memory = tuple(_memory(models, tokens, config.engine.deterministic))
    for part in memory:
        if part.problem is not None:
            problems.append(part.problem)
        elif part.weight_bytes + part.kv_bytes_per_answer > part.free_bytes:
            need = readable(part.weight_bytes + part.kv_bytes_per_answer)
            free = readable(part.free_bytes)
            problems.append(f"{part.device} needs {need} and has {free} free")
    for name, spec in specs:
        if spec.adapter is not None and find_spec("peft") is None:
            problems.append(f"{name} has an adapter: pip install 'taketurns[train]'")
    candidates = models[: len(config.candidates)]
    return TeamReport(
        models=models,
        memory=memory,
        answer_tokens=tokens,
        exact=len({model.tokenizer for model in candidates}) == 1,
        switcher=describe_switcher(config),
        problems=tuple(problems),
        notes=(*_notes(models, config.policy.max_tokens), *_switcher_notes(config)),
    )


def describe_switcher(config: TeamConfig) -> str:
    """Who decides, in a few words."""
    switcher, names = config.switcher, [candidate.name for candidate in config.candidates]
    if switcher.kind == "fixed":
        return f"fixed: {', '.join(names[index] for index in switcher.sequence)}, repeated"
    if switcher.kind == "lm":
        own = candidate_order.resolve(switcher)
        numbered = ", ".join(f"{number} is {name}" for number, name in enumerate(own or names))
        whose = "" if own else ": the team's order, since nothing says another"
        return f"a language model that reads the tagged trace, where {numbered}{whose}"
    if switcher.kind == "folded":
        return "a head in the candidates' own output matrices, read with each patch"
    if switcher.path is not None:
        head = Head.load(switcher.path)
        whose = "whoever spoke last" if head.config.mode == "speaker" else head.config.reader
        learned = describe_labels(head.config)
        more = f"; {learned}" if learned else ""
        return f"a linear head of {head.numbers:,} numbers on hidden states of {whose}{more}"
    return "random: every candidate is as probable as any other"


def _switcher_notes(config: TeamConfig) -> Iterator[str]:
    if config.switcher.kind != "head" or config.switcher.path is None:
        return
    if (said := describe_blind(Head.load(config.switcher.path))) is not None:
        yield f"switcher: {said}"


def readable(size: int | None) -> str:
    """Bytes for people."""
    if size is None:
        return "unknown"
    value, units = float(size), ["B", "KiB", "MiB", "GiB", "TiB"]
    while value >= 1024 and len(units) > 1:
        value /= 1024
        units.pop(0)
    return f"{value:.1f} {units[0]}" if units[0] != "B" else f"{size} B"


def _notes(models: Sequence[ModelReport], longest: int) -> Iterator[str]:
    from taketurns.engines.local.modes import Way

    for model in models:
        if model.why and model.problem is None:
            yield f"{model.name} {Way(model.way).costs}, since {model.why}"
        if model.weight_bytes is None and model.problem is None:
            why = "they are no safetensors" if Path(model.model).is_dir() else "not downloaded yet"
            yield f"{model.name}: the size of its weights is unknown: {why}"
        if model.unread_bytes:
            yield (
                f"{model.name}: its {readable(model.unread_bytes)} of weights were not looked "
                "through for NaN and infinity: --weights does it, and so does loading"
            )
        if model.note is not None:
            yield f"{model.name}: {model.note}"
        if model.prompt == "bare text":
            yield f"{model.name}: no chat template and no prompt, so it continues the bare question"
        if model.inexact is not None:
            yield (
                f"{model.name}: {model.inexact}, so where two tokens are nearly as probable, its "
                "answers may depend on what else is in the batch"
            )
        if model.context <= max(PROMPT_TOKENS, longest):
            yield (
                f"{model.name}: a context of {model.context} tokens is short: the prompt and an "
                f"answer of up to {longest} tokens (policy.max_tokens) share it, and the answer "
                "ends where it is full"
            )


def _memory(
    models: Sequence[ModelReport], tokens: int, deterministic: bool | None
) -> Iterator[MemoryReport]:
    from taketurns.engines.local import batch_invariant as exact
    from taketurns.engines.local.memory import answer_bytes

    spread = any(model.device == TOGETHER for model in models)
    for device in [TOGETHER] if spread else dict.fromkeys(model.device for model in models):
        here = [model for model in models if spread or model.device == device]
        sizes = [model.kv_bytes_per_token for model in here]
        exactly = any(
            exact.wanted(deterministic, model.device, model.dtype, model.inexact) for model in here
        )
        free, problem = _free_bytes(device)
        yield MemoryReport(
            device=device,
            weight_bytes=sum(m.weight_bytes or 0 for m in here if not m.shares_weights),
            kv_bytes_per_answer=answer_bytes(tokens, sizes, exactly),
            free_bytes=free,
            problem=problem,
        )


def _free_bytes(device: str) -> tuple[int, str | None]:
    """What is free on a device, and why it cannot be used."""
    import torch

    from taketurns.engines.local.memory import free_bytes

    parts = [device]
    if device == TOGETHER:
        parts = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
    try:
        return sum(map(free_bytes, parts)), None
    except (AssertionError, RuntimeError) as error:
        return 0, f"{device} cannot be used here: {one_line(error)}"


def _inspect_models(
    specs: Sequence[tuple[str, ModelSpec]], engine: EngineConfig, *, numbers: bool
) -> Iterator[ModelReport]:
    from taketurns.engines.local.loading import base_of

    seen: set[str] = set()
    for name, spec in specs:
        with concerning(name):
            shares = base_of(spec) in seen
            yield _inspect(name, spec, engine, shares_weights=shares, numbers=numbers)
        seen.add(base_of(spec))


def _inspect(
    name: str, spec: ModelSpec, engine: EngineConfig, *, shares_weights: bool, numbers: bool
) -> ModelReport:
    from taketurns.checkpoints.model_config import context_length, read_config
    from taketurns.engines.local.adapters import check_adapter
    from taketurns.engines.local.batch_invariant import refusal
    from taketurns.engines.local.completeness import find_fault
    from taketurns.engines.local.loading import choose_device, choose_dtype
    from taketurns.engines.local.modes import Way

    context = context_length(spec)
    codec = TextCodec.load(spec)
    whole: Any = read_config(spec)
    config = whole.get_text_config()
    dtype = choose_dtype(spec.dtype, choose_device(spec.device))
    if dtype == "auto":
        dtype = getattr(config, "dtype", None) or choose_dtype("float32", "cpu")
    tensors, problem = None, None
    try:
        tensors = _tensors(spec)
        problem = find_fault(spec, tensors) if tensors and spec.gguf_file is None else None
        if spec.adapter is not None and find_spec("peft") is not None:
            check_adapter(spec)
        unread = 0 if problem else _look_through(spec, every=numbers, base=not shares_weights)
    except ConfigError as error:
        problem, unread = str(error), 0
    quantised = spec.quantization_config or getattr(whole, "quantization_config", None)
    if problem is None and quantised is not None and (missing := _missing_package(quantised)):
        problem = f"its weights are in fewer bits: pip install {missing}"
    stored = getattr(whole, "quantization_config", None) is not None
    inexact = _inexact(spec, whole)
    way, why, refused = _way(spec, whole, dtype, engine, inexact)
    if engine.deterministic and inexact is not None:
        refused = refusal(name, inexact)
    kept = way in (Way.KEPT, UNKNOWN)
    return ModelReport(
        name=name,
        model=spec.model,
        device=_place(spec),
        dtype=str(dtype).removeprefix("torch."),
        parameters=sum(tensor.numbers for tensor in tensors) if tensors else None,
        weight_bytes=(
            _loaded_bytes(tensors, spec, dtype.itemsize, stored=stored) if tensors else None
        ),
        shares_weights=shares_weights,
        kv_bytes_per_token=_kv_numbers(config) * dtype.itemsize if kept else 0,
        context=context,
        prompt=_prompt(spec, codec),
        tokenizer=codec.fingerprint,
        inexact=inexact,
        note=codec.note,
        problem=problem or refused,
        unread_bytes=unread,
        way=way,
        why=why,
    )


def _look_through(spec: ModelSpec, *, every: bool, base: bool) -> int:
    """Read the weights for NaN and infinity, of the `base` model too, if that is quick or `every`
    one is to be read; how many bytes were left unread. Raises ConfigError for such weights."""
    from taketurns.engines.local.finite_weights import check_files
    from taketurns.engines.local.loading import SHORT_LOAD

    if spec.adapter is not None:
        check_files(local_adapter_files(spec.adapter), f"the adapter {spec.adapter!r}")
    if not base or spec.gguf_file is not None:  # numbers of a GGUF file are looked at in loading
        return 0
    files = local_files(spec.model, spec.revision)
    size = sum(file.stat().st_size for file in files)
    if size > SHORT_LOAD and not every:
        return size
    check_files(files, f"the model {spec.model!r}")
    return 0


def _inexact(spec: ModelSpec, config: Any) -> str | None:
    from taketurns.engines.local import batch_invariant as exact

    if spec.quantization_config is not None:
        config = copy(config)
        config.quantization_config = spec.quantization_config
    return exact.obstacle(config)


def _way(
    spec: ModelSpec, config: Any, dtype: Any, engine: EngineConfig, inexact: str | None
) -> tuple[str, str, str | None]:
    """How a model will be run, why no faster, and why it cannot be."""
    from transformers import AutoModelForCausalLM

    from taketurns.engines.local import batch_invariant as exact
    from taketurns.engines.local.equivalence_records import ProofRecords, default_folder
    from taketurns.engines.local.loading import choose_device
    from taketurns.engines.local.mode_selection import foresee, refusal
    from taketurns.engines.local.modes import Running

    device = choose_device(spec.device)
    wanted = exact.wanted(engine.deterministic, device, dtype, inexact)
    try:
        model_class = AutoModelForCausalLM._model_mapping[type(config)]
        found = foresee(
            spec,
            model_class,
            config,
            dtype=dtype,
            device=device,
            running=Running(wanted, engine.max_batch),
            records=ProofRecords(default_folder()),
        )
    except (
        KeyError,
        AssertionError,
        RuntimeError,
    ):  # code of its own, or a device that is not here
        return UNKNOWN, "", None
    if found.way is None:
        return REFUSED, found.why, refusal(spec.model, model_class.__name__, found.why)
    return found.way, found.why, None


def _place(spec: ModelSpec) -> str:
    """Where a model goes: a device, or all of them together."""
    import torch

    from taketurns.engines.local.loading import choose_device

    where = spec.device_map
    if where is None:
        return choose_device(spec.device)
    places = set(where.values()) if isinstance(where, dict) else {where}
    if len(places) > 1 or places & {*_SPREADING, "disk"}:
        return TOGETHER if torch.cuda.is_available() else choose_device("auto")
    (place,) = places
    return f"cuda:{place}" if isinstance(place, int) else str(place)


def _loaded_bytes(
    tensors: Sequence[TensorInfo], spec: ModelSpec, itemsize: int, *, stored: bool
) -> int:
    """What the weights take once they are loaded. What is `stored` in fewer bits stays so, the rest
    becomes what is asked for; other ways of loading in fewer bits than are known here are counted
    as stored, which is more than they take."""
    linear = None if stored else _bytes_quantised(spec)
    if spec.quantization_config is not None and linear is None and not stored:
        return sum(tensor.stored_bytes for tensor in tensors)
    size = 0.0
    for tensor in tensors:
        matrix = len(tensor.shape) == 2 and not any(word in tensor.name for word in _NOT_LINEAR)
        if not tensor.floating:
            size += tensor.stored_bytes
        else:
            size += tensor.numbers * (linear if linear is not None and matrix else itemsize)
    return int(size)


def _bytes_quantised(spec: ModelSpec) -> float | None:
    """The bytes of a linear layer's number, where loading changes them in a known way."""
    settings = spec.quantization_config or {}
    if settings.get("quant_method") == "quanto":
        return _BYTES_QUANTO.get(settings.get("weights", "int8"))
    if settings.get("quant_method") == "torchao":
        kind = str(settings.get("quant_type"))
        return next((size for key, size in _BYTES_TORCHAO.items() if f"{key}Weight" in kind), None)
    return next((size for key, size in _BYTES_QUANTISED.items() if settings.get(key)), None)


def _missing_package(quantised: Any) -> str | None:
    """What has to be installed to load weights that are quantised so, None where nothing has."""
    settings = quantised if isinstance(quantised, Mapping) else quantised.to_dict()
    method = settings.get("quant_method")
    if method is None:
        method = "bitsandbytes" if any(map(settings.get, _BYTES_QUANTISED)) else ""
    module, package = _QUANTISERS.get(str(getattr(method, "value", method)), ("", ""))
    try:
        return package if module and find_spec(module) is None else None
    except ModuleNotFoundError:  # of the package that the module is in
        return package


def _tensors(spec: ModelSpec) -> list[TensorInfo] | None:
    if spec.gguf_file is not None:
        return read_gguf_tensors(spec)
    return read_tensors(spec.model, spec.revision)


def weight_bytes(spec: ModelSpec) -> int | None:
    """What the weights take as they are stored, from their headers; None if unknown. Raises
    ConfigError where they are not whole."""
    tensors = _tensors(spec)
    return sum(tensor.stored_bytes for tensor in tensors) if tensors else None


def parameters(spec: ModelSpec) -> int | None:
    """How many there are, an adapter's among them, from the headers of the weights; None if
    unknown. Raises ConfigError where they are not whole."""
    of_model = _tensors(spec)
    of_adapter = read_adapter_tensors(spec.adapter) if spec.adapter else None
    if not of_model:
        return None
    return sum(tensor.numbers for tensor in [*of_model, *(of_adapter or [])])


def _prompt(spec: ModelSpec, codec: TextCodec) -> str:
    if spec.prompt is not None:
        return "plain prompt"
    return "chat template" if codec.tokenizer.chat_template is not None else "bare text"


def _kv_numbers(config: Any) -> int:
    """How many numbers a token's keys and values are."""
    heads = getattr(config, "num_attention_heads", None)
    if heads is None:  # it has no attention
        return 0
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    kv_heads = getattr(config, "num_key_value_heads", None) or heads
    return int(2 * config.num_hidden_layers * kv_heads * width)
