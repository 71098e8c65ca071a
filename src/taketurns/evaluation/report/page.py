"""A report as one HTML file that needs nothing else, in the reader's light or dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from taketurns.evaluation.report.blocks import Block, Figure, Heading, Paragraph, Table
from taketurns.evaluation.report.theme import DARK, LIGHT

STYLE = f"""
:root{{color-scheme:light dark;{LIGHT}}}
@media(prefers-color-scheme:dark){{:root{{{DARK}}}}}
body{{background:var(--paper);color:var(--ink);font:16px/1.55 system-ui,sans-serif;
max-width:62rem;margin:2rem auto;padding:0 1rem}}
h1,h2,h3{{line-height:1.2;margin:2.2em 0 .6em}} h1{{margin-top:0}}
p,figcaption{{max-width:46rem}}
.wide{{overflow-x:auto}}
table{{border-collapse:collapse;font-size:.85rem;font-variant-numeric:tabular-nums}}
th,td{{padding:.28rem .6rem;text-align:right;border-bottom:1px solid var(--grid);
white-space:nowrap}}
th:first-child,td:first-child{{text-align:left;position:sticky;left:0;background:var(--paper)}}
thead th{{background:var(--soft)}} thead th:first-child{{background:var(--soft)}}
tr.bold td{{font-weight:600}}
figure{{margin:1.5rem 0}} figcaption{{font-size:.9rem;opacity:.8}}
svg{{width:100%;height:auto}} svg text{{font-family:system-ui,sans-serif!important}}
"""


def page(
    blocks: Sequence[Block], figures: Mapping[str, str], style: str = "", after: str = ""
) -> str:
    """`figures` are themed drawings by name. `after` is HTML that follows the blocks, with rules of
    its own in `style`."""
    title = next(block.text for block in blocks if isinstance(block, Heading))
    body = "\n".join(_block(block, figures) for block in blocks)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width,initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}{style}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n{after}</main>\n</body>\n</html>\n"
    )


def _block(block: Block, figures: Mapping[str, str]) -> str:
    if isinstance(block, Heading):
        return f"<h{block.level}>{escape(block.text)}</h{block.level}>"
    if isinstance(block, Paragraph):
        lead = f"<strong>{escape(block.lead)}</strong> " if block.lead else ""
        return f"<p>{lead}{escape(block.text)}</p>"
    if isinstance(block, Figure):
        svg = figures[block.name].replace(
            "<svg", f'<svg role="img" aria-label="{escape(block.caption)}"', 1
        )
        caption = f"<figcaption>{escape(block.caption)}</figcaption>"
        return f"<figure>{svg}{caption}</figure>"
    return _table(block)


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in table.header)
    rows = "\n".join(
        ('<tr class="bold">' if number in table.bold else "<tr>")
        + "".join(f"<td>{escape(cell)}</td>" for cell in row)
        + "</tr>"
        for number, row in enumerate(table.rows)
    )
    return (
        f'<div class="wide"><table><thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>'
        "</table></div>"
    )
