"""What is asked of a deployment: answers of so many tokens, and who writes which part of each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import log, sqrt
from pathlib import Path
from typing import Any

import numpy as np

from taketurns.errors import DataError
from taketurns.types import Trace
from taketurns.utils.seeds import derive, generator


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer: its prompt's tokens, and its turns as (speaker, tokens), one at least."""

    prompt: int
    turns: tuple[tuple[int, int], ...]

    @property
    def tokens(self) -> int:
        """Tokens that are written."""
        return sum(tokens for _, tokens in self.turns)


@dataclass(frozen=True, slots=True)
class Mix:
    """Answers to draw: mean tokens of prompts and answers, lognormal with the coefficient of
    variation `spread` (0: all equal), patches of `patch`, each by any of `candidates` speakers."""

    prompt: int = 200
    answer: int = 300
    patch: int = 50
    spread: float = 0.5
    candidates: int = 3

    def draw(self, count: int, seed: int) -> list[Answer]:
        """So many answers. Their lengths do not depend on the patch size, nor one answer's speakers
        on how many there are."""
        random = generator(derive(seed, "lengths"))
        prompts = _lengths(random, self.prompt, self.spread, count)
        answers = _lengths(random, self.answer, self.spread, count)
        made = []
        for index, (prompt, tokens) in enumerate(zip(prompts, answers, strict=True)):
            pieces = cut(tokens, self.patch)
            speakers = generator(derive(seed, "speakers", index))
            turns = [(int(speakers.random() * self.candidates), piece) for piece in pieces]
            made.append(Answer(prompt, tuple(turns)))
        return made


def cut(tokens: int, patch: int) -> list[int]:
    """Patches of `patch` tokens and what is left."""
    return [min(patch, tokens - begin) for begin in range(0, tokens, patch)]


def _lengths(random: np.random.Generator, mean: int, spread: float, count: int) -> list[int]:
    if spread == 0:
        return [mean] * count
    sigma = sqrt(log(1 + spread**2))
    drawn = random.lognormal(log(mean) - sigma**2 / 2, sigma, count)
    return [max(1, round(length)) for length in drawn]


def arrivals(rate: float, count: int, seed: int) -> list[float]:
    """Times at which so many answers are asked for, at `rate` a second: a Poisson process."""
    gaps = generator(derive(seed, "arrivals")).exponential(1 / rate, count)
    return [float(time) for time in np.cumsum(gaps)]


def answer_of(trace: Trace, prompt: int) -> Answer:
    """An answer that was written after `prompt` tokens, to ask for again. A model that ends it has
    written its end token too; what was forced is not a turn, nor what nobody was asked to write."""
    turns = [
        (patch.speaker, len(patch.token_ids) + (patch.finish == "stop"))
        for patch in trace.patches
        if patch.speaker is not None
    ]
    return Answer(prompt, tuple(turn for turn in turns if turn[1]))


def read_answers(path: Path, prompt: int) -> list[Answer]:
    """The answers of a file that `taketurns generate` wrote, with `prompt` tokens before each that
    does not say how many ("prompt_tokens"). Raises DataError."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise DataError(f"cannot read {path}: {reason}") from error
    found, whole = [], set[str]()
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
            turns = _turns(record["patches"])
            before = int(record.get("prompt_tokens", prompt))
            identifier = str(record.get("id", f"line {number}"))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path}:{number}: not an answer of taketurns generate") from error
        # An answer that failed before its first token has none; one written twice counts once.
        if turns and identifier not in whole:
            whole.add(identifier)
            found.append(Answer(before, turns))
    if not found:
        raise DataError(f"{path} holds no answers")
    return found


def _turns(patches: Sequence[Any]) -> tuple[tuple[int, int], ...]:
    spoken = [patch for patch in patches if patch["speaker"] is not None]
    turns = [
        (int(patch["speaker"]), len(patch["token_ids"]) + (patch["finish"] == "stop"))
        for patch in spoken
    ]
    return tuple(turn for turn in turns if turn[1])  # at a full context a patch is empty
