"""The report of an evaluation: its text and tables, its figures, a page and a Markdown file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from taketurns.evaluate.report.content import report
from taketurns.evaluate.report.figures import draw
from taketurns.evaluate.report.markdown import markdown
from taketurns.evaluate.report.page import page
from taketurns.evaluate.report.theme import standalone


def write_report(found: Mapping[str, Any], folder: Path) -> None:
    """Write `report.html`, which needs nothing else, `report.md` and its `figures/`."""
    figures, blocks = draw(found), report(found)
    (folder / "figures").mkdir(exist_ok=True)
    for name, figure in figures.items():
        path = folder / "figures" / f"{name}.svg"
        path.write_text(standalone(figure), encoding="utf-8")
    (folder / "report.html").write_text(page(blocks, figures), encoding="utf-8")
    (folder / "report.md").write_text(markdown(blocks), encoding="utf-8")
