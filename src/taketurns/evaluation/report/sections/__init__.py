"""The sections of an evaluation's report: each `render_*` turns the evaluation's results, plain
JSON values (`evaluation/findings.py`), into blocks."""

from collections.abc import Iterator, Mapping
from typing import Any

from taketurns.evaluation.report.blocks import Block
from taketurns.evaluation.report.sections.comparisons import render_comparisons
from taketurns.evaluation.report.sections.cost_quality import render_cost_quality
from taketurns.evaluation.report.sections.coverage import render_coverage
from taketurns.evaluation.report.sections.scores import render_leaders, render_scores
from taketurns.evaluation.report.sections.settings import (
    render_chosen,
    render_guide,
    render_settings,
)
from taketurns.evaluation.report.sections.summary import render_gains, render_summary


def render_evaluation(results: Mapping[str, Any]) -> Iterator[Block]:
    """The whole report, in order."""
    yield from render_summary(results)
    yield from render_gains(results)
    yield from render_scores(results)
    yield from render_comparisons(results)
    yield from render_cost_quality(results)
    yield from render_leaders(results)
    yield from render_coverage(results)
    yield from render_chosen(results)
    yield from render_guide()
    yield from render_settings(results["settings"])
