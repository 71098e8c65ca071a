"""Shrinkage of a head's weights for readers with few labels.

Each reader has its own map, from its states to logits, and thousands of weights fitted to a few
labels are unreliable. So the map of a reader with fewer than `PLENTY` labels is shrunk towards one
of two targets: a map that all readers share (if their states have equal sizes), or the prior, which
is how often each candidate is best. A reader with n labels keeps the share n / (n + strength) of
its own map. Held-out labels weight all combinations of target and strength: the validation labels,
and, because these are few as well, each third of the training labels under maps fitted to the other
thirds. The head is the mean over all combinations, weighted by the likelihood of the held-out
labels. A reader with fewer than `LEAST` labels has no map, and the prior decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import TYPE_CHECKING, Any

from taketurns.switchers.head import LEAST, Head, HeadConfig, Scale, View
from taketurns.training.supervised.choice_metrics import measure_choices
from taketurns.training.supervised.examples import Example
from taketurns.utils.seeds import derive

if TYPE_CHECKING:
    from torch import Tensor


PLENTY = 200
FOLDS = 3
STRENGTHS = (inf, 256.0, 64.0, 16.0, 0.0)


@dataclass(frozen=True, slots=True)
class ShrunkHead:
    """The head; the share that each reader `kept` of its own map, and its share of the `shared`
    map; the rest is the prior. Both are None if all readers have enough labels."""

    head: Head
    kept: Mapping[str, float] | None = None
    shared: Mapping[str, float] | None = None

    def to_json(self) -> dict[str, Any]:
        return {"kept": _rounded(self.kept), "shared": _rounded(self.shared)}


@dataclass(frozen=True, slots=True)
class Maps:
    """Maps fitted to some labels: a head in which every reader has its own, and, if the readers'
    states have equal sizes, a shared map `[candidates, features]` with its bias."""

    separate: Head
    shared: tuple[Tensor, Tensor] | None


def shrink(
    separate: Head,
    views: Sequence[View],
    train: Sequence[Example],
    validation: Sequence[Example],
    learn: Callable[[Sequence[int]], Maps],
    bias: bool,
) -> ShrunkHead:
    """The head `separate`, which was fitted to all training examples, after shrinkage.

    `views` are those of the training examples, then those of the validation examples; `learn` fits
    maps to the training examples with the given indices. Without `bias` the prior is uniform."""
    import torch

    config, rows = separate.config, range(len(train))
    by_last = _by_last(config, views[: len(train)])
    counted = Head(replace(config, labels=tuple(by_last)), separate.scales, separate.bias)
    counts = _by_reader(config, views[: len(train)])
    if min(counts.values()) >= PLENTY and min(by_last) > 0:
        return ShrunkHead(counted)
    thin = any(LEAST <= count < PLENTY for count in counts.values())
    shared = learn(rows).shared if thin else None

    def ways(maps: Maps, places: Sequence[int]) -> list[ShrunkHead]:
        seen = [views[place] for place in places]
        prior = _prior([train[place] for place in places], bias)
        filled = _filled(config, maps.separate.bias, _by_last(config, seen))
        head = Head(maps.separate.config, maps.separate.scales, filled)
        return list(_ways(head, _by_reader(config, seen), prior, maps.shared, thin))

    candidates = ways(Maps(counted, shared), rows)
    if len(candidates) == 1:
        return candidates[0]
    likely = _likely(candidates, views[len(train) :], validation)
    for held_out in _folds(train):
        rest = sorted({*rows} - {*held_out})
        examples = [train[place] for place in held_out]
        likely += _likely(ways(learn(rest), rest), [views[p] for p in held_out], examples)
    return _mean(candidates, torch.softmax(likely, -1).tolist())


def _ways(
    head: Head,
    counts: Mapping[str, int],
    prior: Tensor,
    shared: tuple[Tensor, Tensor] | None,
    thin: bool,
) -> Iterator[ShrunkHead]:
    for strength in STRENGTHS if thin else STRENGTHS[:1]:
        yield _drawn(head, counts, prior, None, strength)
    for strength in STRENGTHS[:-1] if shared is not None else ():
        yield _drawn(head, counts, prior, shared, strength)


def _likely(
    ways: Sequence[ShrunkHead], views: Sequence[View], examples: Sequence[Example]
) -> Tensor:
    """The log-likelihood of the informative labels under each head."""
    import torch

    pairs = [(v, x) for v, x in zip(views, examples, strict=True) if x.label.margin > 0]
    wanted = [example for _, example in pairs]

    def loss(head: Head) -> float:
        probabilities = [head.logits(view).softmax(-1).tolist() for view, _ in pairs]
        return len(wanted) * measure_choices(probabilities, wanted).loss if wanted else 0.0

    return -torch.tensor([loss(way.head) for way in ways])


def _folds(train: Sequence[Example]) -> list[list[int]]:
    """The indices of the examples, in parts that share no query."""
    queries = sorted(
        {example.label.query.id for example in train}, key=lambda id_: derive(0, "fold", id_)
    )
    part = {query: number % FOLDS for number, query in enumerate(queries)}
    parts: list[list[int]] = [[] for _ in range(FOLDS)]
    for place, example in enumerate(train):
        parts[part[example.label.query.id]].append(place)
    return [part for part in parts if part and len(part) < len(train)]


def _prior(examples: Sequence[Example], bias: bool) -> Tensor:
    """The logarithm of the share of labels in which each candidate is best, with one added to each
    count; zeros without `bias`."""
    import torch

    total = torch.tensor([example.target for example in examples]).sum(0) + 1
    return (total / total.sum()).log() if bias else torch.zeros(len(total))


def _drawn(
    head: Head,
    counts: Mapping[str, int],
    prior: Tensor,
    shared: tuple[Tensor, Tensor] | None,
    strength: float,
) -> ShrunkHead:
    """The head whose readers with few labels are shrunk towards the prior, or towards `shared`."""
    scales, bias = {}, head.bias.clone()
    kept, borrowed = dict.fromkeys(counts, 0.0), dict.fromkeys(counts, 0.0)
    for name, count in counts.items():
        scale, lasts = head.scales.get(name), list(lasts_of(head.config, name))
        if count < LEAST or scale is None:
            bias[lasts] = prior
            continue
        share = 1.0 if count >= PLENTY or strength == 0 else count / (count + strength)
        kept[name], borrowed[name] = share, 0.0 if shared is None else 1 - share
        if share == 1:
            scales[name] = scale
            continue
        weight, constant = shared or (0 * scale.weight, prior)
        drawn = share * scale.weight + (1 - share) * weight
        scales[name] = Scale(scale.mean, scale.deviation, drawn)
        bias[lasts] = share * bias[lasts] + (1 - share) * constant
    return ShrunkHead(Head(head.config, scales, bias), kept, borrowed)


def _mean(heads: Sequence[ShrunkHead], weights: Sequence[float]) -> ShrunkHead:
    """The head whose logits are the weighted mean of theirs. Tensors that are equal in all stay
    bit-identical."""

    def mean(tensors: Sequence[Tensor]) -> Tensor:
        if all(tensor.equal(tensors[0]) for tensor in tensors):
            return tensors[0]
        return sum((w * t for w, t in zip(weights, tensors, strict=True)), 0 * tensors[0])

    def shares(parts: Sequence[Mapping[str, float] | None]) -> dict[str, float]:
        pairs = [(w, part or {}) for w, part in zip(weights, parts, strict=True)]
        return {name: sum(w * part[name] for w, part in pairs) for name in parts[0] or ()}

    first = heads[0].head
    scales = {
        name: Scale(scale.mean, scale.deviation, mean([h.head.scales[name].weight for h in heads]))
        for name, scale in first.scales.items()
    }
    return ShrunkHead(
        Head(first.config, scales, mean([x.head.bias for x in heads])),
        shares([x.kept for x in heads]),
        shares([x.shared for x in heads]),
    )


def _rounded(shares: Mapping[str, float] | None) -> dict[str, float] | None:
    return None if shares is None else {name: round(share, 4) for name, share in shares.items()}


def lasts_of(config: HeadConfig, name: str) -> Iterator[int]:
    """The last speakers after which a reader reads, by index; the number of candidates means that
    no candidate has spoken yet."""
    nobody = len(config.candidates)
    if config.mode == "candidate":
        yield from range(nobody + 1)
        return
    yield config.candidates.index(name)
    if name == config.reader:
        yield nobody


def _filled(config: HeadConfig, bias: Tensor, counts: Sequence[int]) -> Tensor:
    """The bias, with the mean over the same reader's other last speakers for a last speaker without
    labels."""
    filled = bias.clone()
    for name in config.readers:
        lasts = list(lasts_of(config, name))
        rows = sum(counts[last] for last in lasts)
        for last in lasts:
            if rows and not counts[last]:
                filled[last] = sum(counts[other] / rows * bias[other] for other in lasts)
    return filled


def _by_last(config: HeadConfig, views: Sequence[View]) -> list[int]:
    lasts = [view.last for view in views]
    return [lasts.count(last) for last in range(len(config.candidates) + 1)]


def _by_reader(config: HeadConfig, views: Sequence[View]) -> dict[str, int]:
    reading = [config.candidates[view.reader] for view in views if view.states is not None]
    return {name: reading.count(name) for name in config.readers}
