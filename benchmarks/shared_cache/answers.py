"""Greedy answers of models that take turns in a given order, and how sharing changes them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any

import torch
from torch import Tensor

from benchmarks.shared_cache.layers import NONE, SharedLayers
from benchmarks.shared_cache.turns import HANDED_OVER, HiddenStates, Turns


@dataclass(frozen=True, slots=True)
class Order:
    """The speakers of an answer's patches, by their numbers. The last one writes on to the end, or
    the order begins `again`."""

    name: str
    speakers: tuple[int, ...]
    again: bool = False

    def patches(self, size: int, budget: int) -> Iterator[tuple[int, int]]:
        """Speaker and tokens of each patch of an answer of `budget` tokens."""
        tail = self.speakers if self.again else self.speakers[-1:]
        speakers = chain(self.speakers, chain.from_iterable(repeat(tail)))
        for start in range(0, budget, size):
            yield next(speakers), min(size, budget - start)


@dataclass(frozen=True, slots=True)
class Setting:
    """How answers are written: in which order, in patches of `patch` tokens, with which layers
    shared."""

    order: Order
    patch: int
    layers: SharedLayers = NONE
    hidden_states: HiddenStates = HANDED_OVER

    @property
    def name(self) -> str:
        """A file's name."""
        how = "" if self.hidden_states == HANDED_OVER else f" {self.hidden_states}"
        return f"{self.order.name}, {self.patch}, {self.layers.name}{how}".replace(" ", "_")


def write_answers(
    models: Sequence[Any],
    prompts: Sequence[Sequence[int]],
    setting: Setting,
    budget: int,
    end: int,
    batch: int,
) -> list[list[int]]:
    """The tokens of each prompt's answer, at most `budget`, without the end token."""
    answers: list[list[int]] = [[] for _ in prompts]
    for rows in batches(prompts, batch):
        _write_batch(models, prompts, rows, setting, budget, end, answers)
    return answers


def batches(prompts: Sequence[Sequence[int]], size: int) -> list[list[int]]:
    """The numbers of the prompts in batches of similar lengths."""
    ordered = sorted(range(len(prompts)), key=lambda number: len(prompts[number]))
    return [ordered[start : start + size] for start in range(0, len(ordered), size)]


def _write_batch(
    models: Sequence[Any],
    prompts: Sequence[Sequence[int]],
    rows: list[int],
    setting: Setting,
    budget: int,
    end: int,
    answers: list[list[int]],
) -> None:
    turns = _begin(models, [prompts[row] for row in rows], setting, budget)
    first = turns.columns
    ended = torch.zeros(len(rows), dtype=torch.bool)
    for speaker, tokens in setting.order.patches(setting.patch, budget):
        ended = turns.write(speaker, tokens, end, ended)
        for place, row in enumerate(rows):
            answers[row] = without_end(turns.tokens[place, first:].tolist(), end)
        if ended.all():
            return
        if ended.any():
            going = (~ended).nonzero()[:, 0]
            turns.keep(going)
            rows, ended = [rows[place] for place in going], ended[going]


def _begin(
    models: Sequence[Any], prompts: Sequence[Sequence[int]], setting: Setting, budget: int
) -> Turns:
    room = max(map(len, prompts)) + budget
    return Turns(models, prompts, room, setting.layers, setting.hidden_states)


def without_end(tokens: list[int], end: int) -> list[int]:
    """The tokens before the first end token."""
    return tokens[: tokens.index(end)] if end in tokens else tokens


@dataclass(frozen=True, slots=True)
class Divergence:
    """The next-token distributions of a shared cache beside those of separate ones, over `tokens`
    of given texts: the mean Kullback-Leibler divergence in nats, and the share of places where the
    most probable token is the same."""

    divergence: float
    agreement: float
    tokens: int


def divergence(
    models: Sequence[Any],
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    settings: Sequence[Setting],
    batch: int,
) -> list[Divergence]:
    """The divergence of each setting from the same order and patches with nothing shared. Only
    places after the first change of speaker count, where a speaker reads what it did not write.
    All settings have one order and one patch size. Answers of one patch are left out."""
    [(order, patch)] = {(setting.order, setting.patch) for setting in settings}
    plain = Setting(order, patch)
    sums = [[0.0, 0.0] for _ in settings]
    count = 0
    several = [row for row, answer in enumerate(answers) if len(answer) > patch]
    for numbers in batches([prompts[row] for row in several], batch):
        rows = [several[number] for number in numbers]
        longest = max(len(answers[row]) for row in rows)
        padded = torch.tensor([[*answers[r], *[0] * (longest - len(answers[r]))] for r in rows])
        real = torch.tensor([[place < len(answers[r]) for place in range(longest)] for r in rows])
        starts = [prompts[row] for row in rows]
        expected = _begin(models, starts, plain, longest)
        tried = [_begin(models, starts, setting, longest) for setting in settings]
        at, first = 0, order.speakers[0]
        met = False
        for speaker, tokens in order.patches(patch, longest):
            met = met or speaker != first
            here = slice(at, at + tokens)
            at += tokens
            reference = expected.follow(speaker, padded[:, here])
            shared = [turns.follow(speaker, padded[:, here]) for turns in tried]
            if not met:
                continue
            count += int(real[:, here].sum())
            kept = reference[real[:, here]]
            for sum_, logits in zip(sums, shared, strict=True):
                far, same = compare(kept, logits[real[:, here]])
                sum_[0] += far
                sum_[1] += same
    return [Divergence(far / count, same / count, count) for far, same in sums]


def compare(reference: Tensor, logits: Tensor) -> tuple[float, float]:
    """The sum of divergences over rows, and the number of rows with the same first choice."""
    expected, found = reference.log_softmax(-1), logits.log_softmax(-1)
    far = (expected.exp() * (expected - found)).sum()
    same = (reference.argmax(-1) == logits.argmax(-1)).sum()
    return float(far), float(same)
