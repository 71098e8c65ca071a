"""A report as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from taketurns.evaluation.report.blocks import Block, Chart, Heading, Paragraph, Table


def markdown(blocks: Sequence[Block]) -> str:
    """The report as Markdown; it refers to the charts in `figures/`."""
    return "\n\n".join(map(_block, blocks)) + "\n"


def _block(block: Block) -> str:
    if isinstance(block, Heading):
        return f"{'#' * block.level} {block.text}"
    if isinstance(block, Paragraph):
        lead = f"**{_plain(block.lead)}** " if block.lead else ""
        return lead + _plain(block.text)
    if isinstance(block, Chart):
        return f"![{block.caption}](figures/{block.name}.svg)\n\n*{_plain(block.caption)}*"
    return _table(block)


def _table(table: Table) -> str:
    rules = ["---", *["---:"] * (len(table.header) - 1)]
    rows = [
        [f"**{cell}**" if number in table.bold and cell else _plain(cell) for cell in row]
        for number, row in enumerate(table.rows)
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in (map(_plain, table.header), rules, *rows))


def _plain(text: str) -> str:
    """Text with Markdown's special characters escaped."""
    return "".join(f"\\{c}" if c in "|*_<>`" else c for c in text)
