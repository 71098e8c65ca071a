"""For models whose cache cannot be appended to row by row (sliding windows, recurrent states,
flash attention, ALiBi positions that are made from a mask).

Each turn encodes its whole prompt anew into a cache of the model's own kind and writes from there,
one answer at a time. Correct and slow; `taketurns check` says when a model needs it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache

from taketurns.engines.jobs import Job, Peek, Write
from taketurns.engines.lanes import Counters
from taketurns.engines.sampling import sample, without
from taketurns.engines.watching import follows, over


@dataclass(slots=True, eq=False)
class _Turn:
    job: Write
    cache: Any
    pending: list[int] = field(default_factory=list)
    begun: bool = False


class ReencodeRunner:
    """Same contract as LaneRunner."""

    lane_bytes = 0

    def __init__(self, model: Any, never: Sequence[int] = ()) -> None:
        self._model = model
        self._never = list(never)
        self._device = model.get_input_embeddings().weight.device
        self._waiting: deque[Job] = deque()
        self._turns: list[_Turn] = []
        self.counters = Counters()

    def submit(self, job: Job) -> None:
        self._waiting.append(job)

    @property
    def busy(self) -> bool:
        return bool(self._waiting or self._turns)

    @torch.inference_mode()
    def step(self) -> None:
        """Take one waiting job, then write one token for every turn under way."""
        begun = time.perf_counter()
        if self._waiting:
            self._start(self._waiting.popleft())
        self._turns = [turn for turn in self._turns if not turn.job.cancelled and self._write(turn)]
        self.counters.seconds += time.perf_counter() - begun

    def reject_all(self, error: Exception) -> None:
        """Give up: reject what is being computed and what waits."""
        for job in [turn.job for turn in self._turns] + list(self._waiting):
            job.reject(error)
        self._turns.clear()
        self._waiting.clear()

    def _start(self, job: Job) -> None:
        if job.cancelled:
            return
        if isinstance(job, Write):
            cache = DynamicCache(config=self._model.config.get_text_config())
            self._turns.append(_Turn(job, cache, list(job.prompt)))
        elif isinstance(job, Peek):
            try:
                logits, hidden = self._forward(list(job.prompt), None, job.want == "hidden")
                job.look(logits[0], [state[0] for state in hidden])
                job.finished()
            except Exception as error:  # whatever a model raises belongs to whoever asked for it
                job.reject(error)

    def _write(self, turn: _Turn) -> bool:
        try:
            logits, hidden = self._forward(turn.pending, turn.cache, follows(turn.job))
            if over([turn.job], logits, hidden if turn.begun else ())[0]:
                turn.job.finished()
                return False
            token = int(sample(without(logits, self._never), [turn.job.draw()])[0])
            self.counters.written_tokens += 1
            if turn.job.take(token, logits[0]) is not None:
                turn.job.finished()
                return False
        except Exception as error:  # whatever a model raises belongs to whoever asked for it
            turn.job.reject(error)
            return False
        turn.pending, turn.begun = [token], True
        return True

    @torch.inference_mode()
    def _forward(
        self, ids: list[int], cache: Any, hidden: bool
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Float32 logits `[1, vocabulary]` and hidden states `[1, d]` after the last of `ids`."""
        self.counters.forwards += 1
        self.counters.encoded_tokens += len(ids)
        result = self._model(
            input_ids=torch.tensor([ids], device=self._device),
            past_key_values=cache,
            use_cache=cache is not None,
            output_hidden_states=hidden,
        )
        states = result.hidden_states if hidden else ()
        return result.logits[:, -1].float(), tuple(state[:, -1].float() for state in states)
