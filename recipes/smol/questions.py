"""The questions of the recipe, divided so that no stage and no label sees a question of a test.

Three tasks come from a wheel (LogiQA, QuaRTz, Social IQA) and become task files. The others
are the paper's benchmarks, whose authors' files are written again. Every question is in one of four
parts: `stage` (the two stages learn from these), `train` (labels), `dev` (choices) and `test`. The
part depends on a hash of the question, or of the passage that several are about.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recipes.smol.sources import LOGIQA, QUARTZ, SOCIALIQA
from recipes.smol.wheel import read_lines
from taketurns.checkpoints.wheels import WheelPart
from taketurns.tasks.base import Task
from taketurns.tasks.registry import Choices, find_task
from taketurns.utils.files import atomic_folder, write_text
from taketurns.utils.json_files import read_json
from taketurns.utils.seeds import derive

BENCHMARKS = (
    "gsm8k", "popqa", "wikidyk", "arc_challenge",
    "mmlu_redux", "truthfulqa", "kaleidoscope",
)  # fmt: skip
TEST, DEV, TRAIN = 300, 80, 200  # questions of a task from the wheel; the rest are for the stages
STAGE = "stage"


@dataclass(frozen=True, slots=True)
class WheelTask:
    """A task whose questions are one file of the wheel. `pattern` finds the question and its
    options, whose keys are A, B, C, …; `passage` finds what several questions share."""

    name: str
    part: WheelPart
    pattern: re.Pattern[str]
    passage: re.Pattern[str]


WHEEL_TASKS = (
    WheelTask(
        "logiqa",
        LOGIQA,
        re.compile(
            r"\s*Passage: (.*?)\n"
            + r"".join(rf"\s*{key}\. (?:{key}\.)?(.*?)\n" for key in "ABCD")
            + r"Answer:\s*",
            re.S,
        ),
        re.compile(r"(.*?)Question:", re.S),
    ),
    WheelTask(
        "quartz",
        QUARTZ,
        re.compile(r"(.*?)\s*\n\s*A: (.*?)\n\s*B: (.*?)", re.S),
        # A question often has a twin with the opposite answer, which begins with the same words.
        re.compile(r"((?:\S+\s+){0,4}\S+)"),
    ),
    WheelTask(
        "socialiqa",
        SOCIALIQA,
        re.compile(r"(.*\?) A: (.*?); B: (.*?); C: (.*?)\.?", re.S),
        re.compile(r"(.*\.)\s[^.]*\?", re.S),
    ),
)
NAMES = (*BENCHMARKS, *(task.name for task in WHEEL_TASKS))


def task_sources(questions: Path) -> list[str]:
    """Each task as the commands name it: the benchmark's name, or its task file."""
    return [*BENCHMARKS, *(str(questions / f"{task.name}.yaml") for task in WHEEL_TASKS)]


def load_tasks(questions: Path) -> list[Task]:
    """The tasks in a folder of `make_questions`, which is also the folder for `--data`."""
    return [
        find_task(source, Choices(data=questions if source in BENCHMARKS else None))
        for source in task_sources(questions)
    ]


def make_questions(
    data: Path, cache: Path, folder: Path, wheel_tasks: Sequence[WheelTask] = WHEEL_TASKS
) -> None:
    """Write all tasks into `folder`, and into `folder/stage` those with the stages' questions as
    `train`. `data` has the authors' files, `cache` the wheels. Raises DataError if a file is
    missing or differs from the pinned one."""
    with atomic_folder(folder, replace=True) as draft:
        (draft / STAGE).mkdir()
        for name in BENCHMARKS:
            _benchmark(name, data, draft)
        for task in wheel_tasks:
            _wheel_task(task, cache, draft)


def _benchmark(name: str, data: Path, folder: Path) -> None:
    """Divide what the project's own split has for training: half of it is for the stages."""
    task = find_task(name, Choices(data=data))
    split_of = {
        query.id.partition("/")[2]: split
        for split in ("train", "dev")
        for query in task.queries(split)
    }
    raw = read_json(data / f"{name}.json")
    uses = Counter(str(row["id"]) for part in ("dev", "test") for row in raw[part])
    rows: dict[str, list[Any]] = {"train": [], "dev": [], STAGE: []}
    for row in raw["dev"]:
        # Left out: questions that are also in test, and those whose id another question has.
        identifier = str(row["id"])
        if (split := split_of.get(identifier)) is not None and uses[identifier] == 1:
            text = str(row.get("question", row.get("input")))
            rows[STAGE if split == "train" and _draw(text) < 0.5 else split].append(row)
    staged = {"train": rows.pop(STAGE)}
    _write_json(folder / f"{name}.json", {**rows, "test": raw["test"]})
    _write_json(folder / STAGE / f"{name}.json", staged)


def _wheel_task(task: WheelTask, cache: Path, folder: Path) -> None:
    """Write a task's file and questions in the order of their draws: test, dev, train, the rest.
    Questions that the file answers in two ways are left out."""
    rows = sorted(_read(task, cache), key=lambda row: (_draw(row["passage"]), row["id"]))
    ends = iter((("test", TEST), ("dev", DEV), ("train", TRAIN)))
    passage, split, room = None, "", 0
    for row in rows:
        if room <= 0 and row["passage"] != passage:  # a passage is never divided
            split, room = next(ends, (STAGE, len(rows)))
        passage, room = row.pop("passage"), room - 1
        row["split"] = split
    kept = [row for row in rows if not row.pop("contradicted")]
    _write_task(task.name, [row for row in kept if row["split"] != STAGE], folder)
    staged = [{**row, "split": "train"} for row in kept if row["split"] == STAGE]
    _write_task(task.name, staged, folder / STAGE)


def _write_task(name: str, rows: list[dict[str, Any]], folder: Path) -> None:
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    write_text(folder / f"{name}.jsonl", "".join(lines))
    file = f"name: {name}\ndata: {name}.jsonl\nscorer: choice\ncategory: reasoning\n"
    write_text(folder / f"{name}.yaml", file)


def _write_json(path: Path, rows: dict[str, list[Any]]) -> None:
    write_text(path, json.dumps(rows, ensure_ascii=False) + "\n")


def _read(task: WheelTask, cache: Path) -> Iterator[dict[str, Any]]:
    """The questions of a wheel's file, each text once. Lines of another form are left out."""
    lines = list(read_lines(task.part, cache))
    texts = [line["input"][-1]["content"] for line in lines]
    answers: dict[str, set[str]] = {}
    for line, text in zip(lines, texts, strict=True):
        answers.setdefault(text, set()).add(line["ideal"])
    seen = set()
    for number, (line, text) in enumerate(zip(lines, texts, strict=True)):
        matched = task.pattern.fullmatch(text)
        if matched is None:
            continue
        question, *options = (piece.strip() for piece in matched.groups())
        question = re.sub(r"(\S)Question: ", r"\1\nQuestion: ", question)
        choices = dict(zip("ABCD", options, strict=False))
        if line["ideal"] not in choices or question in seen:
            continue
        seen.add(question)
        found = task.passage.match(question)
        yield {
            "id": str(number),
            "text": question,
            "choices": choices,
            "reference": line["ideal"],
            "passage": (found.group(1) if found else question).lower().strip(),
            "contradicted": len(answers[text]) > 1,
        }


def _draw(text: str) -> float:
    """A number in [0, 1) that depends on the text alone."""
    return derive(0, text, "smol") % 2**32 / 2**32
