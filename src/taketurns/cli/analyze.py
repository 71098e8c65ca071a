"""`taketurns analyze`: who writes what in stored answers, and does it help?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from taketurns.cli import options


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
        typer.Option(help="The method to look at (default: what the evaluation compares)."),
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(help="A model, by path or hub id, that says which skill each patch shows."),
    ] = None,
    annotate: Annotated[
        Path | None,
        typer.Option(help="Only write a CSV of patches for people to label, blind."),
    ] = None,
    annotations: Annotated[
        Path | None, typer.Option(help="That CSV, filled in: agreement and kappa.")
    ] = None,
    patches: Annotated[int, typer.Option(min=1, help="How many patches to label.")] = 200,
    traces: Annotated[int, typer.Option(min=1, help="At most so many answers on the page.")] = 2000,
) -> None:
    """Say who writes what in stored answers, which sequences help, and what is beyond chance.

    Experiments that were written into the same folder are part of the report.
    """
    from taketurns.evaluation.analysis.session import AnalysisJob, run_analysis

    beside = run if run.is_dir() else run.parent
    folder = output or beside / ("analysis" if run.is_dir() else f"{run.stem}-analysis")
    run_analysis(
        AnalysisJob(run, folder, method, judge, annotate, annotations, patches, traces),
        options.say_as("analyze"),
    )
