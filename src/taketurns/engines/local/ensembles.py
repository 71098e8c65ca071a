"""Ensembles: several models write one text together; their distributions are combined per token.

Each model has a lane with the answer, as if it wrote alone, and receives the drawn token instead of
drawing one. The distributions are over the outcomes that the models share: ordinary tokens, whose
ids are equal, and the end, whose probability is the sum over a model's end tokens.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
import torch
from torch import Tensor

from taketurns.checkpoints.text import SharedVocabulary
from taketurns.engines.base import Combine, ModelInfo
from taketurns.engines.local.logits import Ids, shaped
from taketurns.engines.local.next_token import barred_tokens
from taketurns.engines.local.parked import Parked
from taketurns.engines.local.requests import GenerateRequest, Job
from taketurns.engines.local.sampling import drawable, sample
from taketurns.errors import ConfigError, NotANumberError


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
        rows = []
        for model, row in enumerate(logits):
            whole = torch.log_softmax(row.cpu(), -1)
            end = torch.logsumexp(whole[:, self.ends[model]], -1, keepdim=True)
            rows.append(torch.cat((whole[:, self.ordinary], end), -1))
        return torch.stack(rows, 1)


class EnsembleMember(Job):
    """One model's lane in an ensemble."""

    def __init__(self, prompt: Sequence[int], parked: Parked, ensemble: Ensemble) -> None:
        super().__init__(prompt, parked, lambda result: None, ensemble.fail)
        self.reach += ensemble.pen.reach - len(ensemble.pen.prompt)
        self.logits: Tensor | None = None
        self.told: int | None = None
        self._ensemble = ensemble

    def offer(self, logits: Tensor) -> None:
        """Add the model's logits `[vocabulary]` after the text so far."""
        if drawable(logits):
            self.logits = logits
        else:
            self.fail_at("the next token")
            assert self.failure is not None
            self._ensemble.fail(self.failure)

    def finished(self) -> None:
        """Record that the lane is parked."""
        self._ensemble.parted()


class Ensemble:
    """An answer that several models write together. `pen` draws and counts for all of them; it is
    never submitted to a runner."""

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
            EnsembleMember(p, kept, self) for p, kept in zip(prompts, parked, strict=True)
        ]
        self._lanes = len(self.parts)

    @property
    def over(self) -> bool:
        """Whether the answer is finished, failed or cancelled."""
        return all(part.cancelled or part.ended for part in self.parts)

    @property
    def ready(self) -> bool:
        """Whether every model has given its logits."""
        return not self.over and all(part.logits is not None for part in self.parts)

    def take(self, token: int) -> None:
        """Give the drawn token to all models."""
        finish = self.pen.take(token)
        for part in self.parts:
            part.logits = None
            part.ended = finish is not None
            part.told = token

    def constrain(self) -> None:
        """Ask the constraint which tokens may follow; end the answer if none may."""
        try:
            whole = self.pen.constrain()
        except Exception as error:  # a constraint's error fails only its own answer
            self.fail(error)
            return
        for part in self.parts if whole else ():
            part.ended = True

    def parted(self) -> None:
        """Count a parked lane; the last one completes the answer."""
        self._lanes -= 1
        if not self._lanes:
            self.pen.finished()

    def fail(self, error: Exception) -> None:
        """Fail the whole ensemble, because one model failed."""
        if not self.over:
            self.cancel()
            self.pen.reject(error)

    def cancel(self) -> None:
        """Cancel; the lanes are freed in the next round."""
        for part in self.parts:
            part.cancelled = True


def advance(ensembles: Iterable[Ensemble]) -> list[Ensemble]:
    """Draw the next token of every ensemble that is ready. Returns those that are not over."""
    left = [ensemble for ensemble in ensembles if not ensemble.over]
    alike: defaultdict[tuple[Shared, Combine], list[Ensemble]] = defaultdict(list)
    for ensemble in left:
        if ensemble.ready:
            alike[ensemble.shared, ensemble.combine].append(ensemble)
    for (shared, combine), group in alike.items():
        try:
            _draw(shared, combine, group)
        except Exception as error:  # an error in `combine` fails only the ensembles that use it
            for ensemble in group:
                ensemble.fail(error)
    return left


@torch.inference_mode()
def _draw(shared: Shared, combine: Callable[[Tensor], Tensor], group: Sequence[Ensemble]) -> None:
    models = range(len(shared.ends))
    logits = [torch.stack([_logits(e.parts[model]) for e in group]) for model in models]
    scores = combine(shared.logprobs(logits))
    sound = drawable(scores).tolist()
    for ensemble, drawn_from in zip(group, sound, strict=True):
        if not drawn_from:
            names = ", ".join(part.model for part in ensemble.parts)
            ensemble.fail(NotANumberError(f"{names} together gave NaN or infinity as logits"))
    for ensemble, drawn_from in zip(group, sound, strict=True):
        if drawn_from and ensemble.pen.constraint is not None:
            ensemble.constrain()
    rows = [row for row, ensemble in enumerate(group) if sound[row] and not ensemble.over]
    going = [group[row] for row in rows]
    if not going:
        return
    scores = _constrained(scores[rows], shared, going)
    scores = shaped(scores, [ensemble.pen.shaper for ensemble in going], shared.columns)
    drawn = sample(scores, [ensemble.pen.draw() for ensemble in going]).tolist()
    for ensemble, index in zip(going, drawn, strict=True):
        ends = index == len(shared.ordinary)
        ensemble.take(shared.end if ends else int(shared.ordinary[index]))


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


def _logits(part: EnsembleMember) -> Tensor:
    assert part.logits is not None
    return part.logits
