"""Who writes what?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from taketurns.evaluation.analysis.numbers import listed, percent
from taketurns.evaluation.analysis.section import Chart, Mark, Section
from taketurns.evaluation.analysis.shares import Share, Shares
from taketurns.evaluation.report.blocks import Heading, Paragraph, Table


def of_shares(found: Shares) -> Section:
    """Who writes what?"""
    first = max(range(len(found.pool)), key=lambda who: found.overall.of_tokens[who].value)
    said = [
        f"{name} writes {percent(ratio)} % of the tokens"
        for name, ratio in zip(found.pool, found.overall.of_tokens, strict=True)
    ]
    tables: list[Table | Chart | Heading] = []
    for title, groups in (
        ("By category", found.by_category),
        ("By task", found.by_task),
        ("By position in the answer", found.by_position),
    ):
        tables += [
            Heading(title, 3),
            Chart(
                title.split()[1],
                "shares",
                f"Share of the tokens that each candidate writes, {title.lower()}.",
                tuple(
                    Mark(group.group, ratio.value, name, ratio.low, ratio.high)
                    for group in groups
                    for name, ratio in zip(found.pool, group.of_tokens, strict=True)
                ),
                across="share of the tokens",
            ),
            _shares_table(found.pool, groups),
        ]
    most = max(found.by_task, key=lambda group: group.of_tokens[first].value)
    return Section(
        "shares",
        "Who writes what?",
        f"{listed(said)}; {found.pool[first]} most of all in {most.group} "
        f"({percent(most.of_tokens[first])} %).",
        (
            Paragraph(
                "Per cent of the tokens, with 95 % intervals (bootstrap over questions), and of "
                "the patches."
            ),
            _shares_table(found.pool, [found.overall]),
            *tables,
        ),
        "Who writes a lot need not help a lot: a share says who was asked, not what for.",
        10,
        asdict(found),
    )


def _shares_table(pool: Sequence[str], groups: Sequence[Share]) -> Table:
    header = ["", "patches", *pool, *(f"{name}, patches" for name in pool)]
    rows = [
        [
            group.group,
            str(group.patches),
            *map(percent, group.of_tokens),
            *(f"{100 * ratio.value:.0f}" for ratio in group.of_patches),
        ]
        for group in groups
    ]
    return Table(header, rows)
