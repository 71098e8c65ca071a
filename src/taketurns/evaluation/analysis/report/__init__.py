"""The report of an analysis: a page with the answers in it, Markdown, SVG and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from taketurns.evaluation.analysis.report.browser import browser, style
from taketurns.evaluation.analysis.report.charts import as_csv, draw
from taketurns.evaluation.analysis.section import Chart, Section, read_sections
from taketurns.evaluation.analysis.turns import Run
from taketurns.evaluation.report.blocks import Block, Figure, Heading, Paragraph, Table
from taketurns.evaluation.report.markdown import markdown
from taketurns.evaluation.report.page import page
from taketurns.evaluation.report.theme import standalone
from taketurns.utils.files import write_text


def write_report(folder: Path, run: Run, traces: int) -> None:
    """Write `report.html`, which needs nothing else and holds at most `traces` answers, `report.md`
    with its `figures/`, and `data/` with every chart and table as CSV, from all sections that the
    folder holds."""
    sections = read_sections(folder)
    for part in ("figures", "data"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    figures = {}
    for section in sections:
        for chart in (part for part in section.parts if isinstance(part, Chart)):
            name = _named(section, chart)
            figures[name] = draw(chart, name, run.subject.pool)
            write_text(folder / "figures" / f"{name}.svg", standalone(figures[name]))
            write_text(folder / "data" / f"{name}.csv", as_csv(chart))
        tables = [part for part in section.parts if isinstance(part, Table)]
        for number, table in enumerate(tables, start=1):
            write_text(folder / "data" / f"{section.name}-table-{number}.csv", _table(table))
    blocks = [*_summary(run, sections), *(b for section in sections for b in _blocks(section))]
    write_text(folder / "report.html", page(blocks, figures, style(), browser(run, traces)))
    write_text(folder / "report.md", markdown(blocks))


def _summary(run: Run, sections: Sequence[Section]) -> Iterator[Block]:
    turns = run.subject
    seeds = {len(answers) for answers in turns.questions.values()}
    each = f"{min(seeds)}" if len(seeds) == 1 else f"{min(seeds)} to {max(seeds)}"
    yield Heading(f"Who writes what, and does it help? The answers of {turns.method}", 1)
    yield Paragraph(
        f"{len(turns.answers)} answers to {len(turns.questions)} questions of {len(turns.tasks)} "
        f"tasks, {each} a question, written by {', '.join(turns.pool)}"
        + (f"; {turns.failed} failed and are left out." if turns.failed else ".")
    )
    for section in sections:
        if section.finding:
            yield Paragraph(section.finding, section.title)


def _blocks(section: Section) -> Iterator[Block]:
    yield Heading(section.title)
    for part in section.parts:
        yield Figure(_named(section, part), part.caption) if isinstance(part, Chart) else part
    if section.caveat:
        yield Paragraph(section.caveat)


def _named(section: Section, chart: Chart) -> str:
    return f"{section.name}-{chart.name}"


def _table(table: Table) -> str:
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(table.header)
    rows.writerows(table.rows)
    return text.getvalue()
