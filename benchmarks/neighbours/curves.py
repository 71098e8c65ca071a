"""Diversity against quality along each knob, from the output of `benchmarks.neighbours.run`.

    python -m benchmarks.neighbours.curves WORK [--picture FILE.svg]

A point is one method at one value of its knob: the mean score of its answers, and how different the
answers to one question under several seeds are, as distinct-2 and as 1 minus self-BLEU
(`tasks/scorers/diversity.py`). Both are means over questions, within a task, then over tasks.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from statistics import fmean

from benchmarks.neighbours.knobs import BY_TEMPERATURE, KNOBS, TEMPERATURES
from taketurns.evaluation.report.blocks import Chart, DataPoint
from taketurns.evaluation.report.charts import draw
from taketurns.evaluation.report.theme import ACCENT, SPEAKERS, SeriesStyle, standalone
from taketurns.tasks.scorers.diversity import Diversity
from taketurns.types import Query
from taketurns.utils.files import write_text
from taketurns.utils.markdown import table

MEASURES = ("distinct-2", "self-bleu")
STYLES = (
    *SPEAKERS[:6],
    SeriesStyle("#8b8e95", "D"),
    SeriesStyle("#8c564b", "v"),
    SeriesStyle(ACCENT, "o"),
)


@dataclass(frozen=True, slots=True)
class Place:
    """A method at a value of its knob: its score, and its diversity by each measure."""

    method: str
    value: float
    score: float
    diversity: tuple[float, ...]


def places(work: Path) -> Iterator[Place]:
    """What has been asked so far."""
    for knob in KNOBS:
        for value in knob.values:
            folder = work / "curves" / f"{knob.method}-{value:g}" / "evaluation"
            yield from _place(knob.method, value, folder / "answers" / "switch.jsonl")
    for method in BY_TEMPERATURE:
        for value in TEMPERATURES:
            folder = work / "curves" / f"temperature-{value:g}"
            yield from _place(method, value, folder / "answers" / f"{method}.jsonl")


def _place(method: str, value: float, answers: Path) -> Iterator[Place]:
    if not answers.is_file():
        return
    records = [json.loads(line) for line in answers.read_text(encoding="utf-8").splitlines()]
    records = [record for record in records if record.get("error") is None]
    records.sort(key=lambda record: (record["task"], record["id"]))
    tasks: list[tuple[float, ...]] = []
    for _, of_task in groupby(records, key=lambda record: record["task"]):
        questions = []
        for _, group in groupby(of_task, key=lambda record: record["id"].partition("#")[0]):
            seeds = list(group)
            texts = [record["text"] for record in seeds]
            questions.append((fmean(record["score"] or 0.0 for record in seeds), *_spread(texts)))
        tasks.append(tuple(map(fmean, zip(*questions, strict=True))))
    score, *diversity = map(fmean, zip(*tasks, strict=True))
    yield Place(method, value, score, tuple(diversity))


def _spread(texts: list[str]) -> tuple[float, ...]:
    query = Query("any", text="")
    scored = (Diversity(measure).score_group(query, texts) for measure in MEASURES)
    return tuple(fmean(score.value or 0.0 for score in scores) for scores in scored)


def markdown(found: list[Place]) -> str:
    """A row for each place."""
    rows = [
        [
            place.method,
            f"{place.value:g}",
            f"{place.score:.3f}",
            *(f"{d:.3f}" for d in place.diversity),
        ]
        for place in found
    ]
    return table(["method", "knob", "score", "distinct-2", "1 - self-BLEU"], rows)


def picture(found: list[Place]) -> str:
    """Score over diversity (1 - self-BLEU), a line for each method, as SVG."""
    marks = tuple(
        DataPoint("", place.score, place.method, x=place.diversity[-1]) for place in found
    )
    caption = "The mean score of each method over the diversity of its answers, along its knob."
    chart = Chart("neighbours", "lines", caption, marks, "diversity (1 - self-BLEU)", "mean score")
    methods = dict.fromkeys(place.method for place in found)
    styles = dict(zip(methods, STYLES, strict=False))
    return standalone(draw(chart, styles))


def main() -> None:
    """Print the table, and draw the picture if a file is named for it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    found = list(places(options.work))
    print(markdown(found), end="")
    if options.picture is not None:
        write_text(options.picture, picture(found))


if __name__ == "__main__":
    main()
