"""A scorer of the user's own, by name: a class, or a function of a query and an answer."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, is_dataclass
from typing import Any, ClassVar, cast

from taketurns.errors import UsageError
from taketurns.tasks.scorers.base import FIRST, Scorer
from taketurns.types import Query, Score
from taketurns.utils.parts import check_settings, load_part, make_part, require_methods

Judge = Callable[..., Score | float | bool]


@dataclass(frozen=True)
class FunctionScorer:
    """Scores by `function(query, answer, **settings)`, which gives a Score or a number in 0..1. A
    `version` of the function is the scorer's."""

    stored_name: ClassVar[str] = "FunctionScorer"

    name: str
    settings: Mapping[str, Any]
    function: Judge = field(repr=False)

    @property
    def version(self) -> int:
        return int(getattr(self.function, "version", FIRST))

    def check(self, query: Query) -> None:
        """Any query: a function says itself what it misses."""

    def score(self, query: Query, answer: str) -> Score:
        given = self.function(query, answer, **self.settings)
        try:
            score = given if isinstance(given, Score) else Score(float(given), None)
        except (TypeError, ValueError) as error:
            raise self._refused(given) from error
        if score.value is not None and (score.value < 0 or score.value > 1):
            raise self._refused(given)
        return score

    def _refused(self, given: object) -> UsageError:
        return UsageError(
            f"the scorer {self.name!r} gave {repr(given)[:80]}; it must give a Score or a number "
            "from 0 to 1"
        )

    def canonical_answer(self, query: Query, answer: str) -> str | None:
        """Texts that are equal but for case and spacing are the same answer."""
        return " ".join(answer.casefold().split()) or None


def own_scorer(name: str, settings: Mapping[str, Any]) -> Scorer:
    """The scorer that a name of the user's own leads to. Raises UsageError."""
    part, what = load_part("scorers", name), f"the scorer {name!r}"
    if inspect.isclass(part):
        if settings and not is_dataclass(part):
            raise UsageError(
                f"{what} has settings and is no dataclass, so stored scores would not tell them "
                "apart: make it a frozen dataclass"
            )
        scorer = make_part("scorers", name, settings)
        require_methods(what, scorer, ("check", "score", "canonical_answer"))
        if not isinstance(getattr(scorer, "name", None), str):
            raise UsageError(f"{what} has no name, which reports call it by: give the class one")
        return cast(Scorer, scorer)
    if not callable(part):
        raise UsageError(f"{what} is no class or function: it cannot be called")
    check_settings(what, part, settings, given=2)
    return FunctionScorer(name, dict(settings), part)
