"""Small trained judges: logistic regression on a candidate's hidden states.

The ridge strength is chosen by cross-validation. Predictions for the training questions come from
fits without these questions, so that choices based on them do not use hindsight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from taketurns.engines.base import DeepSession
from taketurns.errors import UsageError
from taketurns.evaluation.methods.base import MethodContext
from taketurns.types import Query
from taketurns.utils.seeds import derive, generator

if TYPE_CHECKING:
    from torch import Tensor

RIDGES = (0.3, 0.1, 0.03, 0.01)
FOLDS = 5
LEAST_DEVIATION = 1e-3


@dataclass(frozen=True, slots=True)
class LogisticRegression:
    """Probabilities `[rows, classes]` from features `[rows, d]`."""

    mean: Tensor
    deviation: Tensor
    weight: Tensor

    def probabilities(self, features: Tensor) -> Tensor:
        return (_with_one((features - self.mean) / self.deviation) @ self.weight.T).softmax(-1)


def train(features: Tensor, targets: Tensor, ridge: float) -> LogisticRegression:
    """Fit to soft targets `[rows, classes]` by L-BFGS from zero weights; the same rows give the
    same result."""
    import torch

    deviation = features.std(0, correction=0) + LEAST_DEVIATION
    mean = features.mean(0)
    inputs = _with_one((features - mean) / deviation)
    weight = torch.zeros(targets.shape[1], inputs.shape[1], requires_grad=True)
    optimizer = torch.optim.LBFGS([weight], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        fit = -(targets * (inputs @ weight.T).log_softmax(-1)).sum(-1).mean()
        # The last column is the bias, which has no penalty.
        value = fit + ridge / 2 * weight[:, :-1].square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return LogisticRegression(mean, deviation, weight.detach())


def cross_validate(
    features: Tensor, targets: Tensor, groups: Sequence[str]
) -> tuple[float, Tensor]:
    """The ridge with the lowest loss on held-out rows, and its held-out probabilities `[rows,
    classes]`. Rows of one group (a question) are held out together."""
    import torch

    order = {group: place for place, group in enumerate(dict.fromkeys(groups))}
    shuffled = generator(derive(0, "folds")).permutation(len(order))
    fold = torch.tensor([int(shuffled[order[group]]) % FOLDS for group in groups])
    best: tuple[float, float, Tensor] | None = None
    for ridge in RIDGES:
        held_out = torch.zeros_like(targets)
        for number in range(FOLDS):
            out = fold == number
            if bool(out.any()) and not bool(out.all()):
                judge = train(features[~out], targets[~out], ridge)
                held_out[out] = judge.probabilities(features[out])
        loss = float(-(targets * held_out.clamp_min(1e-9).log()).sum(-1).mean())
        if best is None or loss < best[0]:
            best = (loss, ridge, held_out)
    assert best is not None
    return best[1], best[2]


class HiddenStateReader:
    """Hidden states of the last candidate at the last token of a question, or of a question and an
    answer, from three layers of its upper half."""

    def __init__(self, context: MethodContext) -> None:
        self._context = context
        self._team = context.alone(context.last)

    async def check(self) -> None:
        """Raise UsageError if the engine gives no hidden states."""
        info = await self._context.engine.info(self._context.last)
        if "hidden" not in info.capabilities:
            raise UsageError(
                f"the engine of {info.name} gives no hidden states, which this method needs: use "
                "engine.kind local, or leave the method out"
            )

    async def features(self, query: Query, answer: str = "") -> Tensor:
        """The states of the three layers, joined, `[d]`. Raises PromptError if the question does
        not fit the context."""
        draft = await self._team.draft(query)
        info = await self._context.engine.info(self._context.last)
        room = draft.room(0)
        ids = [*draft.prompt(0), *info.codec.encode(answer)[: room - 1]]
        async with self._context.engine.session(0, len(ids) + 1) as session:
            deep = cast(DeepSession, session)  # check() has tested the engine
            states: Any = await deep.hidden(self._context.last, ids, await self._layers())
        return cast("Tensor", states.flatten())

    async def _layers(self) -> tuple[int, ...]:
        from taketurns.checkpoints.model_config import read_config

        if self._found is None:
            spec = self._context.config.candidates[-1].spec
            depth = int(read_config(spec).get_text_config().num_hidden_layers)
            self._found = tuple(sorted({max(1, depth // 2), max(1, 3 * depth // 4), depth}))
        return self._found

    _found: tuple[int, ...] | None = None


def _with_one(inputs: Tensor) -> Tensor:
    import torch

    return torch.cat((inputs, torch.ones(len(inputs), 1)), 1)
