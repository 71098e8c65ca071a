"""Does a method solve questions that no checkpoint solves, or does it merely try again?

Some answers of each single checkpoint decide which questions no checkpoint solves. On these
questions each method and each checkpoint gets the same number of further answers: a question that a
checkpoint solves now is solved by chance, so a method must solve more than that to show something
new. Needs scipy and statsmodels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import comb

from taketurns.evaluation.statistics import SeedScores, holm, paired, wilson

SOLVED = 0.5
"""An answer with a higher score solves its question."""
CHANCE = "random"
"""The method that draws every speaker with equal probability: a control whose answers vary as much
as a team's."""
MOST_ROUNDS = 60


@dataclass(frozen=True, slots=True)
class Round:
    """The answers of each single checkpoint that decide which questions are unsolved (`defining`),
    and further answers of each method (`tries`). Scores are `[question][answer]`; all have the same
    questions in the same order, and all `tries` have the same number of answers."""

    defining: Mapping[str, SeedScores]
    tries: Mapping[str, SeedScores]


@dataclass(frozen=True, slots=True)
class Tried:
    """The number of unsolved questions that the method `name` solves, and the share with its 95 %
    interval; means over rounds."""

    name: str
    solved: float
    share: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Against:
    """The subject's share minus that of a control: 95 % interval (BCa bootstrap over questions), p
    (paired permutation test) and p adjusted by Holm for all controls."""

    control: str
    difference: float
    low: float
    high: float
    p: float
    p_holm: float


@dataclass(frozen=True, slots=True)
class UnsolvedCoverage:
    """`left` of `questions` are solved by none of the `defining` answers of each single checkpoint
    (mean over `rounds`). Each method gets `tries` answers to each of them."""

    questions: int
    left: float
    defining: int
    tries: int
    rounds: int
    subject: str
    tried: tuple[Tried, ...]
    against: tuple[Against, ...]


def halved(
    scores: Mapping[str, Mapping[str, SeedScores]], singles: Sequence[str], others: Sequence[str]
) -> list[Round]:
    """Rounds from stored answers, `[method][task][question][seed]`: half of the seeds are the
    tries, the others decide which questions are unsolved. There is a round for every way to divide
    the seeds, or for an even selection of at most MOST_ROUNDS ways; none with fewer than two
    seeds."""
    flat = {
        name: [question for answers in scores[name].values() for question in answers]
        for name in (*singles, *others)
    }
    seeds = len(flat[singles[0]][0])
    if seeds < 2:
        return []
    count = comb(seeds, seeds // 2)
    step = -(-count // MOST_ROUNDS)
    rounds = []
    for number, trying in enumerate(combinations(range(seeds), seeds // 2)):
        if number % step:
            continue
        defining = [seed for seed in range(seeds) if seed not in trying]
        rounds.append(
            Round(
                {name: _at(flat[name], defining) for name in singles},
                {name: _at(flat[name], trying) for name in (*others, *singles)},
            )
        )
    return rounds


def unsolved_coverage(rounds: Sequence[Round], subject: str) -> UnsolvedCoverage | None:
    """How many of the unsolved questions each method solves, and the subject compared with each of
    the others; None without rounds, or if no round has an unsolved question."""
    if not rounds:
        return None
    first = rounds[0]
    names = list(first.tries)
    questions = len(first.tries[subject])
    left = [0.0] * questions
    solved = {name: [0.0] * questions for name in names}
    for answers in rounds:
        for at in range(questions):
            if any(_solves(defining[at]) for defining in answers.defining.values()):
                continue
            left[at] += 1 / len(rounds)
            for name in names:
                solved[name][at] += _solves(answers.tries[name][at]) / len(rounds)
    if not any(left):
        return None
    pairs = [
        _against(name, solved[subject], solved[name], left) for name in names if name != subject
    ]
    adjusted = holm([pair.p for pair in pairs])
    return UnsolvedCoverage(
        questions=questions,
        left=sum(left),
        defining=len(next(iter(first.defining.values()))[0]),
        tries=len(first.tries[subject][0]),
        rounds=len(rounds),
        subject=subject,
        tried=tuple(_tried(name, solved[name], left) for name in names),
        against=tuple(replace(pair, p_holm=p) for pair, p in zip(pairs, adjusted, strict=True)),
    )


def _tried(name: str, solved: Sequence[float], left: Sequence[float]) -> Tried:
    """With the Wilson interval at the effective number of questions that are tried once each."""
    share = sum(solved) / sum(left)
    of_share = sum((s - share * w) ** 2 for s, w in zip(solved, left, strict=True)) / sum(left) ** 2
    most = float(sum(weight > 0 for weight in left))
    independent = min(share * (1 - share) / of_share, most) if of_share > 0 else most
    low, high = wilson(share, independent)
    return Tried(name, sum(solved), share, low, high)


def _against(
    name: str, mine: Sequence[float], other: Sequence[float], left: Sequence[float]
) -> Against:
    at = [number for number, weight in enumerate(left) if weight > 0]
    comparison = paired(
        {"": [[mine[number]] for number in at]}, {"": [[other[number]] for number in at]}
    )
    scale = len(at) / sum(left)  # from a mean over these questions to a share of the unsolved ones
    low, high = max(-1.0, comparison.low * scale), min(1.0, comparison.high * scale)
    return Against(name, comparison.difference * scale, low, high, comparison.p, comparison.p)


def _solves(answers: Sequence[float]) -> bool:
    return any(score > SOLVED for score in answers)


def _at(answers: SeedScores, seeds: Sequence[int]) -> list[list[float]]:
    return [[question[seed] for seed in seeds] for question in answers]
