"""Nudging by the token level's frame beside the same decisions asked before every token.

    python -m benchmarks.token_level.side_by_side [--models pocket random smol] [--tokens 64]

Both write the same greedy answers, token by token of the same speaker, which is checked. The other
way is that of the method `per-token`: patches of one token, before each of which the switcher reads
the base's next-token distribution. Everything runs in one process on one thread, in an order that
alternates; times are processor time, and the ratio is the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, cast

import torch

from benchmarks.overhead.models import random_pool
from benchmarks.overhead.workload import Workload, queries
from taketurns.config.loading import load_team_config
from taketurns.config.pair_rules import NudgingRule
from taketurns.config.policy import Policy
from taketurns.engines.base import DeepSession, Engine, ModelInfo, Session
from taketurns.engines.local.engine import LocalEngine
from taketurns.generation.team import Team
from taketurns.pocket.tasks import TASKS
from taketurns.switchers.base import Decide, GenerationView
from taketurns.switchers.nudging import NudgingSwitcher
from taketurns.switchers.words import WordBoundaries
from taketurns.types import Candidate, Query, Trace
from taketurns.utils.markdown import table

BATCH = 8
ASKED = (
    "Which planet is the largest?",
    "Why do leaves fall in autumn?",
    "Name three animals that lay eggs.",
    "A shop sells 48 clips in April and half as many in May. How many is that in all?",
    "Write two sentences about the sea.",
    "What is the capital of France?",
    "How is bread made?",
    "Explain what a magnet does.",
)
SHARE = 0.2  # of random models' tokens at which the base is unsure


class AskedAtEveryToken:
    """Nudging for patches of one token: before each, the base's distribution is read, and within a
    word of the other one the other's own."""

    def __init__(self, gamma: float) -> None:
        self._gamma = gamma
        self._infos: list[ModelInfo] = []

    async def prepare(self, engine: Engine, candidates: Sequence[ModelInfo]) -> None:
        self._infos = list(candidates)
        self._words = WordBoundaries(candidates[1])

    def begin(self, query: Query, policy: Policy) -> Decide:
        base, other = self._infos
        word = b""  # of the other one, as far as it is written

        async def top(session: Session, info: ModelInfo, prompt: list[int]) -> tuple[float, int]:
            logprobs = await cast(DeepSession, session).next_logprobs(info.name, prompt)
            highest, token = logprobs.max(-1)
            return float(highest.exp()), int(token)

        async def decide(session: Session, state: GenerationView) -> tuple[float, ...]:
            nonlocal word
            last = state.patches[-1] if state.patches else None
            if last is not None and last.speaker == 1:
                word += b"".join(map(self._words.bytes_of, last.token_ids))
                if not word.strip():
                    return (0.0, 1.0)
                _, token = await top(session, other, state.prompt(1))
                ends = self._words.text_of(token) is None
                if ends or not self._words.between(word, token):
                    return (0.0, 1.0)
            word = b""
            probability, token = await top(session, base, state.prompt(0))
            sure = probability >= self._gamma and token not in base.end_token_ids
            return (float(sure), float(not sure))

        return decide


@dataclass(frozen=True)
class Setting:
    """Two candidates and the questions of a batch."""

    name: str
    candidates: tuple[Candidate, Candidate]
    engine: LocalEngine
    queries: tuple[Query, ...]
    gamma: float
    tokens: int

    def ways(self) -> dict[str, Team]:
        """The two ways, on one engine."""
        policy = Policy(patch_size=self.tokens, max_tokens=self.tokens, temperature=0.0)
        frame = NudgingSwitcher(NudgingRule(self.gamma))
        asked = AskedAtEveryToken(self.gamma)
        return {
            "frame": Team(self.candidates, self.engine, frame, policy),
            "per token": Team(self.candidates, self.engine, asked, replace(policy, patch_size=1)),
        }


@contextmanager
def pocket(tokens: int) -> Iterator[Setting]:
    """The bundled base and aligned checkpoints, one dev question of each of eight tasks."""
    config = load_team_config("pocket")
    pair = (config.candidates[0], config.candidates[-1])
    asked = tuple(task.queries("dev")[0] for task in list(TASKS.values())[:BATCH])
    engine = LocalEngine({candidate.name: candidate.spec for candidate in pair}, threads=1)
    yield Setting("pocket, 0.9M", pair, engine, asked, 0.4, tokens)


@contextmanager
def smol(tokens: int) -> Iterator[Setting]:
    """Two checkpoints of the team smol, adapters on one real base, which must have been fetched."""
    config = load_team_config("smol")
    pair = (config.candidates[0], config.candidates[-1])
    asked = tuple(Query(id=str(number), text=text) for number, text in enumerate(ASKED))
    engine = LocalEngine({candidate.name: candidate.spec for candidate in pair}, threads=1)
    yield Setting("smol, 135M", pair, engine, asked, 0.4, tokens)


@contextmanager
def random_llamas(shape: str, tokens: int) -> Iterator[Setting]:
    """Two Llamas with random weights; gamma is such that the base is unsure at a share of the
    tokens that it would write alone."""
    with random_pool(shape, "cpu", "float32") as pool:
        pair = pool.candidates[:2]
        specs = pool.specs(False)
        asked = queries(Workload(BATCH, tokens, prompt=32), pool.words)
        engine = LocalEngine(
            {candidate.name: specs[candidate.name] for candidate in pair},
            threads=1,
            weights=pool.weights,
        )
        gamma = asyncio.run(quantile(engine, pair[0], asked, tokens))
        yield Setting(f"random, {shape}", (pair[0], pair[1]), engine, asked, gamma, tokens)


async def quantile(
    engine: LocalEngine, base: Candidate, asked: Sequence[Query], tokens: int
) -> float:
    """The probability of the base's most probable token that a share `SHARE` of its own tokens
    stays below."""
    info = await engine.info(base.name)
    seen: list[float] = []
    policy = Policy(patch_size=tokens, max_tokens=tokens, temperature=0.0)
    for query in asked[:2]:
        prompt = info.codec.encode(query.text or "")
        async with engine.session(0, len(prompt) + policy.max_tokens) as session:
            for _ in range(tokens // 2):
                logprobs = await session.next_logprobs(base.name, prompt)
                seen.append(float(logprobs.max().exp()))
                prompt.append(int(logprobs.argmax()))
    return float(torch.tensor(seen).quantile(SHARE))


def tokens_of(traces: Sequence[Trace]) -> list[list[tuple[int | None, int]]]:
    """Who wrote which token of each answer."""
    for trace in traces:
        assert trace.error is None, trace.error
    return [[(p.speaker, t) for p in trace.patches for t in p.token_ids] for trace in traces]


def measure(setting: Setting, rounds: int) -> list[str]:
    """One row: the time a token of both ways, and their ratio."""
    ways, seconds = setting.ways(), {"frame": list[float](), "per token": list[float]()}
    written: dict[str, Any] = {}
    for name, team in ways.items():  # warms up
        written[name] = tokens_of(team.generate(list(setting.queries)))
    assert written["frame"] == written["per token"], "the ways decide differently"
    every = [speaker for answer in written["frame"] for speaker, _ in answer]
    for number in range(rounds):
        for name in list(ways)[:: 1 if number % 2 else -1]:
            begun = time.process_time()
            ways[name].generate(list(setting.queries))
            seconds[name].append(time.process_time() - begun)
    ratios = [p / f for p, f in zip(seconds["per token"], seconds["frame"], strict=True)]
    return [
        setting.name,
        str(len(every)),
        f"{sum(map(bool, every)) / len(every):.0%}",
        *(f"{1000 * median(seconds[name]) / len(every):.2f}" for name in ways),
        f"{median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})",
    ]


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", default="13m", help="of the models with random weights")
    parser.add_argument(
        "--models", nargs="+", choices=("pocket", "random", "smol"), default=["pocket", "random"]
    )
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    made_of = {
        "pocket": lambda: pocket(options.tokens),
        "random": lambda: random_llamas(options.shape, options.tokens),
        "smol": lambda: smol(options.tokens),
    }
    for made in (made_of[name]() for name in options.models):
        with made as setting:
            rows.append(measure(setting, options.rounds))
            print(rows[-1], file=sys.stderr, flush=True)
            asyncio.run(setting.engine.close())
    head = ["models", "tokens", "nudged", "frame, ms a token", "per token, ms", "times as fast"]
    print(table(head, rows), end="")


if __name__ == "__main__":
    main()
