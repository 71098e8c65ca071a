"""A task of one's own in five lines of YAML."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from taketurns.errors import ConfigError, DataError
from taketurns.tasks.base import Task
from taketurns.tasks.registry import Choices, find_task

FIVE = """\
name: capitals
data: capitals.jsonl
scorer: alias
fields: {text: question, reference: capital}
prompt: "{text} Answer in one word. It lies in {continent}."
"""
ROWS = [
    {
        "id": 1,
        "question": "Of France?",
        "capital": "Paris",
        "continent": "Europe",
        "split": "train",
    },
    {"id": 2, "question": "Of Peru?", "capital": ["Lima"], "continent": "America", "split": "dev"},
    {"id": "k", "question": "Of Kenya?", "capital": "Nairobi", "continent": "Africa"},
]


def task(folder: Path, text: str = FIVE, rows: list[dict[str, Any]] | None = None) -> Task:
    lines = [json.dumps(row) for row in (ROWS if rows is None else rows)]
    (folder / "capitals.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "task.yaml").write_text(text)
    return find_task(str(folder / "task.yaml"))


def test_five_lines_are_enough(tmp_path: Path) -> None:
    found = task(tmp_path)
    assert [len(found.queries(split)) for split in ("train", "dev", "test")] == [1, 1, 1]
    (query,) = found.queries("test")
    assert query.id == "capitals/k"
    assert query.text == "Of Kenya? Answer in one word. It lies in Africa."
    assert found.score(query, "Nairobi, of course.").value == 1
    assert found.score(query, "Mombasa.").value == 0


def test_a_file_for_each_split_and_settings_of_the_scorer(tmp_path: Path) -> None:
    (tmp_path / "dev.jsonl").write_text('{"id": 1, "text": "Sure?", "reference": "4"}\n')
    text = (
        "name: sums\ndata: {dev: dev.jsonl, test: capitals.jsonl}\n"
        "scorer: {name: calibration, of: mathematics}\n"
    )
    found = task(tmp_path, text, [{"id": 2, "text": "2+3", "reference": "5"}])
    (query,) = found.queries("dev")
    assert found.score(query, "The answer is 4. Confidence: 100%").value == 1


def test_choices_are_shown_with_their_own_keys(tmp_path: Path) -> None:
    rows = [{"id": 1, "text": "Which?", "choices": {"x": "iron", "y": "wax"}, "reference": "y"}]
    (query,) = task(tmp_path, "name: w\ndata: capitals.jsonl\nscorer: choice\n", rows).queries(
        "test"
    )
    assert query.text == (
        "Which?\n\nx) iron\ny) wax\n\nAnswer with the key of the right option: x or y."
    )


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (FIVE.replace("scorer: alias", "scorer: alas"), "no scorer 'alas'; the scorers are"),
        (FIVE.replace("scorer:", "scorr:"), "unknown key 'scorr'; did you mean 'scorer'"),
        (FIVE.replace("name: capitals\n", ""), "needs the key 'name'"),
        (FIVE.replace("{text} ", ""), "prompt must contain {text}"),
        (FIVE.replace("{text: q", "{txt: q"), "unknown key 'txt' in fields; the keys are id, text"),
        (FIVE.replace("alias", "{name: alias, x: 1}"), "'alias' has no setting 'x'; it takes none"),
        (FIVE.replace("alias", "reward"), "the scorer 'reward' needs the setting 'model'"),
        ("- 1\n", "a task file must be a mapping"),
        ("name: [", "not valid YAML"),
    ],
)
def test_a_wrong_file_is_refused_in_a_sentence(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint) as caught:
        task(tmp_path, text)
    assert "task.yaml" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"id": None}, "the field 'id' must be"),
        ({"question": 5}, "the field 'question' must be a text"),
        ({"capital": None}, "the reference must be a text or a list of texts, not None"),
        ({"split": "tset"}, "the field 'split' must be train, dev or test, not 'tset'"),
        ({"id": 2}, "capitals.jsonl:2 already has the id '2'"),
        ({"continent": ...}, "the prompt of the task file needs 'continent'"),
    ],
)
def test_a_wrong_line_is_named_with_its_field(
    tmp_path: Path, change: dict[str, Any], complaint: str
) -> None:
    row = {key: value for key, value in {**ROWS[2], **change}.items() if value is not ...}
    with pytest.raises(DataError, match=complaint) as caught:
        task(tmp_path, rows=[*ROWS[:2], row])
    assert "capitals.jsonl:3" in str(caught.value)


def test_data_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read .*nowhere"):
        task(tmp_path, FIVE.replace("capitals.jsonl", "nowhere.jsonl"))
    with pytest.raises(DataError, match="no questions"):
        task(tmp_path, rows=[])
    with pytest.raises(ConfigError, match="cannot read the task file"):
        find_task(str(tmp_path / "other.yaml"), Choices())
