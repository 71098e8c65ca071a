"""The report of an evaluation: its text and tables, its figures, a page and a Markdown file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from taketurns.evaluation.report.content import report
from taketurns.evaluation.report.figures import draw
from taketurns.evaluation.report.markdown import markdown
from taketurns.evaluation.report.page import page
from taketurns.evaluation.report.theme import standalone
from taketurns.utils.files import write_text


def write_report(found: Mapping[str, Any], folder: Path) -> None:
    """Write `report.html`, which needs nothing else, `report.md` and its `figures/`."""
    figures, blocks = draw(found), report(found)
    (folder / "figures").mkdir(exist_ok=True)
    for name, figure in figures.items():
        write_text(folder / "figures" / f"{name}.svg", standalone(figure))
    write_text(folder / "report.html", page(blocks, figures))
    write_text(folder / "report.md", markdown(blocks))
