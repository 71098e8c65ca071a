"""A thread that runs models.

A round takes the requests that have arrived, lets every model with work do one step, and returns
the results with one wake-up per event loop, for any number of tokens. An engine has one such thread
or several, each with models of its own (`engines/local/model_threads.py`).
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

import torch

from taketurns.engines.base import OnToken
from taketurns.engines.local import batch_invariant as exact
from taketurns.engines.local.ensemble_draws import Draws
from taketurns.engines.local.ensembles import Ensemble
from taketurns.engines.local.equivalence import described
from taketurns.engines.local.equivalence_records import ProofRecords
from taketurns.engines.local.lifetime import Lifetime
from taketurns.engines.local.loading import LoadedModel, Weights, sharing
from taketurns.engines.local.lora_rows import LoraRows
from taketurns.engines.local.members import ModelCounters
from taketurns.engines.local.memory import CacheSize
from taketurns.engines.local.mode_selection import check_usable, choose
from taketurns.engines.local.modes import Running, Way, exact_shapes
from taketurns.engines.local.outbox import Outbox
from taketurns.engines.local.requests import Job
from taketurns.engines.local.scheduler import BatchRunner, LaneRunner
from taketurns.errors import (
    CapacityError,
    ConfigError,
    EngineError,
    NotANumberError,
    TakeTurnsError,
)
from taketurns.types import ModelSpec, Token

LOG = logging.getLogger("taketurns.engines")
SMALL_MODEL = 20_000_000  # parameters
JobOrEnsemble = TypeVar("JobOrEnsemble", Job, Ensemble)

ENDED = "the thread that runs the models has ended: restart the process"
CLOSED = "the engine was closed while an answer was being written"


@dataclass(frozen=True, slots=True)
class RunningModel:
    """Facts about a loaded model.

    `way` is the way in which it runs, `cache` what it keeps of an answer between turns."""

    way: Way
    cache: CacheSize
    device: str

    @property
    def exact(self) -> bool:
        """Whether it runs in exact rounds."""
        return self.cache.deterministic

    @property
    def keeps_cache(self) -> bool:
        """Whether a turn encodes only new tokens."""
        return self.way is Way.KEPT

    @property
    def continues(self) -> bool:
        """Whether a turn encodes only what the answer's last one has not."""
        return self.keeps_cache or bool(self.cache.layers)


@dataclass(frozen=True, slots=True)
class EngineParts:
    """What the threads of an engine share. `loading` is held while a thread loads a model, because
    transformers changes settings of the whole process meanwhile, such as the default dtype.
    `threads` are those of one operation on a CPU, `deterministic` and `max_batch` as for
    `LocalEngine`."""

    specs: Mapping[str, ModelSpec]
    weights: Weights
    records: ProofRecords
    deterministic: bool | None
    max_batch: int
    threads: int | None
    lifetime: Lifetime = field(default_factory=Lifetime)
    outbox: Outbox = field(default_factory=Outbox)
    draws: Draws = field(default_factory=Draws)
    loading: threading.Lock = field(default_factory=threading.Lock)


class ModelThread:
    """Runs some of an engine's models, those that `load` was called for. `most_threads` are the
    most threads of an operation if the engine does not say how many; `died` is called if the thread
    ends by an error."""

    def __init__(
        self, name: str, engine: EngineParts, most_threads: int, died: Callable[[str], None]
    ) -> None:
        self.name = name
        self._engine = engine
        self._outbox = engine.outbox
        self._most_threads = most_threads
        self._died = died
        self._broken: set[str] = set()
        self._largest = 0
        self._exactly: dict[str, Any] = {}
        self._runners: dict[str, BatchRunner] = {}
        self._sharing: dict[LoraRows, LaneRunner] = {}
        self._models: dict[str, RunningModel] = {}
        self._inbox: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)
        self._starting = threading.Lock()

    # Called from event loops

    async def load(self, model: str, suppressed: Sequence[int]) -> RunningModel:
        """Load a model, if it is not loaded; it will not write tokens of `suppressed`. Raises
        ConfigError or EngineError."""
        if model not in self._models:
            await self._ask(
                lambda done, failed: self._load_for(model, suppressed, done, failed), model
            )
        return self._models[model]

    async def run(
        self,
        model: str,
        make: Callable[..., Job],
        emit: OnToken | None = None,
        **arguments: Any,
    ) -> Any:
        """Run the job from `make`; `emit` is called in this event loop for each token. The model
        must be loaded.

        If the caller is cancelled, the job ends in the next round, and tokens that were not emitted
        yet are dropped."""
        loop = asyncio.get_running_loop()
        job: Job | None = None

        def show(token: Token) -> None:
            if emit is not None and job is not None and not job.cancelled:
                emit(token)

        def make_job(**callbacks: Any) -> Job:
            nonlocal job
            job = make(**callbacks, **arguments)
            job.model = model
            return job

        if emit is not None:
            arguments["emit"] = lambda token: self._outbox.post(loop, lambda: show(token))
        return await self.run_work(make_job, lambda job: self.submit([job]), model)

    async def run_work(
        self, make: Callable[..., JobOrEnsemble], submit: Callable[[JobOrEnsemble], None], who: str
    ) -> Any:
        """Make and submit work in the thread, unless the caller is cancelled before that; `who` is
        the model or models in messages."""
        work: JobOrEnsemble | None = None
        withdrawn = False

        def start(done: Callable[[Any], None], failed: Callable[[Exception], None]) -> None:
            nonlocal work
            work = make(resolve=done, reject=failed)
            if not withdrawn:
                submit(work)

        try:
            return await self._ask(start, who)
        except asyncio.CancelledError:
            withdrawn = True
            if work is not None:
                work.cancel()
                self.post(_nothing)  # the thread may be asleep
            raise

    def post(self, call: Callable[[], None]) -> None:
        """Let the thread make a call before its next round; wakes it if it sleeps. Any thread may
        call this."""
        self._inbox.put(call)

    @property
    def runners(self) -> Mapping[str, BatchRunner]:
        """The runner of each loaded model. Models whose rows share forwards have the same one."""
        return dict(self._runners)

    @property
    def _distinct(self) -> list[BatchRunner]:
        return list(dict.fromkeys(self._runners.values()))

    def running(self, model: str) -> RunningModel:
        """Facts about a loaded model."""
        return self._models[model]

    def sharing(self, model: str) -> tuple[str, ...]:
        """The models whose rows share the forwards of a loaded model, itself included."""
        runner = self._runners.get(model)
        return runner.models if isinstance(runner, LaneRunner) else (model,)

    def most_lanes(self, model: str) -> int:
        """The most jobs of a loaded model, and of those `sharing` its forwards, that are under way
        at a time; no limit is known for a model without lanes, and once the thread has stopped."""
        runner = self._runners.get(model)
        return runner.most_lanes if isinstance(runner, LaneRunner) else sys.maxsize

    def counters(self, model: str) -> ModelCounters:
        runner = self._runners.get(model)
        return runner.counters_of(model) if runner is not None else ModelCounters()

    def sweep(self) -> None:
        """Free the memory of answers that are gone, before the next round."""
        self.post(self._sweep)

    def stop(self) -> None:
        """Stop at the end of the round; running jobs fail."""
        self._inbox.put(None)

    def join(self) -> None:
        """Wait until the thread has stopped."""
        with self._starting:
            started = self._thread.ident is not None
        if started:
            self._thread.join()

    async def _ask(
        self,
        start: Callable[[Callable[[Any], None], Callable[[Exception], None]], None],
        who: str,
    ) -> Any:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()

        def done(value: Any) -> None:
            self._outbox.post(loop, lambda: None if future.done() else future.set_result(value))

        def failed(error: Exception) -> None:
            known = _as_ours(error, who)
            if isinstance(known, NotANumberError) and who not in self._broken:
                self._broken.add(who)  # warn once: other candidates may continue the answers
                LOG.warning("%s; its patch or decision has failed", known)
            self._outbox.post(loop, lambda: None if future.done() else future.set_exception(known))

        def run() -> None:
            try:
                start(done, failed)
            except Exception as error:  # it fails only the caller, not the thread
                failed(error)

        self._engine.lifetime.enter(failed)
        try:
            self._inbox.put(run)
            self._begin()
            return await future
        finally:
            self._engine.lifetime.leave(failed)

    def _begin(self) -> None:
        with self._starting:
            if self._thread.ident is None:
                self._thread.start()

    # In the thread

    def submit(self, jobs: Sequence[Job]) -> None:
        """Let jobs wait for their models, which must be loaded here."""
        for job in jobs:
            self._runners[job.model].submit(job)

    def _sweep(self) -> None:
        for runner in self._distinct:
            if isinstance(runner, LaneRunner):
                runner.sweep()

    def _main(self) -> None:
        try:
            self._rounds()
        except BaseException as error:  # otherwise all callers would wait forever
            LOG.critical(ENDED, exc_info=error)
            self._died(f"{ENDED} ({described(error)})")

    def _rounds(self) -> None:
        moving = False
        while True:
            try:
                arrived = self._inbox.get(block=not moving)
                while True:
                    if arrived is None:
                        self._stop()
                        return
                    arrived()
                    arrived = self._inbox.get_nowait()
            except Empty:
                pass
            moving = False
            for runner in self._distinct:
                if runner.busy and self._step(runner):
                    moving = True
            self._engine.draws.advance()
            self._outbox.flush()

    def _step(self, runner: BatchRunner) -> bool:
        """Do one step. Returns whether another one may do anything before a call arrives: not if
        all lanes wait for a token that other models write too. Such a step computes nothing and
        rejects nothing, and a token, a cancellation and a new job all arrive as calls."""
        if not isinstance(runner, LaneRunner):
            runner.step()
            return runner.busy
        before = runner.forwards
        runner.step()
        waits = runner.forwards == before and self._outbox.empty
        return runner.busy and not waits

    def _load_for(
        self,
        model: str,
        suppressed: Sequence[int],
        done: Callable[[Any], None],
        failed: Callable[[Exception], None],
    ) -> None:
        if model not in self._models:
            try:
                with self._engine.loading:
                    self._runners[model] = self._runner(model, suppressed)
            except TakeTurnsError as error:
                failed(error)
                return
        done(None)

    def _runner(self, model: str, suppressed: Sequence[int]) -> BatchRunner:
        loaded = self._engine.weights.load(model)
        weight = loaded.model.get_input_embeddings().weight
        device = str(weight.device)
        self._set_threads(loaded.model)
        obstacle = exact.obstacle(loaded.model.config)
        if self._engine.deterministic and obstacle is not None:
            raise ConfigError(exact.refusal(model, obstacle))
        wanted = exact.wanted(self._engine.deterministic, device, weight.dtype, obstacle)
        may_batch = self._engine.deterministic is not True
        spec = self._engine.specs[model]
        running = Running(
            wanted,
            self._engine.max_batch,
            suppressed,
            may_batch,
            shares=len(sharing(self._engine.specs, model)) <= self._engine.max_batch,
            model=model,
        )
        found, runner = choose(spec, loaded, running, self._engine.records)
        way = check_usable(found, model, spec, type(loaded.model).__name__)
        assert runner is not None, "a correct way has a runner"
        if way is not Way.KEPT:
            LOG.warning(found.sentence(model))
        if loaded.rows is not None and running.shares:
            runner = self._joined(loaded, model, runner, apart=bool(found.apart))
        if (
            wanted
            and isinstance(runner, LaneRunner)
            and (exact.enabled(loaded.model) or not runner.shape.attends)
        ):
            self._exactly[model] = loaded.model
            self._check_exact(model, runner.exact)
        self._models[model] = RunningModel(way, runner.cache, device)
        return runner

    def _joined(
        self, loaded: LoadedModel, model: str, runner: BatchRunner, *, apart: bool
    ) -> BatchRunner:
        """The runner of a model that has been loaded with a `runner` of its own: that of the models
        on the same weights, unless it runs `apart` or is the first of them."""
        assert loaded.rows is not None, "only for weights that may be shared"
        shared = self._sharing.get(loaded.rows)
        if isinstance(runner, LaneRunner) and not apart:
            if shared is None:
                self._sharing[loaded.rows] = runner
                return runner
            shared.take_over(runner)
        elif shared is not None and shared.exact is not None:
            # The adapter's matrices are among those that are multiplied all the same.
            shared.exact = exact_shapes(loaded.model, shared, self._engine.max_batch)
        self._note_caches()
        return shared if shared is not None and model in shared.models else runner

    def _note_caches(self) -> None:
        for model, known in self._models.items():
            self._models[model] = replace(known, cache=self._runners[model].cache)

    def _check_exact(self, model: str, shapes: exact.Shapes | None) -> None:
        """Raise ConfigError if a model must run in exact rounds and has no shapes for them."""
        if shapes is None and self._engine.deterministic:
            raise ConfigError(
                f"{model} cannot be run with engine.deterministic: true, because it has no layer "
                "whose products can be measured: remove engine.deterministic"
            )

    def _measure_again(self) -> None:
        """Measure again after the number of threads has changed, because products depend on it."""
        for model in self._exactly:
            runner = self._runners.get(model)
            if isinstance(runner, LaneRunner) and runner.models[0] == model:
                runner.exact = exact_shapes(self._exactly[model], runner, self._engine.max_batch)
                self._check_exact(model, runner.exact)
        self._note_caches()

    def _set_threads(self, model: Any) -> None:
        """Set the number of threads. Small models run on one thread: an operation is too short for
        a second, and on a busy machine threads that wait for each other are many times slower."""
        self._largest = max(self._largest, model.num_parameters())
        threads = self._engine.threads
        if threads is None:
            threads = 1 if self._largest < SMALL_MODEL else self._most_threads
        # Each thread has a number of its own, but takes the one that any thread has set last when
        # it first asks or computes. So it must ask before it sets.
        if threads != torch.get_num_threads():
            torch.set_num_threads(threads)
            self._measure_again()

    def _stop(self) -> None:
        error = EngineError(self._engine.lifetime.failure or CLOSED)
        for runner in self._distinct:
            runner.reject_all(error)
        self._runners.clear()
        self._sharing.clear()
        self._outbox.flush()


def _as_ours(error: Exception, who: str) -> TakeTurnsError:
    """A model's exception as a failure of the engine."""
    if isinstance(error, TakeTurnsError):
        return error
    kind = CapacityError if isinstance(error, torch.OutOfMemoryError) else EngineError
    ours = kind(f"{who} failed while it computed: {described(error)}")
    ours.__cause__ = error
    return ours


def _nothing() -> None:
    """Only wakes the thread."""
