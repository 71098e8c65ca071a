"""What a shared cache saves: measured memory and the measured time of a catch-up.

    python -m benchmarks.shared_cache.cost --model NAME=FOLDER … --output FILE

A catch-up is what a model does when its turn comes: it reads the tokens that another one wrote
since, and gives its logits for the next one. The three models are one model's weights, which
changes no time. Every round measures all choices of layers, in an order that rotates. The ratio is
of processor time to that with nothing shared in the same round; reported are the median, the
lowest and the highest. Memory is that of all keys, values and handed-over hidden states of three
models that have read the same text.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from benchmarks.shared_cache.layers import NONE, SharedLayers, lower, upper
from benchmarks.shared_cache.turns import Turns
from taketurns.engines.local.library_logging import quiet
from taketurns.utils.files import write_text

CONTEXT = 128  # tokens that all have read before
SHAPES = ((1, 16), (1, 64), (1, 256), (8, 16), (8, 64))  # rows, tokens to read
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class CatchUp:
    """The seconds of catch-ups with some layers shared, and of the same with none, in the same
    rounds."""

    model: str
    dtype: str
    rows: int
    tokens: int
    layers: str
    seconds: float
    plain_seconds: float
    ratio: float
    lowest: float
    highest: float


@dataclass(frozen=True, slots=True)
class Memory:
    """The bytes of three models' caches of one text, over those with nothing shared; `hidden` is
    the part of the hidden states that are handed over."""

    model: str
    layers: str
    ratio: float
    hidden: float


def choices(layers: int) -> list[SharedLayers]:
    """Half, three quarters and all of the lower layers, and the upper half."""
    counts = sorted({layers // 2, layers * 3 // 4, layers})
    return [*map(lower, counts), upper(layers // 2, layers)]


def catch_ups(
    name: str, dtype: str, model: Any, shape: tuple[int, int], rounds: int
) -> list[CatchUp]:
    """The catch-ups of one shape."""
    tried = [NONE, *choices(model.config.num_hidden_layers)]
    ready = [_ready(model, layers, *shape) for layers in tried]
    seconds: list[list[float]] = [[] for _ in tried]
    for number in range(rounds + 1):
        for place in range(len(tried)):
            which = (place + number) % len(tried)
            turns = ready[which].copy()
            begun = process_time()
            turns.catch_up(1)
            if number:  # the first round warms caches up
                seconds[which].append(process_time() - begun)
    plain, *shared = seconds
    made = []
    for layers, spent in zip(tried[1:], shared, strict=True):
        ratios = [one / other for one, other in zip(spent, plain, strict=True)]
        figures = (median(spent), median(plain), median(ratios), min(ratios), max(ratios))
        made.append(CatchUp(name, dtype, *shape, layers.name, *figures))
    return made


def _ready(model: Any, layers: SharedLayers, rows: int, tokens: int) -> Turns:
    """Texts of which one model has written the last tokens, before another one reads them."""
    draws = torch.Generator().manual_seed(0)
    vocabulary = model.config.vocab_size

    def drawn(count: int) -> torch.Tensor:
        return torch.randint(vocabulary, (rows, count), generator=draws)

    turns = Turns([model] * 3, drawn(CONTEXT).tolist(), CONTEXT + tokens, layers)
    turns.follow(0, drawn(1))
    turns.catch_up(1)
    turns.follow(0, drawn(tokens - 1))
    return turns


def memory(name: str, model: Any, layers: SharedLayers) -> Memory:
    """The memory of three models' caches with these layers shared."""
    plain, shared = (_read_by_all(model, choice) for choice in (NONE, layers))
    hidden = sum(cells.nbytes for cells in shared.handed.values())
    return Memory(name, layers.name, shared.nbytes / plain.nbytes, hidden / plain.nbytes)


def _read_by_all(model: Any, layers: SharedLayers) -> Turns:
    turns = Turns([model] * 3, [list(range(3, 35))], 64, layers)
    for speaker in range(3):
        turns.catch_up(speaker)
    return turns


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and write `{"setup": {…}, "memory": […], "catch_ups": […]}`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", action="append", required=True, metavar="NAME=FOLDER")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dtype", nargs="+", choices=[*DTYPES], default=[*DTYPES])
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    setup = {"threads": options.threads, "rounds": options.rounds, "context": CONTEXT}
    kept: list[Memory] = []
    timed: list[CatchUp] = []
    for name, _, folder in (model.partition("=") for model in options.model):
        for dtype in options.dtype:
            with quiet():
                model = AutoModelForCausalLM.from_pretrained(folder, dtype=DTYPES[dtype]).eval()
            tried = choices(model.config.num_hidden_layers)
            if dtype == options.dtype[0]:
                kept += [memory(name, model, layers) for layers in tried]
            for shape in SHAPES:
                rows = catch_ups(name, dtype, model, shape, options.rounds)
                print(name, dtype, shape, *(f"{row.layers} {row.ratio:.2f}" for row in rows))
                timed += rows
                found = {"memory": [*map(asdict, kept)], "catch_ups": [*map(asdict, timed)]}
                # At once, so that a run that is stopped leaves what it measured.
                write_text(options.output, json.dumps({"setup": setup, **found}) + "\n")


if __name__ == "__main__":
    main()
