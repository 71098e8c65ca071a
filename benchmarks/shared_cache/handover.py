"""One hand-over: a model writes the beginning of a text, another one reads it and goes on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from benchmarks.shared_cache.answers import Divergence, batches, compare, without_end
from benchmarks.shared_cache.layers import NONE, SharedLayers
from benchmarks.shared_cache.turns import Turns

WRITER, READER = 0, 1


def _begun(
    models: Sequence[Any],
    prompts: Sequence[Sequence[int]],
    beginnings: Sequence[Sequence[int]],
    more: int,
    batch: int,
) -> Iterator[tuple[list[int], Turns]]:
    """Batches of texts as the writer leaves them, with the numbers of their prompts. The beginnings
    have one length."""
    for rows in batches(prompts, batch):
        starts = [prompts[row] for row in rows]
        room = max(map(len, starts)) + len(beginnings[0]) + more
        turns = Turns(models, starts, room, remember=True)
        turns.follow(WRITER, torch.tensor([list(beginnings[row]) for row in rows]))
        yield rows, turns


def finish_answers(
    models: tuple[Any, Any],
    prompts: Sequence[Sequence[int]],
    beginnings: Sequence[Sequence[int]],
    choices: Sequence[SharedLayers],
    budget: int,
    end: int,
    batch: int,
) -> dict[str, list[list[int]]]:
    """Answers that the first model began and the second one finishes greedily in up to `budget`
    tokens, without the end token, by the name of the shared layers."""
    answers: dict[str, list[list[int]]] = {layers.name: [[] for _ in prompts] for layers in choices}
    for rows, begun in _begun(models, prompts, beginnings, budget, batch):
        for layers in choices:
            turns = begun.shared_by(layers)
            first = turns.columns
            turns.write(READER, budget, end, torch.zeros(len(rows), dtype=torch.bool))
            for place, row in enumerate(rows):
                written = without_end(turns.tokens[place, first:].tolist(), end)
                answers[layers.name][row] = [*beginnings[row], *written]
    return answers


def handover_divergence(
    models: tuple[Any, Any],
    prompts: Sequence[Sequence[int]],
    texts: Sequence[Sequence[int]],
    read: int,
    choices: Sequence[SharedLayers],
    batch: int,
) -> dict[str, Divergence]:
    """How far the second model's next-token distributions over given texts are from those with
    nothing shared, by the name of the shared layers. The texts have one length; the first model
    wrote the prompt and the first `read` tokens."""
    length = len(texts[0])
    sums = {layers.name: [0.0, 0.0] for layers in choices}
    for rows, begun in _begun(models, prompts, [text[:read] for text in texts], length, batch):
        rest = torch.tensor([list(texts[row][read:]) for row in rows])
        expected = begun.shared_by(NONE).follow(READER, rest)
        for layers in choices:
            found = begun.shared_by(layers).follow(READER, rest)
            far, same = compare(expected.flatten(0, 1), found.flatten(0, 1))
            sums[layers.name][0] += far
            sums[layers.name][1] += same
    count = len(prompts) * (length - read)
    return {
        name: Divergence(far / count, same / count, count) for name, (far, same) in sums.items()
    }
