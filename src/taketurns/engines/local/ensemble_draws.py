"""Drawing the tokens of ensembles, whose models may run in several threads.

No thread waits for another's model: a thread with nothing else to do sleeps until a call arrives in
its inbox, and the thread whose model gave an ensemble's last logits draws and sends those calls."""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf

import numpy as np
import torch
from torch import Tensor

from taketurns.engines.base import Combine
from taketurns.engines.local.ensembles import Ensemble, Post, Shared
from taketurns.engines.local.logits import shaped
from taketurns.engines.local.next_token import barred_tokens
from taketurns.engines.local.sampling import drawable, sample
from taketurns.errors import NotANumberError


class Draws:
    """The draws of an engine's ensembles. Every thread calls `advance` after its round."""

    def __init__(self) -> None:
        self._ready: deque[Ensemble] = deque()
        self._lock = threading.Lock()  # `combine` is a caller's, and need not be thread-safe

    def add(self, ensemble: Ensemble) -> None:
        """Add an ensemble that has the logits of all its models."""
        self._ready.append(ensemble)

    def advance(self) -> None:
        """Draw the next token of every ensemble that is ready, and hand it to the models'
        threads."""
        if not self._ready:
            return
        with self._lock:
            alike: defaultdict[tuple[Shared, Combine], list[Ensemble]] = defaultdict(list)
            while self._ready:  # only a holder of the lock takes any
                ensemble = self._ready.popleft()
                if not ensemble.cancelled:
                    alike[ensemble.shared, ensemble.combine].append(ensemble)
            told: list[_Told] = []
            for (shared, combine), group in alike.items():
                try:
                    _draw(shared, combine, group, told)
                except Exception as error:  # an error in `combine` fails only its ensembles
                    for ensemble in group:
                        ensemble.fail(error)
        _deliver(told)


@dataclass(frozen=True, slots=True)
class _Told:
    """What a draw tells the parts of an ensemble: the token, if there is one, and whether the
    answer is complete."""

    ensemble: Ensemble
    token: int | None
    ends: bool


def _deliver(told: Sequence[_Told]) -> None:
    """Tell all parts, with one call for each thread, so that its next round has them all."""
    calls: defaultdict[Post, list[Callable[[], None]]] = defaultdict(list)
    for each in told:
        for part in each.ensemble.parts:
            calls[part.post].append(partial(part.hear, each.token, ends=each.ends))
    for post, group in calls.items():
        post(partial(_call_all, group))


def _call_all(calls: Sequence[Callable[[], None]]) -> None:
    for call in calls:
        call()


@torch.inference_mode()
def _draw(
    shared: Shared,
    combine: Callable[[Tensor], Tensor],
    group: Sequence[Ensemble],
    told: list[_Told],
) -> None:
    """Draw a token for each of the group, and add to `told` what its parts must know."""
    offered = zip(*(ensemble.collect() for ensemble in group), strict=True)
    scores = combine(shared.logprobs([torch.stack(rows) for rows in offered]))
    sound = drawable(scores).tolist()
    going: list[int] = []
    for row, ensemble in enumerate(group):
        if not sound[row]:
            names = ", ".join(part.model for part in ensemble.parts)
            ensemble.fail(NotANumberError(f"{names} together gave NaN or infinity as logits"))
        elif ensemble.pen.constraint is not None and ensemble.constrain():
            told.append(_Told(ensemble, None, ends=True))
        elif not ensemble.cancelled:
            going.append(row)
    if not going:
        return
    writing = [group[row] for row in going]
    scores = _constrained(scores[going], shared, writing)
    scores = shaped(scores, [ensemble.pen.shaper for ensemble in writing], shared.columns)
    drawn = sample(scores, [ensemble.pen.draw() for ensemble in writing]).tolist()
    for ensemble, index in zip(writing, drawn, strict=True):
        token = shared.end if index == len(shared.ordinary) else int(shared.ordinary[index])
        told.append(_Told(ensemble, token, ends=ensemble.pen.take(token) is not None))


def _constrained(scores: Tensor, shared: Shared, group: Sequence[Ensemble]) -> Tensor:
    """The same scores `[rows, outcomes]`, without the outcomes that a constraint does not allow."""
    rows = [row for row, ensemble in enumerate(group) if ensemble.pen.allowed is not None]
    if not rows:
        return scores
    outcomes = [*shared.ordinary.tolist(), shared.end]
    size = max(outcomes) + 1
    barred = np.stack([barred_tokens(group[row].pen, size)[outcomes] for row in rows])
    scores = scores.clone()
    scores[rows] = scores[rows].masked_fill(torch.from_numpy(barred).to(scores.device), -inf)
    return scores
