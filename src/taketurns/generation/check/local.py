"""Does a team work in this process? Facts from configuration files, tokenizers and weight headers.

No weights are loaded; weights that are quick to read are searched for NaN and infinity. The memory
needed is that of the weights, in the precision in which they are loaded, plus the keys and values
of one answer. It is compared with the memory free now; activations and the allocator's overhead
come on top.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from taketurns.checkpoints.model_config import context_length, read_config
from taketurns.checkpoints.safetensors_metadata import local_adapter_files, local_files
from taketurns.checkpoints.text import TextCodec
from taketurns.config.team_config import EngineConfig, TeamConfig
from taketurns.engines.local import batch_invariant, memory
from taketurns.engines.local.adapters import check_adapter
from taketurns.engines.local.completeness import find_fault
from taketurns.engines.local.equivalence_records import ProofRecords, default_folder
from taketurns.engines.local.finite_weights import check_files
from taketurns.engines.local.loading import (
    SHORT_LOAD,
    base_of,
    choose_device,
    choose_dtype,
    sharing,
)
from taketurns.engines.local.mode_selection import foresee, refusal
from taketurns.engines.local.modes import Running, Way
from taketurns.engines.local.placement import device_of
from taketurns.engines.local.reclaimable import is_elastic
from taketurns.errors import ConfigError, PromptError, concerning, one_line
from taketurns.generation.check.cache_size import cache_size
from taketurns.generation.check.report import (
    UNKNOWN_WAY,
    CheckReport,
    LocalModel,
    MemoryReport,
    readable,
)
from taketurns.generation.check.roles import describe_switcher, models_of, switcher_notes
from taketurns.generation.check.weights import (
    loaded_bytes,
    missing_package,
    model_tensors,
)
from taketurns.generation.team import Team
from taketurns.types import Candidate, ModelSpec, Query

PROMPT_TOKENS = 512  # tokens of the prompt in the estimate of an answer's memory
TOGETHER = "all devices together"
REFUSED = "refused"


async def inspect_team(config: TeamConfig, *, numbers: bool = False) -> CheckReport:
    """Inspect a team before it is loaded; `numbers` searches the weights of large models too.
    Raises ConfigError if the team cannot be loaded."""
    team = Team.load(config)
    specs = models_of(config)
    models = _with_forwards(_inspect_models(specs, config.engine, numbers=numbers), dict(specs))
    if config.switcher.kind == "lm":
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
    in_vllm = config.engine.kind == "vllm"
    needs = () if in_vllm else tuple(_memory(models, tokens, config.engine.deterministic))
    if in_vllm:
        problems += await asyncio.to_thread(_vllm_problems, config)
    for part in needs:
        if part.problem is not None:
            problems.append(part.problem)
        elif part.weight_bytes + part.kv_bytes_per_answer > part.free_bytes:
            need = readable(part.weight_bytes + part.kv_bytes_per_answer)
            free = readable(part.free_bytes)
            problems.append(
                f"the team needs {need} on {part.device}, which has {free} free: use smaller or "
                "quantised models, or another device"
            )
    for name, spec in specs:
        if spec.adapter is not None and find_spec("peft") is None and not in_vllm:
            problems.append(
                f"{name} has an adapter: pip install 'taketurns[train]', which has peft"
            )
    candidates = models[: len(config.candidates)]
    return CheckReport(
        models=models,
        memory=needs,
        answer_tokens=tokens,
        exact=len({model.tokenizer for model in candidates}) == 1,
        switcher=describe_switcher(config),
        problems=tuple(problems),
        notes=(*_notes(models, config.policy.max_tokens), *switcher_notes(config)),
    )


def _vllm_problems(config: TeamConfig) -> list[str]:
    from taketurns.generation.check.vllm import vllm_problems

    models = [Candidate(name, spec) for name, spec in models_of(config)]
    return list(vllm_problems(models, config.engine))


def _notes(models: Sequence[LocalModel], longest: int) -> Iterator[str]:
    names = [model.name for model in models]
    for model in models:
        if model.why and model.problem is None:
            yield f"{model.name} {Way(model.way).costs}, because {model.why}"
        others = model.in_forwards_with
        if others and names.index(model.name) < names.index(others[0]):
            together = f"{', '.join((model.name, *others[:-1]))} and {others[-1]}"
            yield f"{together} share each forward, because their base is the same"
        if model.apart and model.problem is None:
            yield f"{model.name} shares no forward with others on its base, because {model.apart}"
        if model.weight_bytes is None and model.problem is None:
            why = "not safetensors files" if Path(model.model).is_dir() else "not downloaded yet"
            yield f"{model.name}: the size of its weights is unknown: they are {why}"
        if model.unread_bytes:
            yield (
                f"{model.name}: its {readable(model.unread_bytes)} of weights were not searched "
                "for NaN and infinity; --weights searches them, and so does loading"
            )
        if model.note is not None:
            yield f"{model.name}: {model.note}"
        if model.prompt == "bare text":
            yield (
                f"{model.name}: it has no chat template and no plain prompt, so it continues the "
                "question's text itself; the key prompt sets a plain prompt"
            )
        if model.inexact is not None:
            yield (
                f"{model.name}: {model.inexact}, so if two tokens are nearly equally probable, its "
                "answers may depend on the other answers in the batch"
            )
        if model.context <= max(PROMPT_TOKENS, longest):
            yield (
                f"{model.name}: its context has only {model.context} tokens for the prompt and an "
                f"answer of up to {longest} tokens (policy.max_tokens); the answer ends when the "
                "context is full"
            )


def _memory(
    models: Sequence[LocalModel], tokens: int, deterministic: bool | None
) -> Iterator[MemoryReport]:
    spread = any(model.device == TOGETHER for model in models)
    for device in [TOGETHER] if spread else dict.fromkeys(model.device for model in models):
        here = [model for model in models if spread or model.device == device]
        free, problem = _free_bytes(device)
        yield MemoryReport(
            device=device,
            weight_bytes=sum(m.weight_bytes or 0 for m in here if not m.shares_weights),
            kv_bytes_per_answer=memory.answer_bytes(tokens, [model.cache for model in here]),
            free_bytes=free,
            problem=problem,
        )


def _free_bytes(device: str) -> tuple[int, str | None]:
    """The bytes free on a device, and why the device cannot be used, if it cannot."""
    parts = [device]
    if device == TOGETHER:
        parts = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
    try:
        return sum(map(memory.free_bytes, parts)), None
    except (AssertionError, RuntimeError) as error:
        return 0, f"{device} cannot be used here: {one_line(error)}"


def _with_forwards(
    models: Iterator[LocalModel], specs: Mapping[str, ModelSpec]
) -> tuple[LocalModel, ...]:
    """The same models, which say with whom each shares its forwards."""
    inspected = tuple(models)
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for model in inspected:
        if model.way == Way.KEPT and not model.apart and model.problem is None:
            groups[base_of(specs[model.name])].append(model.name)
    among = {name: names for names in groups.values() for name in names}
    return tuple(
        replace(
            model,
            in_forwards_with=tuple(n for n in among.get(model.name, ()) if n != model.name),
            apart=model.apart if len(sharing(specs, model.name)) > 1 else "",
        )
        for model in inspected
    )


def _inspect_models(
    specs: Sequence[tuple[str, ModelSpec]], engine: EngineConfig, *, numbers: bool
) -> Iterator[LocalModel]:
    seen: set[str] = set()
    for name, spec in specs:
        with concerning(name):
            shares = base_of(spec) in seen
            others = len(sharing(dict(specs), name)) - 1
            yield _inspect(
                name, spec, engine, shares_weights=shares, others=others, numbers=numbers
            )
        seen.add(base_of(spec))


def _inspect(
    name: str,
    spec: ModelSpec,
    engine: EngineConfig,
    *,
    shares_weights: bool,
    others: int,
    numbers: bool,
) -> LocalModel:
    context = context_length(spec)
    codec = TextCodec.load(spec)
    whole: Any = read_config(spec)
    config = whole.get_text_config()
    dtype = choose_dtype(spec.dtype, choose_device(spec.device))
    if dtype == "auto":
        dtype = getattr(config, "dtype", None) or choose_dtype("float32", "cpu")
    tensors, problem, obstacle = None, None, None
    try:
        tensors = model_tensors(spec)
        problem = find_fault(spec, tensors) if tensors and spec.gguf_file is None else None
        if spec.adapter is not None and find_spec("peft") is not None:
            obstacle = check_adapter(spec)
        unread = 0 if problem else _look_through(spec, every=numbers, base=not shares_weights)
    except ConfigError as error:
        problem, unread = str(error), 0
    quantised = spec.quantization_config or getattr(whole, "quantization_config", None)
    if problem is None and quantised is not None and (missing := missing_package(quantised)):
        problem = f"its quantised weights need the package {missing}: pip install {missing}"
    stored = getattr(whole, "quantization_config", None) is not None
    inexact = _inexact(spec, whole)
    apart = ""
    if engine.kind == "vllm":  # which batches as it does, and has its own caches
        way, why, refused, inexact = UNKNOWN_WAY, "", None, None
    else:
        shares = others < engine.max_batch
        way, why, refused, apart = _way(spec, whole, dtype, engine, inexact, shares=shares)
        if not shares:
            apart = f"engine.max_batch is less than the {others + 1} models on it"
        elif spec.adapter is not None and way == Way.KEPT:
            apart = apart or ("its base is quantised" if quantised else obstacle or "")
    if engine.deterministic and inexact is not None:
        refused = batch_invariant.refusal(name, inexact)
    cache = cache_size(
        whole,
        dtype,
        batch_invariant.wanted(engine.deterministic, _place(spec), dtype, inexact),
        is_elastic(_place(spec)),
    )
    return LocalModel(
        name=name,
        model=spec.model,
        device=_place(spec),
        dtype=str(dtype).removeprefix("torch."),
        parameters=sum(tensor.numbers for tensor in tensors) if tensors else None,
        weight_bytes=(
            loaded_bytes(tensors, spec, dtype.itemsize, stored=stored) if tensors else None
        ),
        shares_weights=shares_weights,
        cache=_kept(way, cache),
        context=context,
        prompt=_prompt(spec, codec),
        tokenizer=codec.fingerprint,
        inexact=inexact,
        note=codec.note,
        problem=problem or refused,
        unread_bytes=unread,
        way=way,
        why=why,
        apart=apart,
    )


def _kept(way: str, cache: memory.CacheSize) -> memory.CacheSize:
    """What a model keeps of an answer if it runs in a way: all of its cache, as much again for the
    padding of a batch, or nothing."""
    if way in (Way.KEPT, UNKNOWN_WAY):
        return cache
    if way in (Way.BATCHED, Way.REENCODED):
        return memory.CacheSize(((0, 2 * cache.bytes_per_token),), elastic=True)
    return memory.CacheSize()


def _look_through(spec: ModelSpec, *, every: bool, base: bool) -> int:
    """Search an adapter's weights, and with `base` the base model's, for NaN and infinity. Large
    base models are skipped without `every`. Returns the number of bytes skipped. Raises ConfigError
    if there are any."""
    if spec.adapter is not None:
        check_files(local_adapter_files(spec.adapter), f"the adapter {spec.adapter!r}")
    if not base or spec.gguf_file is not None:  # a GGUF file is searched when it is loaded
        return 0
    files = local_files(spec.model, spec.revision)
    size = sum(file.stat().st_size for file in files)
    if size > SHORT_LOAD and not every:
        return size
    check_files(files, f"the model {spec.model!r}")
    return 0


def _inexact(spec: ModelSpec, config: Any) -> str | None:
    if spec.quantization_config is not None:
        config = copy(config)
        config.quantization_config = spec.quantization_config
    return batch_invariant.obstacle(config)


def _way(
    spec: ModelSpec,
    config: Any,
    dtype: Any,
    engine: EngineConfig,
    inexact: str | None,
    *,
    shares: bool,
) -> tuple[str, str, str | None, str]:
    """How a model will be run, why not in a faster way, why it is refused, if it is, and why its
    rows share no forwards, as far as its last load tells; `shares`: if they may."""
    device = choose_device(spec.device)
    wanted = batch_invariant.wanted(engine.deterministic, device, dtype, inexact)
    try:
        model_class = AutoModelForCausalLM._model_mapping[type(config)]
        selection = foresee(
            spec,
            model_class,
            config,
            dtype=dtype,
            device=device,
            running=Running(
                wanted,
                engine.max_batch,
                may_batch=engine.deterministic is not True,
                shares=shares,
            ),
            records=ProofRecords(default_folder()),
        )
    except (
        KeyError,
        AssertionError,
        RuntimeError,
    ):  # the model has custom code, or the device is not here
        return UNKNOWN_WAY, "", None, ""
    if selection.way is None:
        why = selection.why
        return REFUSED, why, refusal(spec.model, model_class.__name__, why), ""
    return selection.way, selection.why, None, selection.apart


def _place(spec: ModelSpec) -> str:
    """A model's place: one device, or all devices together."""
    device = device_of(spec)
    if device is not None:
        return device
    return TOGETHER if torch.cuda.is_available() else choose_device("auto")


def _prompt(spec: ModelSpec, codec: TextCodec) -> str:
    if spec.prompt is not None:
        return "plain prompt"
    return "chat template" if codec.tokenizer.chat_template is not None else "bare text"
