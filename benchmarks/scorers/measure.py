"""Do the scorers score right and wrong answers correctly in all wordings?

A team of scripted models answers each benchmark in the authors' format, once per wording; the
answers are scored by our scorers and by the authors' scoring. Prints a table in Markdown.

    python -m benchmarks.scorers.measure DIR
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from benchmarks.scorers import wordings
from taketurns.config.policy import Policy
from taketurns.engines.scripted import ScriptedEngine
from taketurns.evaluation.scoring.answers import QuestionAnswers
from taketurns.evaluation.scoring.scorecard import score_answers
from taketurns.generation.team import Team
from taketurns.switchers.simple import RandomSwitcher
from taketurns.tasks.authors_format import read_file
from taketurns.tasks.base import Split, Task
from taketurns.tasks.benchmarks import BENCHMARKS
from taketurns.tasks.registry import Choices, find_task
from taketurns.tasks.scored import scored_task
from taketurns.tasks.scorers.diversity import Diversity
from taketurns.tasks.scorers.registry import make_scorer
from taketurns.types import Candidate, ModelSpec, Query, Score
from taketurns.utils.markdown import table

SPLITS: tuple[Split, ...] = ("train", "dev", "test")
PATCH = 2048
Wording = Callable[[Query], list[str]]


@dataclass(frozen=True, slots=True)
class JudgedAnswers:
    """For one task and kind of answer: the number of answers, their mean score, the share with a
    full score, and the share in which no answer was found."""

    answers: int
    mean: float
    full: float
    unread: float


async def answered(queries: Sequence[Query], texts: dict[str, str]) -> list[QuestionAnswers]:
    """The answers of a team of two scripted models; `texts[id]` are their texts."""
    by_prompt = {query.text or "": texts[query.id] for query in queries}
    names = ("one", "other")
    engine = ScriptedEngine(
        {name: lambda prompt, sampling: by_prompt[prompt] for name in names}, context=1 << 20
    )
    candidates = [Candidate(name, ModelSpec(name)) for name in names]
    team = Team(candidates, engine, RandomSwitcher(), Policy(patch_size=PATCH, max_tokens=PATCH))
    traces = await asyncio.gather(*(team.agenerate(query) for query in queries))
    return [QuestionAnswers(trace.query, (trace.text,)) for trace in traces]


def measured(
    tasks: Mapping[str, Task], queries: Sequence[Query], wording: Wording
) -> list[JudgedAnswers]:
    """Answer every query once in each wording, and score the answers with each task."""
    variants = {query.id: wording(query) for query in queries}
    answers: list[QuestionAnswers] = []
    for turn in range(max(map(len, variants.values()))):
        asked = [query for query in queries if turn < len(variants[query.id])]
        texts = {query.id: variants[query.id][turn] for query in asked}
        answers += asyncio.run(answered(asked, texts))
    return [_row(score_answers(task, "test", answers).scores) for task in tasks.values()]


def _row(scores: Sequence[Score]) -> JudgedAnswers:
    values = [score.value or 0.0 for score in scores]
    return JudgedAnswers(
        answers=len(scores),
        mean=fmean(values),
        full=fmean(value >= 1 for value in values),
        unread=fmean(not score.parsed for score in scores),
    )


def compare(name: str, data: Path, limit: int | None) -> tuple[int, dict[str, JudgedAnswers]]:
    """The number of a task's questions, and its rows: right and wrong answers, by our scoring and
    by the authors'."""
    tasks = {
        "ours": find_task(name, Choices(data)),
        "moco": find_task(name, Choices(data, scoring="moco")),
    }
    queries = [query for split in SPLITS for query in tasks["ours"].queries(split)][:limit]
    if BENCHMARKS[name].form == "open":
        ways: dict[str, Wording] = {
            "gold": lambda query: list(wordings.DECLINED),
            "wrong": lambda query: list(wordings.COMPLIED),
        }
    else:
        ways = {"gold": wordings.gold, "wrong": lambda query: wordings.wrong(query, queries)}
    rows = {}
    for kind, way in ways.items():
        for scoring, row in zip(tasks, measured(tasks, queries, way), strict=True):
            rows[f"{kind} {scoring}"] = row
    return len(queries), rows


def calibrated(data: Path, limit: int | None) -> tuple[int, JudgedAnswers, JudgedAnswers]:
    """TruthfulQA with a stated confidence of 100 %: right answers, and wrong ones."""
    plain = find_task("truthfulqa", Choices(data))
    queries = plain.queries("test")[:limit]
    scorer = make_scorer("calibration", {"of": "choice"})
    task = scored_task("calibration", plain.category, {"test": queries}, scorer)
    sure = "The answer is {}. Confidence: 100%".format
    other: Wording = lambda query: [  # noqa: E731
        sure(key) for key in query.metadata["choices"] if key != query.reference
    ]
    (right,) = measured({"": task}, queries, lambda query: [sure(query.reference)])
    (wrong,) = measured({"": task}, queries, other)
    return len(queries), right, wrong


def diverse(data: Path, limit: int | None) -> tuple[int, float, float]:
    """Self-BLEU of AlpacaEval's own outputs to three requests, and of one output three times."""
    rows = read_file(data / "alpacaeval.json")["test"][:limit]
    texts = [str(row["output"]) for row in rows]
    query = Query("any", text="Say something.")
    spread, same = [], []
    for i, text in enumerate(texts):
        others = [text, texts[i - 1], texts[i - 2]]
        spread += [score.value or 0 for score in Diversity().score_group(query, others)]
        same += [score.value or 0 for score in Diversity().score_group(query, [text] * 3)]
    return len(texts), fmean(spread), fmean(same)


def main() -> None:
    """Measure every benchmark that the folder has."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="a folder of files in the authors' format")
    parser.add_argument("--limit", type=int, help="questions a task")
    arguments = parser.parse_args()
    head = ["task", "scorer", "questions", "right answers: mean", "not read",
            "wrong answers: mean", "full", "authors' scoring: right", "wrong"]  # fmt: skip
    print(table(head, []), end="")
    for name, benchmark in BENCHMARKS.items():
        if benchmark.kind is None or not (arguments.data / f"{name}.json").is_file():
            continue
        asked, rows = compare(name, arguments.data, arguments.limit)
        gold, wrong = rows["gold ours"], rows["wrong ours"]
        print(
            f"| {name} | {benchmark.scorer} | {asked} × {gold.answers / asked:.0f} "
            f"| {gold.mean:.3f} | {gold.unread:.3f} | {wrong.mean:.3f} | {wrong.full:.3f} "
            f"| {rows['gold moco'].mean:.3f} | {rows['wrong moco'].mean:.3f} |",
            flush=True,
        )
    asked, sure, wrong = calibrated(arguments.data, arguments.limit)
    print(
        f"| truthfulqa, stated as certain | calibration | {asked} | {sure.mean:.3f} "
        f"| {sure.unread:.3f} | {wrong.mean:.3f} | {wrong.full:.3f} | | |"
    )
    asked, spread, same = diverse(arguments.data, arguments.limit)
    print(
        f"| alpacaeval, three answers | diversity | {asked} | {spread:.3f} (of different answers) "
        f"| 0.000 | {same:.3f} (of one, repeated) | 0.000 | | |"
    )


if __name__ == "__main__":
    main()
