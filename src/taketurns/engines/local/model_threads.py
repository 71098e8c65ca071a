"""The threads of an engine: each runs the models of one group (`engines/local/placement.py`).

A request to one model is a matter of that model's thread alone. An ensemble has a part in the
thread of each of its models. What concerns all threads is here: closing, failure, memory."""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from functools import partial
from typing import Any

import torch

from taketurns.engines.base import OnToken
from taketurns.engines.local.ensembles import Ensemble, EnsembleMember
from taketurns.engines.local.equivalence_records import ProofRecords, default_folder
from taketurns.engines.local.loading import Weights
from taketurns.engines.local.members import ModelCounters
from taketurns.engines.local.memory import shares
from taketurns.engines.local.placement import CPU, Group, group_models
from taketurns.engines.local.requests import Job
from taketurns.engines.local.scheduler import LaneRunner
from taketurns.engines.local.worker import CLOSED, EngineParts, ModelThread, RunningModel
from taketurns.errors import ConfigError, EngineError
from taketurns.types import ModelSpec


class ModelThreads:
    """Owns the weights and runs jobs on them. The options are those of `LocalEngine`; `weights`
    replaces those that the specs name."""

    def __init__(
        self,
        specs: Mapping[str, ModelSpec],
        *,
        deterministic: bool | None,
        max_batch: int,
        threads: int | None = None,
        parallel: int = 1,
        weights: Weights | None = None,
    ) -> None:
        self._engine = EngineParts(
            dict(specs),
            Weights(specs) if weights is None else weights,
            ProofRecords(default_folder()),
            deterministic=deterministic,
            max_batch=max_batch,
            threads=threads,
        )
        self._parallel = parallel
        self._default_threads = torch.get_num_threads()
        self._placing = threading.Lock()
        self._submitting = threading.Lock()
        self._threads: dict[str, ModelThread] = {}

    async def load(self, model: str, suppressed: Sequence[int]) -> RunningModel:
        """Load a model, if it is not loaded; it will not write tokens of `suppressed`. Raises
        ConfigError or EngineError."""
        if not self._threads:
            await asyncio.to_thread(self._place)  # the first look at the devices takes a while
        return await self._threads[model].load(model, suppressed)

    async def run(
        self, model: str, make: Callable[..., Job], emit: OnToken | None = None, **arguments: Any
    ) -> Any:
        """Run the job from `make`, as `ModelThread.run`. The model must be loaded."""
        return await self._threads[model].run(model, make, emit, **arguments)

    async def run_together(self, models: Sequence[str], make: Callable[..., Ensemble]) -> Any:
        """Run the ensemble from `make` for these models, which must be loaded. If the caller is
        cancelled, it ends in the next round."""
        threads = [self._threads[model] for model in models]

        def make_ensemble(**callbacks: Any) -> Ensemble:
            for model, thread in zip(models, threads, strict=True):
                most = thread.most_lanes(model)
                parts = sum(models.count(other) for other in thread.sharing(model))
                if not thread.running(model).keeps_cache:
                    raise EngineError(
                        f"{model} cannot write tokens together with other models, because its "
                        "cache cannot be extended (taketurns check says why): leave it out"
                    )
                if parts > most:
                    raise ConfigError(
                        f"{model} cannot have {parts} parts in one answer, because a batch of it "
                        f"has at most {most} rows: raise engine.max_batch, or name it less often"
                    )
            ensemble = make(**callbacks)
            ensemble.place(models, [thread.post for thread in threads], self._engine.draws.add)
            return ensemble

        def submit(ensemble: Ensemble) -> None:
            parts: defaultdict[ModelThread, list[EnsembleMember]] = defaultdict(list)
            for thread, part in zip(threads, ensemble.parts, strict=True):
                parts[thread].append(part)
            # All threads get ensembles in one order. Otherwise two ensembles could each hold the
            # lane that the other one waits for.
            with self._submitting:
                for thread, here in parts.items():
                    thread.post(partial(thread.submit, here))

        who = ", ".join(dict.fromkeys(models))
        return await threads[0].run_work(make_ensemble, submit, who)

    @property
    def failure(self) -> str | None:
        """Why no model can run any more; None while models can run."""
        return self._engine.lifetime.failure

    def running(self, model: str) -> RunningModel:
        """Facts about a loaded model."""
        return self._threads[model].running(model)

    def counters(self, model: str) -> ModelCounters:
        """The counters of a model's work."""
        thread = self._threads.get(model)
        return ModelCounters() if thread is None else thread.counters(model)

    def bound_lanes(self, total: int) -> None:
        """Limit the keys and values of all models to `total` bytes, divided so that each model has
        room for the same number of answers. The models must be loaded."""
        every = [runner for thread in self._distinct for runner in thread.runners.values()]
        runners = [runner for runner in every if isinstance(runner, LaneRunner)]
        parts: defaultdict[LaneRunner, Fraction] = defaultdict(Fraction)
        for runner, part in zip(runners, shares([r.cache for r in runners]), strict=True):
            parts[runner] += part  # of each of the models that share its lanes
        for runner, part in parts.items():
            runner.bound(int(part * (total if runner.cache.elastic else total // 2)))

    def sweep(self) -> None:
        """Free the memory of answers that are gone."""
        for thread in self._distinct:
            thread.sweep()

    async def close(self) -> None:
        """Stop at the end of the rounds; running jobs fail."""
        if not self._engine.lifetime.close():
            return
        threads = self._distinct
        for thread in threads:
            thread.stop()
        for thread in threads:
            await asyncio.to_thread(thread.join)
        self._engine.lifetime.reject_waiting(EngineError(CLOSED))  # what no thread had taken yet
        self._engine.outbox.flush()

    @property
    def _distinct(self) -> list[ModelThread]:
        return list(dict.fromkeys(self._threads.values()))

    def _place(self) -> None:
        """Make a thread for each group of models."""
        with self._placing:
            if self._threads:
                return
            groups = group_models(self._engine.specs, self._parallel)
            on_cpu = sum(group.device == CPU for group in groups)
            most = max(1, self._default_threads // max(1, on_cpu))
            self._threads = {
                name: thread
                for group in groups
                for thread in [ModelThread(_name(group), self._engine, most, self._died)]
                for name in group.models
            }

    def _died(self, failure: str) -> None:
        """A thread has ended: reject all requests and stop the others. Called in that thread."""
        self._engine.lifetime.fail(failure)
        self._engine.outbox.flush()
        for thread in self._distinct:
            thread.stop()


def _name(group: Group) -> str:
    return f"models on {group.device or 'several devices'}: {', '.join(group.models)}"
