"""Will a team work here? Facts from configuration files, tokenizers and weight headers, no weights.

Memory is what the weights take in the precision they are loaded in, plus the keys and values of one
answer, against what is free now; activations and the allocator's slack come on top.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from taketurns import naming
from taketurns.config import TeamConfig
from taketurns.errors import PromptError
from taketurns.heads import Head
from taketurns.team import SWITCHER, Team
from taketurns.text import TextCodec
from taketurns.types import ModelSpec, Query

PROMPT_TOKENS = 512  # what the estimate of an answer's memory allows for its prompt

_SIZES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "I16": 2}


@dataclass(frozen=True, slots=True)
class ModelReport:
    """One model. Bytes and parameters are None where no header could be read."""

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


@dataclass(frozen=True, slots=True)
class MemoryReport:
    """What a device must hold, and what is free on it now, in bytes."""

    device: str
    weight_bytes: int
    kv_bytes_per_answer: int
    free_bytes: int


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
        for column in ("model", "weights", "precision", "context", "prompt"):
            table.add_column(column)
        for model in self.models:
            size = "shared" if model.shares_weights else readable(model.weight_bytes)
            where = f"{model.dtype} on {model.device}"
            table.add_row(model.name, size, where, str(model.context), model.prompt)
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


async def inspect_team(config: TeamConfig) -> TeamReport:
    """Look at a team before it is loaded. Raises ConfigError where it cannot be."""
    team = Team.load(config)
    specs = [(candidate.name, candidate.spec) for candidate in config.candidates]
    if config.switcher.spec is not None:
        specs.append((SWITCHER, config.switcher.spec))
    if config.judge is not None:
        specs.append((config.judge.name, config.judge.spec))
    models = tuple(_inspect_models(specs))
    if config.switcher.spec is not None:
        numbers = f"tagged trace, 0 to {len(config.candidates) - 1} are one token each"
        at = len(config.candidates)
        models = (*models[:at], replace(models[at], prompt=numbers), *models[at + 1 :])
    problems: list[str] = []
    try:
        await team.check_prompt(Query(id="check", text="?"))
    except PromptError as error:
        problems.append(str(error))
    finally:
        await team.aclose()
    tokens = config.policy.max_tokens + PROMPT_TOKENS
    memory = tuple(_memory(models, tokens))
    for part in memory:
        if part.weight_bytes + part.kv_bytes_per_answer > part.free_bytes:
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
        notes=tuple(_notes(models)),
    )


def describe_switcher(config: TeamConfig) -> str:
    """Who decides, in a few words."""
    switcher, names = config.switcher, [candidate.name for candidate in config.candidates]
    if switcher.kind == "fixed":
        return f"fixed: {', '.join(names[index] for index in switcher.sequence)}, repeated"
    if switcher.kind == "lm":
        own = naming.known(switcher)
        numbered = ", ".join(f"{number} is {name}" for number, name in enumerate(own or names))
        whose = "" if own else ": the team's order, since nothing says another"
        return f"a language model that reads the tagged trace, where {numbered}{whose}"
    if switcher.kind == "folded":
        return "a head in the candidates' own output matrices, read with each patch"
    if switcher.path is not None:
        head = Head.load(switcher.path)
        whose = "whoever spoke last" if head.config.mode == "speaker" else head.config.reader
        return f"a linear head of {head.numbers:,} numbers on hidden states of {whose}"
    return "random: every candidate is as probable as any other"


def readable(size: int | None) -> str:
    """Bytes for people."""
    if size is None:
        return "unknown"
    value, units = float(size), ["B", "KiB", "MiB", "GiB", "TiB"]
    while value >= 1024 and len(units) > 1:
        value /= 1024
        units.pop(0)
    return f"{value:.1f} {units[0]}" if units[0] != "B" else f"{size} B"


def _notes(models: Sequence[ModelReport]) -> Iterator[str]:
    for model in models:
        if model.weight_bytes is None:
            yield f"{model.name}: the size of its weights is unknown until they are downloaded"
        if model.prompt == "bare text":
            yield f"{model.name}: no chat template and no prompt, so it continues the bare question"
        if model.context <= PROMPT_TOKENS:
            yield f"{model.name}: a context of {model.context} tokens is short"


def _memory(models: Sequence[ModelReport], tokens: int) -> Iterator[MemoryReport]:
    from taketurns.engines.memory import free_bytes

    for device in dict.fromkeys(model.device for model in models):
        here = [model for model in models if model.device == device]
        sizes = [model.kv_bytes_per_token for model in here]
        yield MemoryReport(
            device=device,
            weight_bytes=sum(m.weight_bytes or 0 for m in here if not m.shares_weights),
            # Every model keeps the answer, and the one that writes works on a copy.
            kv_bytes_per_answer=tokens * (sum(sizes) + max(sizes)),
            free_bytes=free_bytes(device),
        )


def _inspect_models(specs: Sequence[tuple[str, ModelSpec]]) -> Iterator[ModelReport]:
    seen: set[str] = set()
    for name, spec in specs:
        base = repr((spec.model, spec.revision, spec.dtype, spec.device, spec.device_map))
        yield _inspect(name, spec, shares_weights=base in seen)
        seen.add(base)


def _inspect(name: str, spec: ModelSpec, *, shares_weights: bool) -> ModelReport:
    from transformers import AutoConfig

    from taketurns.engines.facts import context_length
    from taketurns.engines.loading import choose_device, choose_dtype

    context = context_length(spec)
    codec = TextCodec.load(spec)
    config: Any = AutoConfig.from_pretrained(
        spec.model, revision=spec.revision, trust_remote_code=spec.trust_remote_code
    ).get_text_config()
    device = choose_device(spec.device)
    dtype = choose_dtype(spec.dtype, device)
    if dtype == "auto":
        dtype = getattr(config, "dtype", None) or choose_dtype("float32", device)
    quantised = spec.quantization_config is not None
    tensors = list(_tensors(spec.model, spec.revision)) or None
    weights = tensors and sum(
        n * (_SIZES.get(t, 1) if quantised else dtype.itemsize) for t, n in tensors
    )
    return ModelReport(
        name=name,
        model=spec.model,
        device=device,
        dtype=str(dtype).removeprefix("torch."),
        parameters=tensors and sum(n for _, n in tensors),
        weight_bytes=weights,
        shares_weights=shares_weights,
        kv_bytes_per_token=_kv_numbers(config) * dtype.itemsize,
        context=context,
        prompt=_prompt(spec, codec),
        tokenizer=codec.fingerprint,
    )


def weight_bytes(spec: ModelSpec) -> int | None:
    """What the weights take as they are stored, from their headers; None if unknown."""
    return (
        sum(count * _SIZES.get(kind, 1) for kind, count in _tensors(spec.model, spec.revision))
        or None
    )


def parameters(spec: ModelSpec) -> int | None:
    """How many there are, an adapter's among them, from the headers of the weights; None if
    unknown."""
    of_model = sum(count for _, count in _tensors(spec.model, spec.revision))
    of_adapter = sum(count for _, count in _tensors(spec.adapter, None)) if spec.adapter else 0
    return of_model + of_adapter if of_model else None


def _prompt(spec: ModelSpec, codec: TextCodec) -> str:
    if spec.prompt is not None:
        return "plain prompt"
    return "chat template" if codec.tokenizer.chat_template is not None else "bare text"


def _kv_numbers(config: Any) -> int:
    """How many numbers a token's keys and values are."""
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    kv_heads = getattr(config, "num_key_value_heads", None) or heads
    return int(2 * config.num_hidden_layers * kv_heads * width)


def _tensors(model: str, revision: str | None) -> Iterator[tuple[str, int]]:
    """Type and size of every tensor, from the headers alone; none where there are no headers."""
    folder = _snapshot(model, revision)
    for file in sorted(folder.glob("*.safetensors")) if folder is not None else ():
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(length))
        for key, tensor in header.items():
            if key != "__metadata__":
                yield tensor["dtype"], prod(tensor["shape"])
    if folder is None:
        yield from _hub_tensors(model, revision)


def _snapshot(model: str, revision: str | None) -> Path | None:
    """The folder of a local model, or of a hub model whose weights are in the cache."""
    if Path(model).is_dir():
        return Path(model)
    from huggingface_hub import try_to_load_from_cache

    for file in ("model.safetensors", "model.safetensors.index.json"):
        found = try_to_load_from_cache(model, file, revision=revision)
        if isinstance(found, str):
            return Path(found).parent
    return None


def _hub_tensors(model: str, revision: str | None) -> Iterator[tuple[str, int]]:
    import httpx
    from huggingface_hub import get_safetensors_metadata
    from huggingface_hub.errors import (
        HfHubHTTPError,
        NotASafetensorsRepoError,
        OfflineModeIsEnabled,
    )

    try:
        metadata = get_safetensors_metadata(model, revision=revision)
    except (
        HfHubHTTPError,
        NotASafetensorsRepoError,
        OfflineModeIsEnabled,
        httpx.HTTPError,
        OSError,
    ):
        return  # reported as unknown
    for dtype, count in metadata.parameter_count.items():
        yield str(dtype), int(count)
