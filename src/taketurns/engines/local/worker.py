"""The thread that runs the models.

A round takes the requests that have arrived, lets every model with work do one step, and returns
the results with one wake-up per event loop, for any number of tokens.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

import torch

from taketurns.engines.base import OnToken
from taketurns.engines.local import batch_invariant as exact
from taketurns.engines.local.ensembles import Ensemble, advance
from taketurns.engines.local.equivalence import described
from taketurns.engines.local.equivalence_records import ProofRecords, default_folder
from taketurns.engines.local.loading import Weights
from taketurns.engines.local.memory import Footprint, shares
from taketurns.engines.local.mode_selection import check_usable, choose
from taketurns.engines.local.modes import Running, Way, exact_shapes
from taketurns.engines.local.requests import Job
from taketurns.engines.local.scheduler import BatchRunner, LaneRunner, ModelCounters
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

_ENDED = "the thread that runs the models has ended: restart the process"


@dataclass(frozen=True, slots=True)
class RunningModel:
    """Facts about a loaded model.

    `way` is the way in which it runs; `footprint` is what an answer's cache takes (0 without a kept
    one); `exact`: it runs in exact rounds."""

    way: Way
    footprint: Footprint
    device: str
    exact: bool = False

    @property
    def keeps_cache(self) -> bool:
        """Whether a turn encodes only new tokens."""
        return self.way is Way.KEPT


class ModelThread:
    """Owns the weights and runs jobs on them. `max_batch` limits the rows of a forward."""

    def __init__(
        self,
        specs: Mapping[str, ModelSpec],
        *,
        deterministic: bool | None,
        max_batch: int,
        threads: int | None,
    ) -> None:
        self._specs = dict(specs)
        self._weights = Weights(specs)
        self._records = ProofRecords(default_folder())
        self._threads = threads
        self._broken: set[str] = set()
        self._default_threads = torch.get_num_threads()
        self._largest = 0
        self._exactly: dict[str, Any] = {}
        self._deterministic = deterministic
        self._max_batch = max_batch
        self._runners: dict[str, BatchRunner] = {}
        self._models: dict[str, RunningModel] = {}
        self._ensembles: list[Ensemble] = []
        self._inbox: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._outbox: defaultdict[asyncio.AbstractEventLoop, list[Callable[[], None]]]
        self._outbox = defaultdict(list)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._asking: set[Callable[[Exception], None]] = set()
        self._failure: str | None = None

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
            arguments["emit"] = lambda token: self._post(loop, lambda: show(token))
        return await self._run(make_job, lambda job: self._runners[model].submit(job), model)

    async def run_together(self, models: Sequence[str], make: Callable[..., Ensemble]) -> Any:
        """Run the ensemble from `make` for these models, which must be loaded. If the caller is
        cancelled, it ends in the next round."""

        def make_ensemble(**callbacks: Any) -> Ensemble:
            for model in models:
                if not isinstance(self._runners[model], LaneRunner):
                    raise EngineError(
                        f"{model} cannot write tokens together with other models, because its "
                        "cache cannot be extended (taketurns check says why): leave it out"
                    )
            return make(**callbacks)

        def submit(ensemble: Ensemble) -> None:
            self._ensembles.append(ensemble)
            for model, part in zip(models, ensemble.parts, strict=True):
                part.model = model
                self._runners[model].submit(part)

        return await self._run(make_ensemble, submit, ", ".join(dict.fromkeys(models)))

    async def _run(
        self, make: Callable[..., JobOrEnsemble], submit: Callable[[JobOrEnsemble], None], who: str
    ) -> Any:
        """Make and submit work in the thread, unless the caller is cancelled before that."""
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
            raise

    @property
    def failure(self) -> str | None:
        """Why no model can run any more; None while models can run."""
        thread = self._thread
        if self._failure is None and thread is not None and not self._closed:
            return None if thread.is_alive() else _ENDED
        return self._failure

    def running(self, model: str) -> RunningModel:
        """Facts about a loaded model."""
        return self._models[model]

    def counters(self, model: str) -> ModelCounters:
        runner = self._runners.get(model)
        return runner.counters if runner is not None else ModelCounters()

    @property
    def lane_bytes(self) -> int:
        return sum(runner.lane_bytes for runner in self._runners.values())

    def bound_lanes(self, total: int) -> None:
        """Limit the lanes of all models to `total` bytes, divided so that each model has room for
        the same number of answers. The models must be loaded."""
        runners = [r for r in self._runners.values() if isinstance(r, LaneRunner)]
        parts = shares([runner.footprint for runner in runners])
        for runner, part in zip(runners, parts, strict=True):
            runner.bound(int(total * part))

    async def close(self) -> None:
        """Stop at the end of the round; running jobs fail."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._inbox.put(None)
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    async def _ask(
        self,
        start: Callable[[Callable[[Any], None], Callable[[Exception], None]], None],
        who: str,
    ) -> Any:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()

        def done(value: Any) -> None:
            self._post(loop, lambda: None if future.done() else future.set_result(value))

        def failed(error: Exception) -> None:
            known = _as_ours(error, who)
            if isinstance(known, NotANumberError) and who not in self._broken:
                self._broken.add(who)  # warn once: other candidates may continue the answers
                LOG.warning("%s; its patch or decision has failed", known)
            self._post(loop, lambda: None if future.done() else future.set_exception(known))

        def run() -> None:
            try:
                start(done, failed)
            except Exception as error:  # it fails only the caller, not the thread
                failed(error)

        with self._lock:
            if self._closed:
                raise EngineError("the engine is closed")
            if (failure := self.failure) is not None:
                raise EngineError(failure)
            if self._thread is None:
                self._thread = threading.Thread(target=self._main, name="models", daemon=True)
                self._thread.start()
            self._asking.add(failed)
            self._inbox.put(run)
        try:
            return await future
        finally:
            self._asking.discard(failed)

    # In the thread

    def _main(self) -> None:
        try:
            self._rounds()
        except BaseException as error:  # otherwise all callers would wait forever
            LOG.critical(_ENDED, exc_info=error)
            self._end(f"{_ENDED} ({described(error)})")

    def _end(self, failure: str) -> None:
        """Reject running requests, and all later ones with `failure`."""
        with self._lock:
            self._failure = failure
            asking = list(self._asking)
        for failed in asking:
            failed(EngineError(failure))
        self._flush()

    def _rounds(self) -> None:
        while True:
            busy = any(runner.busy for runner in self._runners.values())
            try:
                arrived = self._inbox.get(block=not busy)
                while True:
                    if arrived is None:
                        self._stop()
                        return
                    arrived()
                    arrived = self._inbox.get_nowait()
            except Empty:
                pass
            for runner in self._runners.values():
                if runner.busy:
                    runner.step()
            if self._ensembles:
                self._ensembles = advance(self._ensembles)
            self._flush()

    def _load_for(
        self,
        model: str,
        suppressed: Sequence[int],
        done: Callable[[Any], None],
        failed: Callable[[Exception], None],
    ) -> None:
        if model not in self._models:
            try:
                self._runners[model] = self._runner(model, suppressed)
            except TakeTurnsError as error:
                failed(error)
                return
        done(None)

    def _runner(self, model: str, suppressed: Sequence[int]) -> BatchRunner:
        loaded = self._weights.load(model)
        weight = loaded.model.get_input_embeddings().weight
        device = str(weight.device)
        self._set_threads(loaded.model)
        obstacle = exact.obstacle(loaded.model.config)
        if self._deterministic and obstacle is not None:
            raise ConfigError(exact.refusal(model, obstacle))
        wanted = exact.wanted(self._deterministic, device, weight.dtype, obstacle)
        running = Running(wanted, self._max_batch, suppressed)
        spec = self._specs[model]
        found, runner = choose(spec, loaded, running, self._records)
        way = check_usable(found, model, spec, type(loaded.model).__name__)
        assert runner is not None, "a correct way has a runner"
        footprint, exactly = Footprint(0), False
        if way is not Way.KEPT:
            LOG.warning(found.sentence(model))
        if isinstance(runner, LaneRunner):
            footprint, exactly = runner.footprint, runner.exact is not None
            if wanted and (exact.enabled(loaded.model) or not runner.shape.attends):
                self._exactly[model] = loaded.model
                self._check_exact(model, runner.exact)
        self._models[model] = RunningModel(way, footprint, device, exactly)
        return runner

    def _check_exact(self, model: str, shapes: exact.Shapes | None) -> None:
        """Raise ConfigError if a model must run in exact rounds and has no shapes for them."""
        if shapes is None and self._deterministic:
            raise ConfigError(
                f"{model} cannot be run with engine.deterministic: true, because it has no layer "
                "whose products can be measured: remove engine.deterministic"
            )

    def _measure_again(self) -> None:
        """Measure again after the number of threads has changed, because products depend on it."""
        for model in self._exactly:
            runner = self._runners.get(model)
            if isinstance(runner, LaneRunner):
                runner.exact = exact_shapes(self._exactly[model], runner, self._max_batch)
                self._check_exact(model, runner.exact)
                exactly = runner.exact is not None
                self._models[model] = replace(
                    self._models[model], exact=exactly, footprint=runner.footprint
                )

    def _set_threads(self, model: Any) -> None:
        """Set the number of threads. Small models run on one thread: an operation is too short for
        a second, and on a busy machine threads that wait for each other are many times slower."""
        self._largest = max(self._largest, model.num_parameters())
        threads = self._threads
        if threads is None:
            threads = 1 if self._largest < SMALL_MODEL else self._default_threads
        if threads != torch.get_num_threads():
            torch.set_num_threads(threads)
            self._measure_again()

    def _stop(self) -> None:
        error = EngineError("the engine was closed while an answer was being written")
        for runner in self._runners.values():
            runner.reject_all(error)
        self._runners.clear()
        self._flush()

    def _post(self, loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
        self._outbox[loop].append(call)

    def _flush(self) -> None:
        for loop, calls in self._outbox.items():
            with suppress(RuntimeError):  # the loop is closed, so nothing waits there
                loop.call_soon_threadsafe(_run_all, loop, calls)
        self._outbox.clear()


def _as_ours(error: Exception, who: str) -> TakeTurnsError:
    """A model's exception as a failure of the engine."""
    if isinstance(error, TakeTurnsError):
        return error
    kind = CapacityError if isinstance(error, torch.OutOfMemoryError) else EngineError
    ours = kind(f"{who} failed while it computed: {described(error)}")
    ours.__cause__ = error
    return ours


def _run_all(loop: asyncio.AbstractEventLoop, calls: list[Callable[[], None]]) -> None:
    """Run callbacks; a failure in one of them does not affect the others."""
    for call in calls:
        try:
            call()
        except Exception as error:
            loop.call_exception_handler({"message": "a callback failed", "exception": error})
