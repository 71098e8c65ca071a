"""The workload of a simulation: answers with their lengths and the speakers of their patches."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import log, sqrt
from pathlib import Path

import numpy as np

from taketurns.errors import DataError
from taketurns.types import Trace
from taketurns.utils.seeds import derive, generator


@dataclass(frozen=True, slots=True)
class SimulatedAnswer:
    """An answer to simulate: the tokens of its prompt, and its turns (speaker, tokens), at least
    one."""

    prompt: int
    turns: tuple[tuple[int, int], ...]

    @property
    def tokens(self) -> int:
        """The number of tokens of the answer."""
        return sum(tokens for _, tokens in self.turns)


@dataclass(frozen=True, slots=True)
class AnswerMix:
    """A distribution of answers: `prompt` and `answer` are the means of lognormal lengths in
    tokens, `spread` is their coefficient of variation (0: all equal); a patch has `patch` tokens
    and a uniformly drawn speaker."""

    prompt: int = 200
    answer: int = 300
    patch: int = 50
    spread: float = 0.5
    candidates: int = 3

    def draw(self, count: int, seed: int) -> list[SimulatedAnswer]:
        """Draw `count` answers. Their lengths do not depend on the patch size, and the speakers of
        an answer do not depend on `count`."""
        random = generator(derive(seed, "lengths"))
        prompts = _lengths(random, self.prompt, self.spread, count)
        answers = _lengths(random, self.answer, self.spread, count)
        drawn = []
        for index, (prompt, tokens) in enumerate(zip(prompts, answers, strict=True)):
            speakers = generator(derive(seed, "speakers", index))
            turns = [
                (int(speakers.random() * self.candidates), patch)
                for patch in split_patches(tokens, self.patch)
            ]
            drawn.append(SimulatedAnswer(prompt, tuple(turns)))
        return drawn


def split_patches(tokens: int, patch: int) -> list[int]:
    """The lengths of the patches: `patch` tokens each, the last one with the rest."""
    return [min(patch, tokens - begin) for begin in range(0, tokens, patch)]


def _lengths(random: np.random.Generator, mean: int, spread: float, count: int) -> list[int]:
    if spread == 0:
        return [mean] * count
    sigma = sqrt(log(1 + spread**2))
    drawn = random.lognormal(log(mean) - sigma**2 / 2, sigma, count)
    return [max(1, round(length)) for length in drawn]


def arrival_times(rate: float, count: int, seed: int) -> list[float]:
    """Arrival times of `count` answers, in seconds: a Poisson process of `rate` a second."""
    gaps = generator(derive(seed, "arrivals")).exponential(1 / rate, count)
    return [float(time) for time in np.cumsum(gaps)]


def recorded_answer(trace: Trace, prompt: int) -> SimulatedAnswer:
    """A trace as an answer to simulate, after `prompt` tokens."""
    patches = ((patch.speaker, patch.token_ids, patch.finish) for patch in trace.patches)
    return SimulatedAnswer(prompt, _turns(patches))


def read_answers(path: Path, prompt: int) -> list[SimulatedAnswer]:
    """The answers in a file of `taketurns generate`; `prompt` is the number of prompt tokens of
    records without "prompt_tokens". Raises DataError."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8; save it as UTF-8"
        raise DataError(f"cannot read {path}: {reason}") from error
    answers: dict[str, SimulatedAnswer] = {}
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
            patches = (
                (patch["speaker"], patch["token_ids"], patch["finish"])
                for patch in record["patches"]
                if patch["speaker"] is not None  # forced text
            )
            answer = SimulatedAnswer(int(record.get("prompt_tokens", prompt)), _turns(patches))
            identifier = str(record.get("id", f"line {number}"))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{path}:{number}: not an answer of taketurns generate; give its output file"
            ) from error
        # An answer that failed before its first token has no turn; of equal ids the first counts.
        if answer.turns:
            answers.setdefault(identifier, answer)
    if not answers:
        raise DataError(f"{path} has no answers; give an output file of taketurns generate")
    return list(answers.values())


def _turns(
    patches: Iterable[tuple[int | None, Sequence[int], str | None]],
) -> tuple[tuple[int, int], ...]:
    """The turns of patches (speaker, token ids, finish). A patch that ends the answer has an end
    token in addition; forced text and empty patches at a full context are not turns."""
    turns = (
        (int(speaker), len(ids) + (finish == "stop"))
        for speaker, ids, finish in patches
        if speaker is not None
    )
    return tuple(turn for turn in turns if turn[1])
