"""Fitting a linear head: multinomial logistic regression on frozen hidden states."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from taketurns.config.team_config import TeamConfig
from taketurns.errors import ConfigError
from taketurns.switchers.head import Head, HeadConfig, Scale, View
from taketurns.training.divergence import checked_step
from taketurns.training.supervised.choice_metrics import measure_choices
from taketurns.training.supervised.examples import Example
from taketurns.training.supervised.settings import HeadSettings, TrainingConfig
from taketurns.training.supervised.shrinkage import Maps, ShrunkHead, shrink

if TYPE_CHECKING:
    from torch import Tensor

EPOCHS, LEARNING_RATE, WEIGHT_DECAY = 60, 3e-3, 0.3
LEAST_DEVIATION = 1e-3


@dataclass(frozen=True, slots=True)
class FittedHead:
    """The head of the best epoch after shrinkage, the validation metrics of every epoch before
    shrinkage, and the best epoch, from 1."""

    shrunk: ShrunkHead
    history: Sequence[Mapping[str, float]]
    best_epoch: int

    @property
    def head(self) -> Head:
        return self.shrunk.head


def head_config(team: TeamConfig, settings: HeadSettings) -> HeadConfig:
    """What a head of this team reads. Raises ConfigError for an unknown reader or layer."""
    names = tuple(candidate.name for candidate in team.candidates)
    reader = settings.reader or names[-1]
    if reader not in names:
        raise ConfigError(
            f"there is no candidate {reader!r} to read (--reader); the candidates are "
            f"{', '.join(names)}"
        )
    config = HeadConfig(settings.mode, names, reader)
    specs = {candidate.name: candidate.spec for candidate in team.candidates}
    layers = {name: _layers(name, specs[name], settings.layers) for name in config.readers}
    return HeadConfig(settings.mode, names, reader, layers)


def fit(
    config: HeadConfig,
    views: Sequence[View],
    train: Sequence[Example],
    validation: Sequence[Example],
    training: TrainingConfig,
    bias: bool = True,
) -> FittedHead:
    """Fit a head. `views` are those of the training examples, then those of the validation
    examples. Without `bias` the logits are a matrix times the states. Raises NotANumberError if
    training diverges."""
    import torch

    scales = _scales(config, views[: len(train)], bias)
    matrix = torch.stack([_features(config, scales, view, bias) for view in views])
    weight, history, best = _descend(config, matrix, train, validation, training)
    one_size = len({len(scale.mean) for scale in scales.values()}) == 1 < len(scales)
    shared_rows = [_shared_row(config, scales, view, bias) for view in views] if one_size else []

    def learn(places: Sequence[int]) -> Maps:
        """Fit some of the training examples, for the number of epochs that was best for all."""
        rows, settings = list(places), replace(training, epochs=best)
        examples = [train[row] for row in rows]
        weight, *_ = _descend(config, matrix[rows], examples, (), settings)
        shared = None
        if one_size:
            inputs = torch.stack([shared_rows[row] for row in rows])
            maps, *_ = _descend(config, inputs, examples, (), settings)
            shared = maps[:, :-1], maps[:, -1]
        return Maps(_head(config, scales, weight), shared)

    whole = _head(config, scales, weight)
    return FittedHead(shrink(whole, views, train, validation, learn, bias), history, best)


def _descend(
    config: HeadConfig,
    matrix: Tensor,
    train: Sequence[Example],
    validation: Sequence[Example],
    training: TrainingConfig,
) -> tuple[Tensor, list[Mapping[str, float]], int]:
    """The weights `[candidates, features]` of the best epoch for the rows of `matrix`, the metrics
    of every epoch on `validation`, and the best epoch, from 1 (the last one without
    `validation`)."""
    features, held_out = matrix[: len(train)], matrix[len(train) :]
    loss, measure = loss_on(train), measure_on(validation)
    return descend_linearly(len(config.candidates), features, loss, training, held_out, measure)


def loss_on(train: Sequence[Example]) -> Callable[[Tensor, Tensor], Tensor]:
    """The mean cross-entropy with the targets of examples, as `loss_of` of `descend`."""
    import torch

    targets = torch.tensor([example.target for example in train])

    def loss(rows: Tensor, logprobs: Tensor) -> Tensor:
        return -(targets[rows] * logprobs).sum(-1).mean()

    return loss


def measure_on(
    validation: Sequence[Example],
) -> Callable[[Tensor], tuple[Mapping[str, float], float]]:
    """The metrics of choices by the labels of examples, as `measure` of `descend`."""

    def measure(logits: Tensor) -> tuple[Mapping[str, float], float]:
        metrics = measure_choices(logits.softmax(-1).tolist(), validation)
        return metrics.to_json(), metrics.selection_metric

    return measure


def descend_linearly(
    candidates: int,
    features: Tensor,
    loss_of: Callable[[Tensor, Tensor], Tensor],
    training: TrainingConfig,
    held_out: Tensor,
    measure: Callable[[Tensor], tuple[Mapping[str, float], float]],
) -> tuple[Tensor, list[Mapping[str, float]], int]:
    """`descend` for logits that are the weights `[candidates, d]`, from 0, times the `features`
    `[rows, d]`."""
    import torch

    start = [torch.zeros(candidates, features.shape[1])]

    def logits(rows: Tensor, weights: Sequence[Tensor]) -> Tensor:
        return rows @ weights[0].T

    (weight,), history, best = descend(
        start, logits, features, loss_of, training, held_out, measure
    )
    return weight, history, best


def descend(
    start: Sequence[Tensor],
    logits_of: Callable[[Tensor, Sequence[Tensor]], Tensor],
    features: Tensor,
    loss_of: Callable[[Tensor, Tensor], Tensor],
    training: TrainingConfig,
    held_out: Tensor,
    measure: Callable[[Tensor], tuple[Mapping[str, float], float]],
) -> tuple[list[Tensor], list[Mapping[str, float]], int]:
    """The weights of the best epoch, from those of the `start`, the metrics of every epoch, and the
    best epoch, from 1 (the last one if no row is `held_out`).

    `logits_of` gets rows of `features` and the weights, and gives the candidates' logits `[rows,
    candidates]`; `loss_of` gets indices of rows and the log-probabilities there. `measure` gets the
    logits at the held-out rows and gives metrics, and what is highest in the best epoch. Raises
    NotANumberError if training diverges.
    """
    import torch

    weights = [tensor.clone().requires_grad_() for tensor in start]
    optimizer = torch.optim.AdamW(
        weights,
        lr=training.learning_rate or LEARNING_RATE,
        weight_decay=WEIGHT_DECAY if training.weight_decay is None else training.weight_decay,
    )
    order = torch.Generator().manual_seed(training.seed)
    history: list[Mapping[str, float]] = []
    best, best_epoch, best_metric = _copies(weights), 0, float("-inf")
    for epoch in range(1, (training.epochs or EPOCHS) + 1):
        shuffled = torch.randperm(len(features), generator=order)
        for first in range(0, len(features), training.batch_size):
            rows = shuffled[first : first + training.batch_size]
            logprobs = logits_of(features[rows], weights).log_softmax(-1)
            checked_step(optimizer, weights, [loss_of(rows, logprobs)], f"epoch {epoch}")
        if not len(held_out):
            best, best_epoch = _copies(weights), epoch
            continue
        with torch.no_grad():
            metrics, metric = measure(logits_of(held_out, weights))
        history.append({"epoch": float(epoch), **metrics})
        if metric > best_metric:
            best, best_epoch, best_metric = _copies(weights), epoch, metric
    return best, history, best_epoch


def _copies(weights: Sequence[Tensor]) -> list[Tensor]:
    return [weight.detach().clone() for weight in weights]


def _layers(name: str, spec: Any, wanted: Sequence[int]) -> tuple[int, ...]:
    """The layers of a model to read; 0 is the embedding. Raises ConfigError for one that the model
    does not have."""
    from taketurns.checkpoints.model_config import read_config

    depth = int(read_config(spec).get_text_config().num_hidden_layers)
    if not wanted:
        return tuple(sorted({max(1, depth // 2), max(1, 3 * depth // 4), depth}))
    for layer in wanted:
        if not -depth - 1 <= layer <= depth:
            raise ConfigError(
                f"there is no layer {layer} in {name}: give --layer from 0 (the embedding) to "
                f"{depth}, or from -{depth + 1} to -1"
            )
    return tuple(layer % (depth + 1) for layer in wanted)


def _scales(config: HeadConfig, views: Sequence[View], bias: bool) -> dict[str, Scale]:
    """The mean (0 without `bias`) and standard deviation of each reader's states; a reader without
    states in `views` is left out."""
    import torch

    scales = {}
    for name in config.readers:
        mine = [v.states for v in views if config.candidates[v.reader] == name]
        states = [s for s in mine if s is not None]
        if states:
            stack = torch.stack(states)
            deviation = stack.std(0, correction=0) + LEAST_DEVIATION
            mean = stack.mean(0) if bias else torch.zeros(stack.shape[1])
            scales[name] = Scale(mean, deviation, torch.zeros(0))
    return scales


def _features(config: HeadConfig, scales: Mapping[str, Scale], view: View, bias: bool) -> Tensor:
    """One row: a block per reader, zero except for the one that reads, and, with `bias`, a one-hot
    code of the last speaker."""
    import torch

    blocks = []
    for name, scale in scales.items():
        if view.states is not None and config.candidates[view.reader] == name:
            blocks.append((view.states - scale.mean) / scale.deviation)
        else:
            blocks.append(torch.zeros(len(scale.mean)))
    last = torch.zeros(len(config.candidates) + 1)
    last[view.last] = bias
    return torch.cat([*blocks, last])


def _shared_row(config: HeadConfig, scales: Mapping[str, Scale], view: View, bias: bool) -> Tensor:
    """One row for the weights that all readers share: the standardised states, and, with `bias`,
    a one."""
    import torch

    scale = scales.get(config.candidates[view.reader])
    if view.states is None or scale is None:
        states = torch.zeros(len(next(iter(scales.values())).mean))
    else:
        states = (view.states - scale.mean) / scale.deviation
    return torch.cat([states, torch.tensor([float(bias)])])


def _head(config: HeadConfig, scales: Mapping[str, Scale], weight: Tensor) -> Head:
    """The head of a fitted matrix `[candidates, features]`."""
    import torch

    sizes = [len(scale.mean) for scale in scales.values()]
    *blocks, bias = torch.split(weight, [*sizes, len(config.candidates) + 1], dim=1)
    return Head(
        config,
        {
            name: Scale(scale.mean, scale.deviation, block.clone())
            for (name, scale), block in zip(scales.items(), blocks, strict=True)
        },
        bias.T.clone(),
    )
