"""Closed questions of several kinds in one data set; the row decides the scorer.

A row with `choices` is scored as multiple choice, a numeric reference as mathematics, any other by
exact match.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from taketurns.tasks.scorers.base import Scorer, version_with
from taketurns.tasks.scorers.choice import Choice
from taketurns.tasks.scorers.mathematics import Mathematics
from taketurns.tasks.scorers.numbers import number
from taketurns.tasks.scorers.words import Exact
from taketurns.types import Query, Score

WORDS = re.compile(r"[^\W\d_]{2}")  # "2022 Tour Championship" is a name
CHOICE, MATHEMATICS, EXACT = Choice(), Mathematics(), Exact()


@dataclass(frozen=True)
class Closed:
    """The score of the scorer that fits the row."""

    stored_name: ClassVar[str] = "Closed"

    name: str = "closed"

    @property
    def version(self) -> int:
        """It increases with the version of each scorer that it uses."""
        return version_with(CHOICE, MATHEMATICS, EXACT)

    def check(self, query: Query) -> None:
        _scorer(query).check(query)

    def score(self, query: Query, answer: str) -> Score:
        return _scorer(query).score(query, answer)

    def canonical_answer(self, query: Query, answer: str) -> str | None:
        """The canonical form by the row's scorer. Only the reference tells whether a number is
        asked for, so a text that is only a number is read as one."""
        if "choices" in query.metadata:
            return CHOICE.canonical_answer(query, answer)
        exact = EXACT.canonical_answer(query, answer)
        value = number(exact) if exact is not None and not WORDS.search(exact) else None
        return exact if value is None else str(value)


def _scorer(query: Query) -> Scorer:
    if "choices" in query.metadata:
        return CHOICE
    numeric = number(str(query.reference)) is not None and not WORDS.search(str(query.reference))
    return MATHEMATICS if numeric else EXACT
