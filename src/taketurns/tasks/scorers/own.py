"""A user's scorer, by name: a class, or a function of a query and an answer."""

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
    """Scores with `function(query, answer, **settings)`, which returns a Score or a number in 0..1.
    An attribute `version` of the function is the version of the scorer."""

    stored_name: ClassVar[str] = "FunctionScorer"

    name: str
    settings: Mapping[str, Any]
    function: Judge = field(repr=False)

    @property
    def version(self) -> int:
        return int(getattr(self.function, "version", FIRST))

    def check(self, query: Query) -> None:
        """Accepts any query; the function reports missing values itself."""

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
            f"the scorer {self.name!r} returned {repr(given)[:80]}; it must return a Score or a "
            "number from 0 to 1"
        )

    def canonical_answer(self, query: Query, answer: str) -> str | None:
        """The text without case and extra spaces."""
        return " ".join(answer.casefold().split()) or None


def own_scorer(name: str, settings: Mapping[str, Any]) -> Scorer:
    """The user's scorer of this name. Raises UsageError if it cannot be made."""
    part, what = load_part("scorers", name), f"the scorer {name!r}"
    if inspect.isclass(part):
        if settings and not is_dataclass(part):
            raise UsageError(
                f"{what} has settings but is not a dataclass, so stored scores with different "
                "settings would be mixed: make it a frozen dataclass"
            )
        scorer = make_part("scorers", name, settings)
        require_methods(what, scorer, ("check", "score", "canonical_answer"))
        if not isinstance(getattr(scorer, "name", None), str):
            raise UsageError(f"{what} needs the attribute name, a text that reports show")
        return cast(Scorer, scorer)
    if not callable(part):
        raise UsageError(
            f"{what} is a {type(part).__name__} and cannot be called: name a class or a function"
        )
    check_settings(what, part, settings, given=2)
    return FunctionScorer(name, dict(settings), part)
