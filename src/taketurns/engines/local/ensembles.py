"""Ensembles: several models write one text together; their distributions are combined per token.

Each model has a lane with the answer, as if it wrote alone, and receives the drawn token instead of
drawing one. The distributions are over the outcomes that the models share: ordinary tokens, whose
ids are equal, and the end, whose probability is the sum over a model's end tokens.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from taketurns.checkpoints.text import SharedVocabulary
from taketurns.engines.base import Combine, ModelInfo
from taketurns.engines.local.logits import Ids
from taketurns.engines.local.parked import Parked
from taketurns.engines.local.requests import GenerateRequest, Job
from taketurns.engines.local.sampling import drawable
from taketurns.errors import ConfigError

Post = Callable[[Callable[[], None]], None]
"""Hands a call to a thread, which makes it before its next round."""


@dataclass(frozen=True, slots=True, eq=False)
class Shared:
    """The outcomes shared by models that write together: ids of ordinary tokens `[tokens]`, and
    each model's end tokens `[ends]`, the first of which represents all. `columns` is the outcome
    of each token id, -1 for an id without one."""

    ordinary: Tensor
    ends: tuple[Tensor, ...]
    columns: Ids

    @classmethod
    def of(cls, infos: Sequence[ModelInfo]) -> Shared:
        """The shared outcomes of models. Raises ConfigError if their ordinary tokens have different
        ids."""
        vocabulary = SharedVocabulary.of(info.codec for info in infos)
        if vocabulary is None:
            names = ", ".join(info.name for info in infos)
            raise ConfigError(
                f"{names} cannot write a token together, because their vocabularies differ: use "
                "models with the same tokenizer"
            )
        known = vocabulary.ordinary_ids.difference(*(info.suppressed_token_ids for info in infos))
        smallest = min((i.vocabulary for i in infos if i.vocabulary is not None), default=None)
        ordinary = sorted(i for i in known if smallest is None or i < smallest)
        ends = tuple(torch.tensor(sorted(info.end_token_ids)) for info in infos)
        every = [token for end in ends for token in end.tolist()]
        columns = np.full(max([*ordinary, *every]) + 1, -1, dtype=np.int64)
        columns[every] = len(ordinary)
        columns[ordinary] = np.arange(len(ordinary))
        return cls(torch.tensor(ordinary), ends, columns)

    @property
    def end(self) -> int:
        return int(self.ends[0][0])

    def logprobs(self, logits: Sequence[Tensor]) -> Tensor:
        """Log-probabilities `[rows, models, tokens + 1]` from each model's logits
        `[rows, vocabulary]`; the last column is the end."""
        return torch.stack([self.logprobs_of(m, row.cpu()) for m, row in enumerate(logits)], 1)

    def logprobs_of(self, model: int, logits: Tensor) -> Tensor:
        """Log-probabilities `[rows, tokens + 1]` from the logits `[rows, vocabulary]` of the model
        with this index, on their device."""
        whole = torch.log_softmax(logits, -1)
        end = torch.logsumexp(whole[:, self.ends[model]], -1, keepdim=True)
        return torch.cat((whole[:, self.ordinary], end), -1)


class EnsembleMember(Job):
    """One model's lane in an ensemble. `post` hands a call to the thread that runs the model; what
    a lane must know is set by such calls, so it never changes in the middle of a round."""

    def __init__(
        self, place: int, prompt: Sequence[int], parked: Parked, ensemble: Ensemble
    ) -> None:
        super().__init__(prompt, parked, lambda result: None, ensemble.fail)
        self.reach += ensemble.pen.reach - len(ensemble.pen.prompt)
        self.party = ensemble
        self.told: int | None = None
        self.post: Post = _nowhere
        self._place = place
        self._ensemble = ensemble

    def offer(self, logits: Tensor) -> None:
        """Add the model's logits `[vocabulary]` after the text so far."""
        if drawable(logits):
            self._ensemble.offer(self._place, logits)
        else:
            self.fail_at("the next token")
            assert self.failure is not None
            self._ensemble.fail(self.failure)

    def hear(self, token: int | None, *, ends: bool) -> None:
        """Receive the drawn token; `ends`: the answer is complete, so the lane is parked. Called in
        the model's thread."""
        self.told, self.ended = token, ends

    def finished(self) -> None:
        """Record that the lane is parked."""
        self._ensemble.parted()


class Ensemble:
    """An answer that several models write together. `pen` draws and counts for all of them; it is
    never submitted to a runner.

    The models may run in different threads, and the caller cancels from another one. `place` comes
    first. Then each model offers its logits; with the last ones the ensemble is ready for a draw
    (`engines/local/ensemble_draws.py`), and only draws use `pen` until the answer is complete."""

    def __init__(
        self,
        pen: GenerateRequest,
        prompts: Sequence[Sequence[int]],
        parked: Sequence[Parked],
        shared: Shared,
        combine: Combine,
    ) -> None:
        self.pen = pen
        self.shared = shared
        self.combine = combine
        self.parts = [
            EnsembleMember(place, prompt, kept, self)
            for place, (prompt, kept) in enumerate(zip(prompts, parked, strict=True))
        ]
        self._lock = threading.Lock()
        self._logits: dict[int, Tensor] = {}
        self._lanes = len(self.parts)
        self._settled = False
        self._when_ready: Callable[[Ensemble], None] = _not_placed

    def place(
        self, models: Sequence[str], posts: Sequence[Post], when_ready: Callable[[Ensemble], None]
    ) -> None:
        """Say for each part which model it is for and which thread runs that, and what to call
        when all models have given their logits."""
        self._when_ready = when_ready
        for part, model, post in zip(self.parts, models, posts, strict=True):
            part.model, part.post = model, post

    @property
    def cancelled(self) -> bool:
        return any(part.cancelled for part in self.parts)

    def offer(self, place: int, logits: Tensor) -> None:
        """Add the logits of one part; the last ones make the ensemble ready."""
        with self._lock:
            self._logits[place] = logits
            ready = len(self._logits) == len(self.parts)
        if ready:
            self._when_ready(self)

    def collect(self) -> list[Tensor]:
        """Take the logits of all parts, in their order."""
        with self._lock:
            logits, self._logits = self._logits, {}
        return [logits[place] for place in range(len(self.parts))]

    def constrain(self) -> bool:
        """Ask the constraint which tokens may follow; True if none may, so the answer is
        complete."""
        try:
            return self.pen.constrain()
        except Exception as error:  # a constraint's error fails only its own answer
            self.fail(error)
            return False

    def parted(self) -> None:
        """Count a parked lane; the last one completes the answer."""
        with self._lock:
            self._lanes -= 1
            complete = not self._lanes and not self._settled
            self._settled = self._settled or complete
        if complete:
            self.parts = []  # which hold this, and the lanes: nothing needs them any more
            self.pen.finished()

    def fail(self, error: Exception) -> None:
        """Fail the whole ensemble, because one model failed."""
        with self._lock:
            if self._settled:
                return
            self._settled = True
        self.cancel()
        self.pen.reject(error)

    def cancel(self) -> None:
        """Cancel; each thread frees its lanes in its next round, which this starts."""
        for part in self.parts:
            part.cancelled = True
        for post in {part.post for part in self.parts}:
            post(_no_call)


def _nowhere(call: Callable[[], None]) -> None:
    """The thread of a part that is not placed."""


def _no_call() -> None:
    """Only wakes a thread."""


def _not_placed(ensemble: Ensemble) -> None:
    raise AssertionError("an ensemble is placed before its parts run")
