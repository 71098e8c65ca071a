"""What a stored score is known by: the question, the scorer's settings and its version."""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

import pytest

from taketurns.evaluation.asking import AnswerRequest
from taketurns.runs.output import JsonlOutput
from taketurns.runs.records import encode_record, query_to_json
from taketurns.tasks.scored import ScoredTask
from taketurns.tasks.scorers.base import identity
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
    return AnswerRequest(ScoredTask("own", "own", {"test": (QUERY,)}, scorer), QUERY, 0).id


def before_versions(name: str) -> str:
    line = encode_record(query_to_json(QUERY)) + name.encode()
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


@pytest.mark.parametrize(
    ("scorer", "name"),
    [
        (Stated(Choice()), "Stated(of=Choice(name='choice'), name='calibration') version 2"),
        (Sampled(Exact()), "Sampled(of=Exact(name='exact'), name='calibration-sampled') version 2"),
        (Alias(), "Alias(name='alias') version 2"),
        (TokenF1(), "TokenF1(name='f1') version 2"),
        (Mathematics(), "Mathematics(name='mathematics') version 2"),
        (Phrases(), "Phrases(name='noncompliance-phrases (a proxy)') version 2"),
    ],
)
def test_stored_scores_know_a_scorer_by_what_they_always_did(scorer: Any, name: str) -> None:
    assert identity(scorer) == name


def test_a_class_that_is_renamed_keeps_its_stored_answers(tmp_path: Path) -> None:
    """The file is in the old form: its ids were made of the class's own name."""

    @dataclass(frozen=True)
    class Renamed(Tuned):
        stored_name: ClassVar[str] = "Tuned"

    path = tmp_path / "method.jsonl"
    path.write_text(json.dumps({"id": before_versions("Tuned(strict=True)"), "score": 1.0}) + "\n")
    with JsonlOutput(path) as output:
        assert output.kept == {known_by(Renamed())}


def test_a_raised_version_and_other_settings_are_other_scores() -> None:
    made = [known_by(one) for one in (Plain(), versioned(2), versioned(3), Tuned(), Tuned(False))]
    assert len(set(made)) == len(made)


def test_a_scorer_made_of_others_rises_with_them() -> None:
    assert known_by(Stated(versioned(1))).rpartition("@")[0] == "own/own/1"
    assert (
        Stated(versioned(1)).version < Stated(versioned(2)).version < Sampled(versioned(3)).version
    )
