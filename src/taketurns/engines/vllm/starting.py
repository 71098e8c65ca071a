"""Start the engines of a team: check all of them, divide the memory, then load in parallel."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from taketurns.checkpoints.safetensors_metadata import read_tensors
from taketurns.config.team_config import EngineConfig
from taketurns.engines.local.memory import free_bytes
from taketurns.engines.vllm.adapters import max_rank
from taketurns.engines.vllm.arguments import further_arguments, model_arguments
from taketurns.engines.vllm.library import Library
from taketurns.engines.vllm.plan import (
    EngineNeed,
    EnginePlan,
    cpu_caches,
    divide,
    gpu_shares,
    plan_engines,
)
from taketurns.errors import ConfigError, EngineError, one_line
from taketurns.types import Candidate

LOG = logging.getLogger(__name__)
_END_SECONDS = 30.0  # until an engine that does not end by itself is killed
_MEMORY = frozenset(("gpu_memory_utilization", "kv_cache_memory_bytes", "num_gpu_blocks_override"))
"""Arguments that say what memory an engine has."""


@dataclass(frozen=True, slots=True)
class StartedEngine:
    """An engine `llm` that runs, and the adapter on it for each model that has one."""

    plan: EnginePlan
    llm: Any
    adapters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PreparedEngine:
    """An engine before it is started: vLLM has accepted its arguments."""

    plan: EnginePlan
    config: Any
    device: int | str


async def start_engines(
    library: Library, models: Sequence[Candidate], settings: EngineConfig
) -> list[StartedEngine]:
    """Start the engines for these models, in the event loop that is to use them.

    Raises ConfigError for arguments and models that vLLM does not take, CapacityError if they do
    not fit the memory, both before anything is loaded; EngineError if an engine does not start.
    Then none is left running."""
    prepared = await asyncio.to_thread(prepare_engines, library, models, settings)
    tasks = [asyncio.create_task(_start_in_turn(library, group)) for group in _groups(prepared)]
    with _showing(len(prepared)):
        results = await asyncio.gather(*tasks, return_exceptions=True)
    started = [engine for result in results if isinstance(result, list) for engine in result]
    failures = [result for result in results if isinstance(result, BaseException)]
    if failures:
        await stop_engines(started)
        raise failures[0]
    return started


async def stop_engines(engines: Sequence[StartedEngine]) -> None:
    """End engines and their processes."""
    await asyncio.gather(*(asyncio.to_thread(_stop, engine.llm) for engine in engines))
    multiprocessing.active_children()  # those that have ended are taken off the process table


def _stop(llm: Any) -> None:
    llm.shutdown(timeout=_END_SECONDS)


def _stop_when_made(making: asyncio.Task[Any]) -> None:
    if not making.cancelled() and making.exception() is None:
        _stop(making.result())


def prepare_engines(
    library: Library, models: Sequence[Candidate], settings: EngineConfig
) -> list[PreparedEngine]:
    """The engines for these models, before anything is loaded: vLLM has accepted their arguments,
    and each has its part of the memory. Raises ConfigError and CapacityError."""
    cpu = library.cpu
    further = {
        model.name: further_arguments(model, settings, library.arguments) for model in models
    }
    prepared = []
    for plan in plan_engines(models, further, cpu=cpu):
        arguments = model_arguments(plan.models[0], plan.further, cpu=cpu)
        if plan.adapted:
            arguments = {
                "enable_lora": True,
                "max_lora_rank": max_rank(plan.adapted),
                "max_loras": len(plan.adapted),
                **arguments,
            }
        try:
            config = library.AsyncEngineArgs(**arguments).create_engine_config()
        except Exception as error:  # of any type, by what is wrong
            raise ConfigError(
                f"vLLM cannot run {plan.names} ({plan.models[0].spec.model}): {one_line(error)}; "
                "use another model, or correct the vllm mapping"
            ) from error
        device = "cpu" if cpu else (arguments.get("device_ids") or [0])[0]
        prepared.append(PreparedEngine(plan, config, device))
    _divide_memory(library, prepared, settings)
    return prepared


def _divide_memory(
    library: Library, prepared: Sequence[PreparedEngine], settings: EngineConfig
) -> None:
    """Give each engine its part of the memory, where the team file does not say it."""
    needs, wanted = [_need(each) for each in prepared], settings.memory_bytes
    sizes: Sequence[int | None] = [None] * len(needs)
    shares: Sequence[float | None] = [None] * len(needs)
    if library.cpu:
        sizes = cpu_caches(needs, free_bytes("cpu"), wanted)
    else:
        devices = {need.device for need in needs if isinstance(need.device, int)}
        totals = {device: library.platform.get_device_total_memory(device) for device in devices}
        # vLLM asks for this share even where the size of the caches is given (0.32).
        shares = gpu_shares(needs, totals)
        if wanted is not None:
            sizes = divide(needs, wanted)
    for each, size, share in zip(prepared, sizes, shares, strict=True):
        given, cache = each.plan.further.keys(), each.config.cache_config
        if share is not None and "gpu_memory_utilization" not in given:
            cache.gpu_memory_utilization = share
        if size is not None and not _MEMORY & given:
            cache.kv_cache_memory_bytes = size


def _need(prepared: PreparedEngine) -> EngineNeed:
    config, spec = prepared.config, prepared.plan.models[0].spec
    model, parallel = config.model_config, config.parallel_config
    given = bool(_MEMORY & prepared.plan.further.keys())
    # The keys and values of other kinds of attention are smaller than this.
    plain = not (model.use_mla or model.is_hybrid or model.get_sliding_window())
    parts = parallel.tensor_parallel_size * parallel.pipeline_parallel_size
    numbers = 2 * model.get_num_layers(parallel) * model.get_num_kv_heads(parallel)
    size = numbers * model.get_head_size() * model.dtype.itemsize
    tensors = read_tensors(spec.model, spec.revision) or []
    weights = sum(
        tensor.numbers * (model.dtype.itemsize if tensor.floating else 1) for tensor in tensors
    )
    return EngineNeed(
        names=prepared.plan.names,
        weights=weights // parts or None,
        token=size,
        context=model.max_model_len,
        device=prepared.device,
        bounded=given or not plain,
    )


def _groups(prepared: Sequence[PreparedEngine]) -> list[list[PreparedEngine]]:
    """Those that may start at the same time, one of each group after the other: an engine measures
    the memory of its GPU while it starts, and another one there would change it."""
    groups: dict[object, list[PreparedEngine]] = {}
    for number, each in enumerate(prepared):
        groups.setdefault(number if each.device == "cpu" else each.device, []).append(each)
    return list(groups.values())


async def _start_in_turn(library: Library, group: Sequence[PreparedEngine]) -> list[StartedEngine]:
    started: list[StartedEngine] = []
    try:
        for each in group:
            started += [await _start(library, each)]
    except BaseException:
        await stop_engines(started)
        raise
    return started


async def _start(library: Library, prepared: PreparedEngine) -> StartedEngine:
    plan, config = prepared.plan, prepared.config
    alone = _worker_is_alone(library, prepared)
    began = time.monotonic()

    def make() -> Any:
        executor = library.tied(library.Executor.get_class(config), alone=alone)
        return library.AsyncLLM(
            config, executor, log_stats=False, log_requests=False, start_engine_loop=False
        )

    making = asyncio.create_task(asyncio.to_thread(make))
    try:
        llm = await asyncio.shield(making)
    except asyncio.CancelledError:
        # A thread cannot be stopped; what it starts is ended as soon as it can be.
        making.add_done_callback(_stop_when_made)
        raise
    except Exception as error:
        raise EngineError(
            f"the vLLM engine of {plan.names} did not start: {one_line(error)}; what it wrote "
            "above says why"
        ) from error
    adapters = {}
    try:
        for number, model in enumerate(plan.adapted, 1):
            adapter = library.LoRARequest(model.name, number, model.spec.adapter)
            await llm.add_lora(adapter)
            adapters[model.name] = adapter
    except Exception as error:
        await asyncio.to_thread(_stop, llm)
        raise ConfigError(
            f"vLLM cannot load the adapter of {model.name}, {model.spec.adapter}: "
            f"{one_line(error)}; use an adapter that was trained on {model.spec.model}"
        ) from error
    LOG.info("%s runs in vLLM after %.0f seconds", plan.names, time.monotonic() - began)
    return StartedEngine(plan, llm, adapters)


def _worker_is_alone(library: Library, prepared: PreparedEngine) -> bool:
    """Whether an engine's worker runs in the engine's own process. On a CPU vLLM 0.32 gives it a
    process, to bind its threads to cores; both then spin while they wait for each other, up to a
    second after every step, on cores that the team's other engines need."""
    parallel = prepared.config.parallel_config
    single = parallel.tensor_parallel_size * parallel.pipeline_parallel_size == 1
    asked = "distributed_executor_backend" in prepared.plan.further
    return library.cpu and single and not asked and not library.binds


@contextmanager
def _showing(engines: int) -> Iterator[None]:
    """Say on a terminal what is waited for."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    what = "engine starts" if engines == 1 else "engines start"
    with Console(stderr=True).status(f"{engines} vLLM {what}"):
        yield
