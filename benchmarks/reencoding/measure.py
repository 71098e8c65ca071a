"""What models cost that are encoded anew at their turns: each answer alone, in batches, and in
batches that go on from the last turn's cache.

    python -m benchmarks.reencoding.measure

Three models of one shape with ALiBi positions take turns in patches of 50 tokens. A ratio is the
processor time of a way over that of the first way, in which each turn encodes its whole prompt and
shares no forward; it is the median of the rounds, between the lowest and the highest. Every round
measures all ways.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from typing import Any, cast

import numpy as np
import torch
from transformers import AutoModelForCausalLM, BloomConfig, MptConfig

from taketurns.engines.local.continuation import continued_bytes
from taketurns.engines.local.parked import Parked
from taketurns.engines.local.plain_forward import PlainForward
from taketurns.engines.local.reencode import ReencodeRunner, Reencoding
from taketurns.engines.local.requests import GenerateRequest
from taketurns.types import Sampling

SPEAKERS, PATCH, TURNS, VOCABULARY = 3, 50, 6, 8192
WAYS = ("alone", "in a batch", "in a batch, continued")
SHAPES: dict[str, Callable[[], Any]] = {
    "Bloom, tiny": lambda: BloomConfig(
        vocab_size=VOCABULARY, hidden_size=64, n_layer=2, n_head=4, eos_token_id=None
    ),
    "Bloom, 30M": lambda: BloomConfig(
        vocab_size=VOCABULARY, hidden_size=512, n_layer=8, n_head=8, eos_token_id=None
    ),
    "MPT, 30M": lambda: MptConfig(
        vocab_size=VOCABULARY, d_model=512, n_layers=8, n_heads=8, max_seq_len=2048
    ),
}


def main() -> None:
    """Print a JSON line for each shape and length of the prompts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--answers", type=int, default=8, help="answers at a time")
    parser.add_argument("--prompts", type=int, nargs="+", default=[30, 500], help="tokens")
    parser.add_argument("--turns", type=int, default=TURNS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    for shape in chosen.shapes:
        speakers = [_model(SHAPES[shape](), seed) for seed in range(SPEAKERS)]
        for prompt in chosen.prompts:
            _compare(shape, speakers, prompt, chosen)


def _model(config: Any, seed: int) -> PlainForward:
    torch.manual_seed(seed)
    return PlainForward(AutoModelForCausalLM.from_config(config).eval())


def _runners(speakers: Sequence[PlainForward], way: str, answers: int) -> list[ReencodeRunner]:
    made = []
    for plain in speakers:
        kept = continued_bytes(plain) if way == WAYS[2] else None
        how = Reencoding(1 if way == WAYS[0] else answers, continued_bytes=kept)
        made.append(ReencodeRunner(plain, how=how))
    return made


def _take_turns(
    runners: Sequence[ReencodeRunner], prompts: Sequence[Sequence[int]], turns: int
) -> None:
    """Write answers to all prompts side by side; each turn begins when all have ended the last."""
    texts = [list(prompt) for prompt in prompts]
    parked = [[Parked() for _ in runners] for _ in texts]
    for turn in range(turns):
        speaker = turn % len(runners)
        jobs = [
            _request(text, kept[speaker], number)
            for number, (text, kept) in enumerate(zip(texts, parked, strict=True))
        ]
        for job in jobs:
            runners[speaker].submit(job)
        while runners[speaker].busy:
            runners[speaker].step()
        for text, job in zip(texts, jobs, strict=True):
            text += job.result.token_ids


def _request(text: Sequence[int], parked: Parked, seed: int) -> GenerateRequest:
    def failed(error: Exception) -> None:
        raise error

    return GenerateRequest(
        list(text),
        parked,
        lambda completion: None,
        failed,
        sampling=Sampling(PATCH),
        codec=cast(Any, None),  # text is needed only for stop strings
        end_token_ids=frozenset(),
        random=np.random.default_rng(seed),
    )


def _compare(shape: str, speakers: Sequence[PlainForward], length: int, chosen: Any) -> None:
    ratios: dict[str, list[float]] = {way: [] for way in WAYS}
    runners = {way: _runners(speakers, way, chosen.answers) for way in WAYS}
    seconds: list[float] = []
    for number in range(chosen.rounds + 1):
        random = np.random.default_rng(number)
        prompts = [
            random.integers(4, VOCABULARY, length - length // 4 + place).tolist()
            for place in random.integers(0, 1 + length // 2, chosen.answers).tolist()
        ]
        turns = chosen.turns if number else 1  # the first round warms caches up
        spent = {way: _spent(partial(_take_turns, runners[way], prompts, turns)) for way in WAYS}
        if number:
            seconds.append(spent[WAYS[0]])
            for way in WAYS:
                ratios[way].append(spent[way] / spent[WAYS[0]])
    line: dict[str, Any] = {"shape": shape, "answers": chosen.answers, "prompt": length}
    line["alone, seconds"] = round(median(seconds), 2)
    for way in WAYS[1:]:
        of_rounds = ratios[way]
        line[way] = [
            round(value, 3) for value in (median(of_rounds), min(of_rounds), max(of_rounds))
        ]
    print(json.dumps(line), flush=True)


def _spent(work: Callable[[], None]) -> float:
    begun = time.process_time()
    work()
    return time.process_time() - begun


if __name__ == "__main__":
    main()
