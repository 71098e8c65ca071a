"""What a stored score is known by: the question, the scorer's settings and its version."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import pytest

from taketurns.evaluation.asking import Item
from taketurns.runs.records import query_to_json, to_line
from taketurns.tasks.scored import ScoredTask
from taketurns.tasks.scorers.calibration import Sampled, Stated
from taketurns.tasks.scorers.choice import Choice
from taketurns.tasks.scorers.closed import Closed
from taketurns.tasks.scorers.compliance import Phrases
from taketurns.tasks.scorers.mathematics import Mathematics
from taketurns.tasks.scorers.moco import Moco
from taketurns.tasks.scorers.reward import Reward
from taketurns.tasks.scorers.words import Alias, Exact, TokenF1
from taketurns.types import Query, Score

QUERY = Query("own/1", text="?", reference="a")


def known_by(scorer: Any) -> str:
    return Item(ScoredTask("own", "own", {"test": (QUERY,)}, scorer), QUERY, 0).id


def before_versions(name: str) -> str:
    line = to_line(query_to_json(QUERY)) + name.encode()
    return f"own/own/1@{sha256(line).hexdigest()[:8]}#0"


class Plain:
    """A user's own scorer, which names no version."""

    name = "plain"

    def check(self, query: Query) -> None:
        """Anything goes."""

    def score(self, query: Query, answer: str) -> Score:
        return Score(float(answer == query.reference), answer)

    def canonical_answer(self, query: Query, answer: str) -> str | None:
        return answer


@dataclass(frozen=True)
class Tuned(Plain):
    """A user's own scorer with a setting."""

    strict: bool = True


def versioned(number: int) -> Any:
    return type("Plain", (Plain,), {"version": number, "__qualname__": "Plain"})()


@pytest.mark.parametrize(
    ("scorer", "name"),
    [
        (Plain(), "Plain"),
        (versioned(1), "Plain"),
        (Tuned(), "Tuned(strict=True)"),
        (Moco("f1_match"), "Moco(kind='f1_match')"),
        (Reward("m"), "Reward(model='m', revision=None, batch=8, name='reward')"),
    ],
)
def test_the_scores_of_a_scorer_that_has_not_changed_are_kept(scorer: Any, name: str) -> None:
    assert known_by(scorer) == before_versions(name)


@pytest.mark.parametrize(
    "scorer",
    [Mathematics(), Choice(), Alias(), TokenF1(), Exact(), Closed(), Phrases(), Stated(Choice()),
     Sampled(Choice())],
    ids=lambda one: one.name,
)  # fmt: skip
def test_the_scores_of_one_that_has_changed_are_made_anew(scorer: Any) -> None:
    assert known_by(scorer) != before_versions(repr(scorer))


def test_a_raised_version_and_other_settings_are_other_scores() -> None:
    made = [known_by(one) for one in (Plain(), versioned(2), versioned(3), Tuned(), Tuned(False))]
    assert len(set(made)) == len(made)


def test_a_scorer_made_of_others_rises_with_them() -> None:
    assert known_by(Stated(versioned(1))).rpartition("@")[0] == "own/own/1"
    assert (
        Stated(versioned(1)).version < Stated(versioned(2)).version < Sampled(versioned(3)).version
    )
