"""The recipe of the team smol, on tiny models: its questions are divided, its stages learn, and it
goes on after a stop."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from recipes.smol import __main__ as recipe
from recipes.smol import publish as publishing
from recipes.smol.adapter import train_adapter
from recipes.smol.dev import chosen_tasks, measure_dev
from recipes.smol.documents import LEARNED_NOT, PLAIN_PROMPT, Document, short_answer
from recipes.smol.questions import BENCHMARKS, NAMES, WHEEL_TASKS, load_tasks, make_questions
from recipes.smol.solutions import keep_right, write_prompts
from taketurns.checkpoints.bundled_base import BaseVersion, adapters_version
from taketurns.config.bundled import SMOL, TEAMS
from taketurns.engines.local.library_logging import asked_by_an_old_name
from taketurns.errors import DataError
from taketurns.types import Query
from taketurns.utils.json_files import read_json, write_json
from tests.gguf_registry import make_wheel

ASKED = {
    "logiqa": "\nPassage: Either fact {0} holds or law {0} does.Question: "
    "Which follows in case {1}?\nA. A.Fact {1}\nB. B.Law {1}\nC. C.Both\nD. D.Neither\nAnswer:",
    "quartz": "Case number {0} of the many tests {1} was\n\n A: hot\n B: cold",
    "socialiqa": "Person {0} was late again. How would others feel in case {1}? A: fine; B: sad; "
    "C: glad.",
}
CHOICES = {"A": "yes", "B": "no"}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Files of the paper's benchmarks: 40 questions for dev, of which one is also in test."""
    folder = tmp_path / "data"
    folder.mkdir()
    for name in BENCHMARKS:
        rows = [
            {"id": i, "question": f"Is {name} {i}?", "choices": CHOICES, "answer": "A"}
            if name in ("arc_challenge", "mmlu_redux", "truthfulqa", "kaleidoscope")
            else {"id": i, "input": f"What is {name} {i}?", "output": str(i)}
            for i in range(44)
        ]
        parts = {"dev": rows[:40], "test": [*rows[40:], {**rows[0], "id": 99}]}
        (folder / f"{name}.json").write_text(json.dumps(parts), encoding="utf-8")
    return folder


@pytest.fixture
def questions(data: Path, tmp_path: Path) -> Path:
    """The folder of the divided questions; those of the wheel are two about each passage."""
    wheels = tmp_path / "cache" / "wheels"
    wheels.mkdir(parents=True)
    tasks = []
    for task in WHEEL_TASKS:
        lines = [
            {"input": [{"content": ASKED[task.name].format(i // 2, i)}], "ideal": "B"}
            for i in range(700)
        ]
        opposite = {**lines[7], "ideal": "A"}
        body = "".join(json.dumps(line) + "\n" for line in [*lines, lines[0], opposite])
        part = make_wheel(wheels, f"questions-{task.name}", "questions.jsonl", body.encode())
        tasks.append(replace(task, part=part))
    folder = tmp_path / "questions"
    make_questions(data, tmp_path / "cache", folder, tasks)
    return folder


def test_no_question_is_in_two_parts_and_the_tests_are_as_they_were(
    questions: Path, data: Path
) -> None:
    staged = {task.name: task for task in load_tasks(questions / "stage")}
    for task in load_tasks(questions):
        parts = {split: task.queries(split) for split in ("train", "dev", "test")}
        parts["stage"] = staged[task.name].queries("train")
        texts = [query.text for queries in parts.values() for query in queries]
        assert len(texts) == len(set(texts)), task.name
        assert all(parts.values()), task.name
        if task.name in BENCHMARKS:
            again = json.loads((questions / f"{task.name}.json").read_text(encoding="utf-8"))
            given = json.loads((data / f"{task.name}.json").read_text(encoding="utf-8"))
            assert again["test"] == given["test"]
            assert len(texts) == 39 + 5  # the question that is also in test is in no other part


def test_questions_about_one_passage_are_in_one_part(questions: Path) -> None:
    place: dict[str, set[str]] = {}
    for folder in (questions, questions / "stage"):
        lines = (folder / "logiqa.jsonl").read_text(encoding="utf-8").splitlines()
        for row in map(json.loads, lines):
            passage = row["text"].partition("\n")[0]
            part = "stage" if folder.name == "stage" else row["split"]
            place.setdefault(passage, set()).add(part)
    assert len(place) == 350
    assert {len(parts) for parts in place.values()} == {1}
    assert set.union(*place.values()) == {"stage", "train", "dev", "test"}


def test_a_question_with_two_answers_is_left_out(questions: Path) -> None:
    ids = {
        query.id
        for folder in (questions, questions / "stage")
        for task in load_tasks(folder)
        if task.name == "quartz"
        for split in ("train", "dev", "test")
        for query in task.queries(split)
    }
    assert ids == {f"quartz/{number}" for number in range(700) if number != 7}


def test_an_option_is_read_without_its_key_and_asked_as_its_task_asks(questions: Path) -> None:
    task = {task.name: task for task in load_tasks(questions)}["logiqa"]
    query = task.queries("test")[0]
    assert re.search(r"\nQuestion: Which follows in case \d+\?\n\nA\) Fact ", query.text or "")
    assert short_answer(query).startswith("B) Law ")
    assert task.score(query, short_answer(query)).value == 1


def test_a_file_that_is_missing_is_named(data: Path, tmp_path: Path) -> None:
    (data / "popqa.json").unlink()
    with pytest.raises(DataError, match=r"popqa\.json"):
        make_questions(data, tmp_path, tmp_path / "questions", ())
    assert not (tmp_path / "questions").exists()


@pytest.mark.parametrize(
    ("reference", "written"),
    [('["Rome", "Roma"]', "Rome"), (["Rome", "Roma"], "Rome"), ("Rome", "Rome"), (7, "7")],
)
def test_a_short_answer_is_the_first_name(reference: Any, written: str) -> None:
    assert short_answer(Query("popqa/1", text="?", reference=reference)) == written


def test_context_is_not_learned() -> None:
    assert Document((5, 6, 7, 8), 2).labels == (LEARNED_NOT, LEARNED_NOT, 7, 8)


def test_a_stage_learns_its_documents_and_goes_on_after_a_stop(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from peft import PeftModel
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM

    base_folder = tmp_path / "base"
    shutil.copytree(tiny_model, base_folder)
    version = BaseVersion("someone/tiny", "wheel", "0" * 64)
    with pytest.raises(DataError, match="does not say which base it is"):
        train_adapter(base_folder, [], tmp_path / "none", 1, {})
    write_json(base_folder / "source.json", asdict(version))
    documents = [Document(tuple(range(start, start + 40))) for start in range(10, 20)]
    monkeypatch.setattr("recipes.smol.adapter.MINUTES", 0)  # a checkpoint at every step
    monkeypatch.setattr("recipes.smol.adapter.TOKENS", 80)
    train_adapter(base_folder, documents, tmp_path / "whole", 2, {"learned_from": "rows"})

    class Killed(Exception):
        pass

    def kill(*arguments: Any) -> None:
        if len(list((tmp_path / "cut.checkpoints").glob("checkpoint-*"))) == 1:
            raise Killed

    from recipes.smol import adapter

    collate = adapter._collate
    monkeypatch.setattr(adapter, "_collate", lambda items: (kill(), collate(items))[1])
    with pytest.raises(Killed):
        train_adapter(base_folder, documents, tmp_path / "cut", 2, {})
    assert not (tmp_path / "cut").exists()
    monkeypatch.setattr(adapter, "_collate", collate)
    train_adapter(base_folder, documents, tmp_path / "cut", 2, {})

    whole, cut = (
        load_file(tmp_path / name / "adapter_model.safetensors") for name in ("whole", "cut")
    )
    assert {weight.dtype for weight in whole.values()} == {torch.bfloat16}
    assert all(torch.equal(whole[name], cut[name]) for name in whole)
    record = json.loads((tmp_path / "whole" / "stage.json").read_text(encoding="utf-8"))
    assert record["learned_from"] == "rows"
    assert adapters_version(tmp_path / "whole") == version
    assert str(tmp_path) not in (tmp_path / "whole" / "adapter_config.json").read_text("utf-8")
    ids = torch.tensor([documents[0].ids])
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    before = base(ids, labels=ids).loss.item()
    with asked_by_an_old_name():
        tuned = PeftModel.from_pretrained(base, tmp_path / "whole")
    after = tuned(ids, labels=ids).loss.item()
    assert after < before


def test_only_right_and_whole_solutions_are_kept(questions: Path, tmp_path: Path) -> None:
    staged = {task.name: task for task in load_tasks(questions / "stage")}
    first, second, third = staged["quartz"].queries("train")[:3]
    lines = [
        {"id": first.id, "text": f"It is so.\nThe answer is {first.reference}."},
        {"id": second.id, "text": f"{second.reference}) It is cold, and so"},
        {"id": third.id, "text": "It is so.\nThe answer is A."},
    ]
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    keep_right(questions, tmp_path / "answers.jsonl", tmp_path / "solutions.jsonl")
    kept = (tmp_path / "solutions.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in kept] == lines[:1]


def test_the_solver_is_asked_as_generate_asks(
    questions: Path,
    make_model: Callable[..., Path],
    other_tokenizer: Any,
    tmp_path: Path,
    invoke: Callable[..., tuple[int, str, str]],
) -> None:
    solver = make_model(seed=3, tokenizer=other_tokenizer, max_position_embeddings=2048)
    team, prompts, answers = (tmp_path / name for name in ("solver.yaml", "in.jsonl", "out.jsonl"))
    write_prompts(solver, questions, team, prompts, limit=2)
    lines = [json.loads(line) for line in prompts.read_text(encoding="utf-8").splitlines()]
    assert len({line["id"] for line in lines}) == 12
    question = lines[0]["messages"][-1]["content"]
    assert len(lines[0]["messages"]) == 5
    assert "why the right answer is" in question

    command = ("generate", "--team", str(team), "--input", str(prompts), "--output", str(answers))
    code, _, err = invoke(*command, "--limit", "1", "--set", "policy.max_tokens=4")
    assert code == 0, err
    record = json.loads(answers.read_text(encoding="utf-8"))
    assert record["id"] == lines[0]["id"]
    assert {patch["name"] for patch in record["patches"]} == {"solver"}


def test_labels_are_made_on_the_tasks_that_separate_the_checkpoints(tmp_path: Path) -> None:
    def scores(right: int) -> dict[str, Any]:
        return {"mean": right / 40, "scores": [1.0] * right + [0.0] * (40 - right)}

    best = (10, 11, 20, 25, 30, 38)
    files = [tmp_path / "plain.json", tmp_path / "worked.json"]
    write_json(files[0], {f"task{right}": scores(right) for right in best})
    write_json(files[1], {f"task{right}": scores(10) for right in best})
    assert chosen_tasks(files) == ["task38", "task30", "task25", "task20"]


def test_a_checkpoint_alone_is_scored_on_the_dev_questions(
    questions: Path, tiny_model: Path, tmp_path: Path
) -> None:
    team = tmp_path / "two.yaml"
    team.write_text(
        f"candidates:\n  - {{name: a, model: {tiny_model}}}\n  - {{name: b, model: {tiny_model}}}\n"
        "switcher: {kind: random}\npolicy: {max_tokens: 4}\n",
        encoding="utf-8",
    )
    measure_dev(team, "b", questions, tmp_path / "b.json", limit=3)
    results = read_json(tmp_path / "b.json")
    assert set(results) == set(NAMES)
    assert all(len(scores["scores"]) == 3 for scores in results.values())


def test_a_finished_run_is_copied_and_a_large_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, shipped = tmp_path / "work", tmp_path / "shipped"
    for part, names in publishing.PARTS.items():
        (work / part / "checkpoints").mkdir(parents=True)
        for name in names:
            (work / part / name).write_bytes(b"w" * 100)
    head = work / "switchers" / "head" / "head.json"
    head.unlink()
    with pytest.raises(DataError, match=r"has no switchers/head/head\.json"):
        publishing.publish(work, shipped)
    head.write_bytes(b"w" * 100)
    with monkeypatch.context() as small:
        small.setattr(publishing, "LIMIT", 900)
        with pytest.raises(DataError, match="are shipped: train adapters of a lower rank"):
            publishing.publish(work, shipped)
    assert not shipped.exists()
    shipped.mkdir()
    (shipped / "team.yaml").write_text("candidates: []\n", encoding="utf-8")

    assert publishing.publish(work, shipped) == 1000

    files = {str(file.relative_to(shipped)) for file in shipped.rglob("*") if file.is_file()}
    copied = {f"{part}/{name}" for part, names in publishing.PARTS.items() for name in names}
    assert files == copied | {"team.yaml"}


def test_the_prompt_of_the_team_is_the_one_that_was_learned() -> None:
    file = yaml.safe_load(TEAMS[SMOL].team_file.read_text(encoding="utf-8"))
    prompts = {candidate["name"]: candidate.get("prompt") for candidate in file["candidates"]}
    assert prompts == {"plain": PLAIN_PROMPT, "worked": None, "aligned": None}


def test_without_the_questions_it_says_where_they_belong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work = str(tmp_path / "out")
    assert recipe.main([work]) == 2
    assert "give the folder of the authors' files with --data" in capsys.readouterr().err
    assert recipe.main([work, "--data", str(tmp_path)]) == 2
    assert f"there is no {tmp_path}/gsm8k.json" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_every_command_of_the_recipe_is_one_of_the_project(
    data: Path, tmp_path: Path, invoke: Callable[..., tuple[int, str, str]]
) -> None:
    options = recipe._parser().parse_args([str(tmp_path), "--data", str(data)])
    commands = [step.command for step in recipe.steps(options) if step.command]
    assert [command[1] for command in commands] == ["generate", "rollout", "train", "train"]
    for command in commands:
        code, _, err = invoke(*command[1:], "--help")
        assert code == 0, err


def test_a_switcher_whose_training_was_stopped_is_trained_on(data: Path, tmp_path: Path) -> None:
    """Fault: its folder, which is there from the beginning, was taken for a finished switcher."""
    options = recipe._parser().parse_args([str(tmp_path), "--data", str(data)])
    trainings = [step for step in recipe.steps(options) if step.name in ("head", "lm")]
    for step in trainings:
        folder = tmp_path / "switchers" / step.name
        folder.mkdir(parents=True)
        (folder / "examples.jsonl").write_text("{}\n", encoding="utf-8")
        assert not step.done
        (folder / "metrics.json").write_text("{}\n", encoding="utf-8")
        assert step.done
