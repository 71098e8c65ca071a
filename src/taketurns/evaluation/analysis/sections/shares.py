"""The speakers' shares, as a section."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from taketurns.evaluation.analysis.shares import GroupShares, SpeakerShares
from taketurns.evaluation.report.blocks import Block, Chart, DataPoint, Heading, Paragraph, Table
from taketurns.evaluation.report.formatting import joined, percent
from taketurns.evaluation.report.section import Section


def render_shares(shares: SpeakerShares) -> Section:
    """Each candidate's share of tokens and patches: overall, by category, task and position."""
    pool, overall = shares.pool, shares.overall.of_tokens
    first = max(range(len(pool)), key=lambda speaker: overall[speaker].value)
    most = max(shares.by_task, key=lambda group: group.of_tokens[first].value)
    each = [
        f"{name} writes {percent(share)} % of the tokens"
        for name, share in zip(pool, overall, strict=True)
    ]
    return Section(
        "shares",
        "Shares of the speakers",
        f"{joined(each)}; the largest share of {pool[first]} is in {most.group} "
        f"({percent(most.of_tokens[first])} %).",
        (
            Paragraph(
                "Per cent of the tokens with 95 % intervals (bootstrap over questions), and per "
                "cent of the patches."
            ),
            _table(pool, [shares.overall]),
            *_groups(pool, "By category", shares.by_category),
            *_groups(pool, "By task", shares.by_task),
            *_groups(pool, "By position in the answer", shares.by_position),
        ),
        "A large share does not mean a large contribution: it says how often a candidate was "
        "selected, not what the score would be without it.",
        10,
        asdict(shares),
    )


def _groups(pool: Sequence[str], title: str, groups: Sequence[GroupShares]) -> list[Block]:
    points = tuple(
        DataPoint.of(group.group, share, name)
        for group in groups
        for name, share in zip(pool, group.of_tokens, strict=True)
    )
    caption = f"Share of the tokens that each candidate writes, {title.lower()}."
    return [
        Heading(title, 3),
        Chart(title.split()[1], "shares", caption, points, across="share of the tokens"),
        _table(pool, groups),
    ]


def _table(pool: Sequence[str], groups: Sequence[GroupShares]) -> Table:
    header = ["", "patches", *pool, *(f"{name}, patches" for name in pool)]
    rows = [
        [
            group.group,
            str(group.patches),
            *map(percent, group.of_tokens),
            *(f"{100 * share.value:.0f}" for share in group.of_patches),
        ]
        for group in groups
    ]
    return Table(header, rows)
