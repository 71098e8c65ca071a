"""Long answers: word problems of the world's kind with any number of steps.

Problems in tuning have one or two steps. Here an answer grows by about twenty tokens per step, so
that failures of long answers can be measured. Numbers are in 0..99, as everywhere.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from random import Random

from taketurns.pocket import names
from taketurns.pocket.arithmetic import Operator, equation, result
from taketurns.tasks.base import Split
from taketurns.types import Query, Score
from taketurns.utils.seeds import derive

COUNT = 200
_SOLVED = re.compile(r"(\d+) ([+-]) (\d+) = (?:\[[^\]]*\] )?(\d+)\.")


@dataclass(frozen=True)
class LongTask:
    """Problems with `steps` steps, which ask for the result of the last step. An answer's score is
    the share of right steps before the first wrong one."""

    steps: int
    seed: int = 0

    @property
    def name(self) -> str:
        return f"long-{self.steps}"

    @property
    def category(self) -> str:
        return "long reasoning"

    @cached_property
    def _problems(self) -> dict[Split, tuple[Query, ...]]:
        splits: tuple[Split, ...] = ("train", "dev", "test")
        return {split: tuple(self._make(split)) for split in splits}

    def _make(self, split: Split) -> list[Query]:
        rng = Random(derive(self.seed, "pocket", "long", self.steps, split))
        made = []
        for number in range(COUNT):
            asked, steps = _problem(self.steps, rng)
            worked = " ".join(f"{equation(*step, worked=True)}." for step in steps)
            made.append(
                Query(
                    id=f"pocket/{self.name}/{split}/{number}",
                    text=asked,
                    reference=[result(*step) for step in steps],
                    metadata={"task": self.name, "worked": worked},
                )
            )
        return made

    def queries(self, split: Split) -> tuple[Query, ...]:
        """200 problems per split. A problem may be in two splits, since nothing is trained on
        them."""
        return self._problems[split]

    def score(self, query: Query, answer: str) -> Score:
        """The share of right steps before the first wrong one; `answer` is the last result."""
        text = " ".join(answer.lower().split())
        results = [int(match[4]) for match in _SOLVED.finditer(text)]
        right = 0
        for wanted, value in zip(query.reference, results, strict=False):
            if wanted != value:
                break
            right += 1
        last = str(results[-1]) if results else None
        return Score(right / self.steps, last, f"{right} steps", parsed=bool(results))


def _problem(steps: int, rng: Random) -> tuple[str, list[tuple[int, Operator, int]]]:
    who, goods = rng.choice(names.TRADERS), rng.choice(names.GOODS)
    have = rng.randint(10, 89)
    sentences, done = [f"{who} has {have} {goods}"], list[tuple[int, Operator, int]]()
    for number in range(steps):
        more = have < 20 or (have < 80 and rng.random() < 0.5)
        amount = rng.randint(10, 99 - have) if more else rng.randint(10, have)
        sign: Operator = "+" if more else "-"
        verb = f"gets {amount} more" if more else f"sells {amount}"
        sentences.append(f"and {verb}" if number == 0 else f"then {verb}")
        done.append((have, sign, amount))
        have = result(have, sign, amount)
    return f"{sentences[0]} {', '.join(sentences[1:])}. how many {goods} now?", done
