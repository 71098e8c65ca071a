"""R2R: the labels of a deferral head held against plain forwards, and a run that trains on them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from taketurns import ConfigError, DataError, Policy, Query, Team, UsageError
from taketurns.config.loading import load_team_config
from taketurns.config.team_config import TeamConfig
from taketurns.tasks.base import Split
from taketurns.training.deferral.divergence import find_divergences, questions_of
from taketurns.training.deferral.run import DeferralSettings, train_on_divergences
from taketurns.training.supervised.settings import TrainingConfig
from taketurns.types import Score
from tests.token_level.reference import divergences, plain
from tests.token_level.test_deferral_training import team_of

QUESTIONS = ("the street", "at noon, ", "it is her", "red house. ")
TOKENS = 10


@dataclass(frozen=True)
class Vowels:
    """An answer's meaning is how many of its letters are vowels, out of a few."""

    name: str = "vowels"
    category: str = "reasoning"

    def queries(self, split: Split) -> tuple[Query, ...]:
        some = QUESTIONS if split == "train" else ()
        return tuple(Query(f"{split}/{i}", text=text) for i, text in enumerate(some))

    def score(self, query: Query, answer: str) -> Score:
        return Score(float(meaning(answer)) / 3)


@dataclass(frozen=True)
class Canonical(Vowels):
    """The same, by canonical answers; all score the same."""

    name: str = "canonical"

    def score(self, query: Query, answer: str) -> Score:
        return Score(0.0)

    def canonical_answer(self, query: Query, answer: str) -> str | None:
        return str(meaning(answer))


def meaning(answer: str) -> int:
    return sum(letter in "aeiou" for letter in answer) % 3


def team(models: dict[str, str], **policy: Any) -> TeamConfig:
    from dataclasses import replace

    rules = Policy(**{"max_tokens": TOKENS, "patch_size": 4} | policy)
    return replace(team_of(models), policy=rules)


def manifest_of(config: TeamConfig) -> Any:
    from taketurns.runs.description import describe_run

    return describe_run("train", config, b"")


@pytest.mark.parametrize("task", [Vowels(), Canonical()])
@pytest.mark.parametrize("base", [0, 1])
async def test_labels_are_those_of_plain_forwards(
    pair: dict[str, str], letters: Any, tmp_path: Path, task: Vowels, base: int
) -> None:
    config = team(pair)
    models = [plain(pair["base"]), plain(pair["aligned"])]
    questions = questions_of([task], 3)
    assert len(questions) == 3
    path = tmp_path / "d.jsonl"
    found = await find_divergences(config, base, questions, path, manifest_of(config))
    end = letters.eos_token_id

    def means(ids: Sequence[int]) -> int:
        return meaning(letters.decode([token for token in ids if token != end]))

    labels = []
    for text, question in zip(found.texts, questions, strict=True):
        prompt = letters.encode(question.query.text, add_special_tokens=False)
        whole, parts = divergences(models[base], models[1 - base], means, prompt, TOKENS, end)
        assert list(text.token_ids) == [token for token in whole if token != end]
        assert list(text.defers or ()) == parts
        labels += parts
    assert {True, False} == set(labels)
    assert (found.compared, found.part) == (len(labels), sum(labels))
    assert found.part < found.differ <= found.compared
    written = path.read_bytes()
    again = await find_divergences(config, base, questions, path, manifest_of(config))
    assert again == found
    assert path.read_bytes() == written


def test_a_run_trains_a_head_that_defers_where_answers_part(
    pair: dict[str, str], tmp_path: Path
) -> None:
    """Enough epochs of four answers: the head knows their places. A stop changes nothing."""
    config, output, said = team(pair, temperature=1.0), tmp_path / "r2r", list[str]()
    training = TrainingConfig(epochs=150, learning_rate=0.03, weight_decay=0.0, patience=500)
    settings = DeferralSettings(validation=0.25)
    metrics = train_on_divergences(
        config, [Canonical()], output, 4, settings, training, said.append
    )
    assert "answers part at" in said[0]
    about = metrics["examples"]
    assert about["train_texts"] == 3
    assert about["train_places"] + about["validation_places"] == about["compared"]
    assert metrics["history"][0]["loss"] < metrics["standards"]["half"] + 0.2
    assert "leads to another answer at" in (output / "README.md").read_text()
    made = load_team_config(output)
    assert (made.switcher.kind, made.policy.patch_size) == ("deferral", TOKENS)
    weights = (output / "head.safetensors").read_bytes()
    (output / "metrics.json").unlink()
    train_on_divergences(config, [Canonical()], output, 4, settings, training)
    assert (output / "head.safetensors").read_bytes() == weights
    assert train_on_divergences(config, [Canonical()], output, 4, settings, training)
    assert json.loads((output / "metrics.json").read_text())["sample_questions"]["canonical"]
    with Team.load(output) as both:
        assert both.generate("the street").tokens <= TOKENS


def test_what_cannot_be_is_refused(
    pair: dict[str, str], unlike_pair: dict[str, str], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="two candidates, not 3"):
        train_on_divergences(team({**pair, "c": pair["base"]}), [Vowels()], tmp_path / "out")
    with pytest.raises(ConfigError, match="tokenizers of base and aligned differ"):
        train_on_divergences(team(unlike_pair), [Vowels()], tmp_path / "unlike")
    same = team({"base": pair["base"], "aligned": pair["base"]})
    with pytest.raises(DataError, match="part nowhere, so there"):
        train_on_divergences(same, [Vowels()], tmp_path / "same")

    class Long(Vowels):
        def queries(self, split: Split) -> tuple[Query, ...]:
            return (Query("long", text="the street " * 300),) if split == "train" else ()

    with pytest.raises(DataError, match=r"no train question could be answered .*shorten the query"):
        train_on_divergences(team(pair), [Long()], tmp_path / "long")
