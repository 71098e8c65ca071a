"""`taketurns analyze`: who writes which parts of stored answers, and whether that helps."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from taketurns.cli import options

_annotation = partial(typer.Option, rich_help_panel="Labels by people")


def analyze(
    run: Annotated[
        Path,
        typer.Option("--run", "-r", help="A folder of taketurns evaluate, or traces with scores."),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The folder for the report (default: RUN/analysis)."),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(help="The method to analyse (default: the evaluation's subject)."),
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(help="A model (path or hub id) that names the skill that each patch shows."),
    ] = None,
    annotate: Annotated[
        Path | None,
        _annotation(help="Only write this CSV: patches, without speakers, for people to label."),
    ] = None,
    annotations: Annotated[
        Path | None, _annotation(help="That CSV, filled in; measures agreement and kappa.")
    ] = None,
    patches: Annotated[int, _annotation(min=1, help="Number of patches to label.")] = 200,
    traces: Annotated[int, typer.Option(min=1, help="Most answers on the report's page.")] = 2000,
) -> None:
    """Analyse stored answers: who writes which parts, and what helps.

    Each finding is compared with chance. Experiments in the same folder are part of the report.
    """
    from taketurns.evaluation.analysis.session import AnalysisJob, run_analysis

    beside = run if run.is_dir() else run.parent
    folder = output or beside / ("analysis" if run.is_dir() else f"{run.stem}-analysis")
    run_analysis(
        AnalysisJob(run, folder, method, judge, annotate, annotations, patches, traces),
        options.say_as("analyze"),
    )
