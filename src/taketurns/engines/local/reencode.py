"""The runner for models whose cache cannot be extended row by row (indexed attention, states inside
the modules, flash attention, ALiBi positions that are made from a mask).

Each turn encodes its whole prompt again into a cache of the model's own kind and writes from there.
Models that keep a state in their modules run one answer at a time. Models with a cache that cannot
be used run without one, with a whole forward per token. This is correct but slow; `taketurns check`
reports the models that need it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache

from taketurns.engines.local.next_token import draw_tokens
from taketurns.engines.local.plain_forward import Carried, PlainForward, kv_argument
from taketurns.engines.local.requests import (
    GenerateRequest,
    Job,
    PromptScoreRequest,
    ScoreRequest,
)
from taketurns.engines.local.scheduler import BatchRunner
from taketurns.engines.local.stopping import follows, over


@dataclass(slots=True, eq=False)
class _WritingJob:
    job: GenerateRequest
    pending: list[int]
    carried: Carried | None = None
    begun: bool = field(default=False)


class ReencodeRunner(BatchRunner):
    """Keeps nothing between turns. `caches`: a turn uses a cache of the model's own kind. `alone`:
    only one turn runs at a time."""

    def __init__(
        self,
        plain: PlainForward,
        suppressed: Sequence[int] = (),
        *,
        caches: bool = True,
        alone: bool = False,
    ) -> None:
        super().__init__(suppressed)
        self._plain = plain
        self._caches = caches
        self._alone = alone
        self._turns: list[_WritingJob] = []

    @property
    def busy(self) -> bool:
        return bool(self._waiting or self._turns)

    @torch.inference_mode()
    def step(self) -> None:
        """One round: take one waiting job, then write one token for every running turn."""
        begun = time.perf_counter()
        if self._waiting and not (self._alone and self._turns):
            self._start(self._waiting.popleft())
        self._turns = [turn for turn in self._turns if not turn.job.cancelled and self._write(turn)]
        self.counters.seconds += time.perf_counter() - begun

    def reject_all(self, error: Exception) -> None:
        for job in [turn.job for turn in self._turns] + list(self._waiting):
            job.reject(error)
        self._turns.clear()
        self._waiting.clear()

    def _start(self, job: Job) -> None:
        if job.cancelled:
            return
        if isinstance(job, GenerateRequest):
            self._turns.append(_WritingJob(job, list(job.prompt), self._fresh()))
        elif isinstance(job, ScoreRequest | PromptScoreRequest):
            try:
                self._count(len(job.prompt))
                if isinstance(job, PromptScoreRequest):
                    job.read(self._plain(job.prompt).logits[0])
                else:
                    seen = self._plain(job.prompt, hidden=job.want == "hidden")
                    job.look(seen.logits[0, -1], [state[0] for state in seen.hidden])
                job.finished()
            except Exception as error:  # a model's error fails only this job
                job.reject(error)

    def _fresh(self) -> Carried | None:
        """The cache at the start of a turn: None, so that the model makes one of its own kind. A
        model that keeps a state in its modules returns no cache, so it gets one here."""
        if not (self._caches and self._alone):
            return None
        model = self._plain.model
        return Carried(kv_argument(model), DynamicCache(config=model.config))

    def _write(self, turn: _WritingJob) -> bool:
        try:
            logits, hidden = self._read(turn)
            if over([turn.job], logits, hidden if turn.begun else ())[0]:
                turn.job.finished()
                return False
            token = draw_tokens(logits, [turn.job], self._suppressed)[0]
            self.counters.written_tokens += 1
            if turn.job.take(token, logits[0]) is not None:
                turn.job.finished()
                return False
        except Exception as error:  # a model's error fails only this job
            turn.job.reject(error)
            return False
        turn.pending = [token] if self._caches else [*turn.pending, token]
        turn.begun = True
        return True

    def _read(self, turn: _WritingJob) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Logits `[1, vocabulary]` and hidden states `[1, d]` after the last pending token."""
        self._count(len(turn.pending))
        seen = self._plain(
            turn.pending, carried=turn.carried, carries=self._caches, hidden=follows(turn.job)
        )
        turn.carried = seen.carried
        return seen.logits[:, -1], seen.hidden

    def _count(self, tokens: int) -> None:
        self.counters.forwards += 1
        self.counters.encoded_tokens += tokens
