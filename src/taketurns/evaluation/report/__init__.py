"""The report of an evaluation: a page, a Markdown file, and its charts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from taketurns.evaluation.report.page import write_pages
from taketurns.evaluation.report.sections import render_evaluation
from taketurns.evaluation.report.theme import METHODS


def write_report(results: Mapping[str, Any], folder: Path) -> None:
    """Write `report.html`, which needs nothing else, `report.md` and its `figures/`."""
    write_pages(folder, list(render_evaluation(results)), METHODS)
