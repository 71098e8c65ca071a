"""Patches go out to people without a trace of who wrote them, and come back as labels."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from taketurns.engines.scripted import ScriptedEngine
from taketurns.errors import DataError
from taketurns.evaluation.analysis.annotation import (
    rater_agreement,
    read_annotations,
    write_annotations,
)
from taketurns.evaluation.analysis.answers import MethodAnswers
from taketurns.evaluation.analysis.judge import label_by_judge
from taketurns.evaluation.analysis.skills import SKILLS, SkillLabel, agreement, label_by_rules
from taketurns.types import ModelSpec

from .conftest import answer, method_answers

ID = "pocket/recall/test/{}"


def some() -> MethodAnswers:
    texts = (" lilo bemul was born in 2", "1. 21 + 3 = 24", ".")
    return method_answers(
        [
            answer(
                (0, 1, 2), 1.0, question=ID.format(number), seed=seed, task="recall", texts=texts
            )
            for number in range(10)
            for seed in range(2)
        ]
        + [answer((0,), 0.0, question=ID.format(10), task="recall", texts=["=SUM(A1:A9)"])]
    )


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def fill(path: Path, labels: list[str]) -> None:
    table = rows(path)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, table[0])
        writer.writeheader()
        writer.writerows(row | {"skill": one} for row, one in zip(table, labels, strict=True))


def test_the_table_is_blind_and_shuffled(tmp_path: Path) -> None:
    path = tmp_path / "patches.csv"
    assert write_annotations(path, some(), 1000) == 61
    table = rows(path)
    assert list(table[0]) == ["id", "question", "before", "patch", "skill"]
    assert [row["question"] for row in table] != sorted(row["question"] for row in table)
    assert all(row["skill"] == "" for row in table)
    text = path.read_text(encoding="utf-8")
    for secret in ("base", "tuned", "aligned", "sums", "0.6"):
        assert secret not in text
    assert any(row["patch"] == "'=SUM(A1:A9)" for row in table)  # no formula for a spreadsheet
    assert write_annotations(tmp_path / "few.csv", some(), 5) == 5


def test_labels_come_back_and_what_is_left_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "patches.csv"
    write_annotations(path, some(), 6)
    fill(path, ["recall", " Reckon ", "", "link", "", "link"])
    labels, left = read_annotations(path, some())
    assert sorted(one.skill for one in labels) == ["link", "link", "recall", "reckon"]
    assert left == 2
    fill(path, ["guess", *[""] * 5])
    with pytest.raises(DataError, match=r"patches\.csv:2: unknown skill 'guess'; the skills are r"):
        read_annotations(path, some())
    other = method_answers([answer((0,), 1.0, question="another")])
    with pytest.raises(DataError, match="this run has no patch with the id"):
        read_annotations(path, other)


def test_agreement_takes_chance_off() -> None:
    first = ["a"] * 25 + ["b"] * 25
    second = ["a"] * 20 + ["b"] * 5 + ["a"] * 10 + ["b"] * 15
    same, kappa = agreement(first, second)
    assert (same, kappa) == (pytest.approx(0.7), pytest.approx(0.4))
    assert agreement(["a"] * 3, ["a"] * 3) == (1.0, None)


def test_people_are_compared_with_rules_with_an_interval() -> None:
    run = some()
    rules = label_by_rules(run)
    assert rules is not None
    assert [one.skill for one in rules[:3]] == ["recall", "reckon", "link"]
    people = [SkillLabel(r.question, r.seed, r.patch, r.skill if n % 5 else "abstain")
              for n, r in enumerate(rules)]  # fmt: skip
    found = rater_agreement(people, 4, rules)
    assert (found.patches, found.left) == (61, 4)
    assert found.kappa is not None
    assert found.kappa_low is not None
    assert found.kappa_high is not None
    assert found.kappa_low < found.kappa < found.kappa_high < 1
    assert rater_agreement([], 61, rules).same is None


async def test_a_judge_sees_question_and_words_alone_and_answers_by_a_number() -> None:
    prompts: list[str] = []

    def scores(prompt: str, choices: object) -> list[float]:
        prompts.append(prompt)
        likely = 2 if "The piece: 1. 21" in prompt else 6
        return [0.9 if at == likely else 0.01 for at in range(len(SKILLS))]

    engine = ScriptedEngine({"judge": ""}, scores={"judge": scores})
    run = method_answers(some().answers[:1])
    labels = await label_by_judge(run, engine, "judge", ModelSpec("judge"))
    assert [one.skill for one in labels] == ["link", "reckon", "link"]
    assert "Answer up to here:  lilo bemul was born in 2\n" in prompts[1]
    assert "2 it computes, compares or concludes" in prompts[1]
    assert not any(word in prompts[1] for word in ("tuned", "aligned", "sums", "seed"))
