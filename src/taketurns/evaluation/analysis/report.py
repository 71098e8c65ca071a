"""The report of an analysis: a page that includes the answers, Markdown, SVG and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, fields, replace
from pathlib import Path

from taketurns.evaluation.analysis.answers import AnalysisInput
from taketurns.evaluation.analysis.trace_browser import browser_context
from taketurns.evaluation.report.blocks import Block, Chart, DataPoint, Heading, Paragraph, Table
from taketurns.evaluation.report.page import write_pages
from taketurns.evaluation.report.section import Section, read_sections
from taketurns.evaluation.report.theme import speaker_styles
from taketurns.utils.files import write_text


def write_report(folder: Path, inputs: AnalysisInput, traces: int) -> None:
    """Write `report.html`, which is self-contained and has at most `traces` answers, `report.md`
    with its `figures/`, and `data/` with every chart and table as CSV, from all sections of the
    folder."""
    sections = read_sections(folder)
    blocks = list(_summary(inputs, sections))
    for section in sections:
        rendered = list(_blocks(section))
        _write_data(folder / "data", section.name, rendered)
        blocks += rendered
    styles, context = speaker_styles(inputs.subject.pool), browser_context(inputs, traces)
    write_pages(folder, blocks, styles, "analysis.html", **context)


def _summary(inputs: AnalysisInput, sections: Sequence[Section]) -> Iterator[Block]:
    subject = inputs.subject
    seeds = {len(answers) for answers in subject.questions.values()}
    each = f"{min(seeds)}" if len(seeds) == 1 else f"{min(seeds)} to {max(seeds)}"
    yield Heading(f"Analysis of the answers of {subject.method}", 1)
    yield Paragraph(
        f"{len(subject.answers)} answers to {len(subject.questions)} questions of "
        f"{len(subject.tasks)} tasks, {each} per question, written by {', '.join(subject.pool)}"
        + (f"; {subject.failed} failed and are left out." if subject.failed else ".")
    )
    for section in sections:
        if section.finding:
            yield Paragraph(section.finding, section.title)


def _blocks(section: Section) -> Iterator[Block]:
    """The section as blocks; its name before the names of its charts makes these unique on the
    page."""
    yield Heading(section.title)
    for part in section.parts:
        if isinstance(part, Chart):
            yield replace(part, name=f"{section.name}-{part.name}")
        else:
            yield part
    if section.caveat:
        yield Paragraph(section.caveat)


def _write_data(folder: Path, name: str, blocks: Iterable[Block]) -> None:
    """Write the charts and tables of the section `name` as CSV."""
    folder.mkdir(parents=True, exist_ok=True)
    tables = 0
    for block in blocks:
        if isinstance(block, Chart):
            columns = [field.name for field in fields(DataPoint)]
            _write_csv(folder / f"{block.name}.csv", columns, map(astuple, block.marks))
        elif isinstance(block, Table):
            tables += 1
            _write_csv(folder / f"{name}-table-{tables}.csv", block.header, block.rows)


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(header)
    table.writerows(rows)
    write_text(path, text.getvalue())
