"""The paper's benchmarks from the authors' files: split without leaks, refused with the place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taketurns.errors import DataError, UsageError
from taketurns.tasks.base import Split, Task
from taketurns.tasks.benchmarks import BENCHMARKS
from taketurns.tasks.registry import Choices, find_task, find_tasks, listing
from taketurns.tasks.scored import GroupScoredTask
from taketurns.tasks.scorers.registry import SCORERS
from taketurns.training.labels.decision_points import training_queries

Write = Callable[..., Path]
SPLITS: tuple[Split, ...] = ("train", "dev", "test")
PAPER = {
    "truthfulqa", "gsm8k", "bbh", "math", "agieval", "arc_challenge", "mmlu_redux", "popqa",
    "wikidyk", "sciencemeter", "blend", "kaleidoscope", "coconot", "sciriff", "alpacaeval",
    "human_interest", "wildchat", "infinite_chat_diversity",
}  # fmt: skip


def sums(first: int, last: int) -> list[dict[str, Any]]:
    return [
        {"id": n, "input": f"What is {n} + {n}?", "output": str(2 * n)} for n in range(first, last)
    ]


def load(path: Path, name: str = "gsm8k", **choices: Any) -> Task:
    return find_task(name, Choices(path, **choices))


def test_the_papers_benchmarks_are_there() -> None:
    assert set(BENCHMARKS) == PAPER
    assert {one.scorer for one in BENCHMARKS.values()} <= set(SCORERS)
    assert {row["task"] for row in listing()} > PAPER


def test_a_file_gives_three_splits_that_share_no_question(write: Write) -> None:
    task = load(write("gsm8k", dev=sums(0, 100), test=sums(100, 150)))
    sizes = {split: len(task.queries(split)) for split in SPLITS}
    assert sizes["test"] == 50
    assert sizes["train"] + sizes["dev"] == 100
    assert 5 < sizes["dev"] < 40
    texts = [query.text for split in SPLITS for query in task.queries(split)]
    assert len(texts) == len(set(texts))
    assert training_queries([task])["gsm8k"] == task.queries("train")


def test_the_split_of_a_question_does_not_depend_on_the_others(write: Write) -> None:
    few = load(write("gsm8k", dev=sums(0, 20), test=[])).queries("dev")
    many = load(write("gsm8k", dev=sums(0, 100), test=[])).queries("dev")
    assert {query.id for query in few} <= {query.id for query in many}


def test_a_train_of_its_own_leaves_dev_whole(write: Write) -> None:
    path = write("gsm8k", train=sums(0, 30), dev=sums(30, 40), test=sums(40, 45))
    assert [len(load(path).queries(split)) for split in SPLITS] == [30, 10, 5]


def test_duplicates_leave_dev_but_never_test(write: Write) -> None:
    dev = [*sums(0, 10), {**sums(3, 4)[0], "id": 99}, {"id": 77, **_shouted(sums(12, 13)[0])}]
    test = [*sums(10, 15), *sums(10, 11)]
    task = load(write("gsm8k", dev=dev, test=test))
    assert len(task.queries("test")) == 6
    assert len(task.queries("train")) + len(task.queries("dev")) == 10
    assert "2 rows of dev are left out" in task.notes[0]  # type: ignore[attr-defined]


def _shouted(row: dict[str, Any]) -> dict[str, Any]:
    return {"input": row["input"].upper().replace(" ", "  "), "output": row["output"]}


def test_ids_that_the_data_repeat_are_told_apart(write: Write) -> None:
    rows = [{**row, "id": 5} for row in sums(0, 3)]
    task = load(write("gsm8k", dev=[], test=rows))
    assert [query.id for query in task.queries("test")] == ["gsm8k/5", "gsm8k/5#2", "gsm8k/5#3"]


def test_an_answer_that_is_null_is_left_out_and_said(write: Write) -> None:
    task = load(write("gsm8k", dev=[], test=[*sums(0, 2), {**sums(2, 3)[0], "output": None}]))
    assert len(task.queries("test")) == 2
    assert "test row 3 has no answer" in task.notes[0]  # type: ignore[attr-defined]


def test_options_are_offered_by_the_datas_own_keys(write: Write) -> None:
    row = {"id": 1, "question": "Which melts?", "choices": {"1": "iron", "2": "wax"}, "answer": "2"}
    task = load(write("arc_challenge", dev=[], test=[row]), "arc_challenge")
    (query,) = task.queries("test")
    assert "1) iron\n2) wax" in (query.text or "")
    assert "1 or 2" in (query.text or "")
    assert task.score(query, "2").value == 1
    assert task.score(query, "B").value == 0


def test_a_question_that_lists_its_options_gets_them_once(write: Write) -> None:
    text = "Which? Without any explanation, choose. A. iron\nB. wax\n\nAnswer:"
    row = {"id": 1, "question": text, "choices": {"A": "iron", "B": "wax"}, "answer": "B"}
    (query,) = load(write("blend", dev=[], test=[row]), "blend").queries("test")
    assert (query.text or "").count("iron") == 1


def test_bbh_finds_the_options_in_the_text(write: Write) -> None:
    rows = [
        {"id": 1, "input": "Which?\nOptions:\n(A) a pear\n(B) a plum", "output": "B"},
        {"id": 2, "input": "Valid?\nOptions:\n- valid \n- invalid", "output": "valid"},
        {"id": 3, "input": "Is it plausible?", "output": "no"},
        {"id": 4, "input": "How many?", "output": "7"},
        {"id": 5, "input": "Close: ( <", "output": "> )"},
    ]
    task = load(write("bbh", dev=[], test=rows), "bbh")
    answers = ["a plum", "The argument is valid.", "No.", "There are 7.", "The answer is >)"]
    wrong = ["a pear", "It is invalid.", "Yes.", "There are 17.", ") >"]
    for query, right, other in zip(task.queries("test"), answers, wrong, strict=True):
        assert task.score(query, right).value == 1
        assert task.score(query, other).value == 0


GOOD = {"id": 1, "question": "Which?", "choices": {"A": "x", "B": "y"}, "answer": "A"}


@pytest.mark.parametrize(
    ("name", "row", "complaint"),
    [
        ("truthfulqa", {"id": 1, "input": "?"}, "test row 2: the field 'question' is missing"),
        ("truthfulqa", {**GOOD, "choices": ["x", "y"]}, "row 2: the field 'choices' must map"),
        (
            "truthfulqa",
            {**GOOD, "answer": "C"},
            r"row 2: the field 'answer' must be a key of 'choices' \(A, B\), not 'C'",
        ),
        ("truthfulqa", {**GOOD, "id": None}, "row 2: the field 'id' must be"),
        ("truthfulqa", {**GOOD, "question": ""}, "row 2: the field 'question' must be a text"),
    ],
)
def test_wrong_fields_are_named_with_their_row(
    write: Write, name: str, row: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(DataError, match=complaint):
        load(write(name, dev=[], test=[GOOD, row]), name)


def test_files_that_are_none_are_refused(write: Write, tmp_path: Path) -> None:
    with pytest.raises(DataError, match='must be an object with "dev" or "test"'):
        load(write("gsm8k"))
    with pytest.raises(DataError, match="must be a list of objects"):
        load(write("gsm8k", test=[1]))
    (tmp_path / "gsm8k.json").write_text("{")
    with pytest.raises(DataError, match="is not JSON"):
        load(tmp_path)
    with pytest.raises(DataError, match="cannot read"):
        find_task("math", Choices(tmp_path))
    with pytest.raises(UsageError, match="there is no file or folder /nowhere"):
        load(Path("/nowhere"))


def test_unknown_names_say_which_there_are() -> None:
    with pytest.raises(UsageError, match=r"truthfulqa, .* did you mean 'gsm8k'"):
        find_task("gsm8")
    with pytest.raises(UsageError, match="benchmark 'wikidyk': give the authors' file"):
        find_task("wikidyk")
    assert [task.name for task in find_tasks(["recall", "chain", "recall"])] == ["recall", "chain"]


def test_the_data_of_benchmarks_may_be_named_beside_a_task_file(
    write: Write, tmp_path: Path
) -> None:
    data = write("gsm8k", dev=[{"id": 1, "input": "2 + 2?", "output": "4"}], test=[])
    (tmp_path / "own.jsonl").write_text('{"id": "1", "text": "Who?", "reference": "I"}\n')
    own = tmp_path / "own.yaml"
    own.write_text("name: own\ndata: own.jsonl\nscorer: alias\n", encoding="utf-8")
    found = find_tasks(["gsm8k", str(own)], Choices(data))
    assert [task.name for task in found] == ["gsm8k", "own"]
    with pytest.raises(UsageError, match="has its own data"):
        find_tasks([str(own)], Choices(data))


def test_the_diversity_task_judges_answers_beside_each_other(write: Write) -> None:
    rows = [{"id": 1, "input": "Write a line.", "output": "", "reference": ["a line of mine"]}]
    name = "infinite_chat_diversity"
    task = load(write(name, dev=[], test=rows), name)
    assert isinstance(task, GroupScoredTask)
    (query,) = task.queries("test")
    same, other = (task.score_group(query, texts) for texts in (["hm hm"] * 2, ["hm hm", "la la"]))
    assert same[0].value == pytest.approx(0)
    assert (other[0].value or 0) > 0.5


def test_every_cut_loads_and_its_gold_answers_score_full(cuts: Path) -> None:
    for name, benchmark in BENCHMARKS.items():
        if benchmark.kind is None or not (cuts / f"{name}.json").is_file():
            continue
        task = load(cuts, name)
        training_queries([task])
        for query in task.queries("test") if benchmark.form != "open" else ():
            choices = query.metadata.get("choices")
            gold = str(query.reference) if name != "popqa" else str(query.reference).split('"')[1]
            assert task.score(query, f"The answer is {gold}.").value == 1, (name, query.id)
            assert task.score(query, "").value == 0
            if choices:
                other = next(key for key in choices if key != query.reference)
                assert task.score(query, f"The answer is {other}.").value == 0, (name, query.id)
