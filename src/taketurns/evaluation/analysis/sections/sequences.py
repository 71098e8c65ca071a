"""Which sequences of speakers are frequent?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from math import isfinite

from taketurns.evaluation.analysis.numbers import counted, named, p_value, percent, plain, sure
from taketurns.evaluation.analysis.section import Chart, Mark, Section
from taketurns.evaluation.analysis.sequences import Frequency
from taketurns.evaluation.report.blocks import Paragraph, Table

SHOWN = 27


def of_sequences(pool: Sequence[str], found: Sequence[Frequency]) -> Section:
    """Which sequences are frequent?"""
    tested = [one for one in found if one.p_holm is not None]
    more = [one for one in tested if sure(one.p_holm) and one.over_places.value > 1]
    less = [one for one in tested if sure(one.p_holm) and one.over_places.value < 1]
    repeated = sum(len(set(one.sequence)) == 1 for one in more)
    there = (one for one in found if one.count or one.p is not None)
    shown = sorted(there, key=lambda one: -one.count)
    frequent = [one for one in shown if one.p is not None][:SHOWN]
    finding = (
        f"Of {counted(len(tested), 'sequence')} that can be tested, {len(more)} occur more often "
        f"than the speakers' shares within each task and position make likely ({repeated} of them "
        f"one speaker going on) and {len(less)} less often (Holm)."
    )
    return Section(
        "sequences",
        "Which sequences of speakers are frequent?",
        finding,
        (
            Paragraph(
                "Observed over expected is 1 where the order of speakers adds nothing. From the "
                "shares overall, as if speakers were drawn independently everywhere; and from the "
                "shares within each task and position, which is what is tested: if tasks have "
                "speakers of their own, the first is far from 1 without any order."
            ),
            Chart(
                "frequency",
                "intervals",
                "How often each sequence occurs beside what independence predicts from the shares "
                "within task and position; filled where it differs after Holm.",
                tuple(
                    Mark(
                        named(pool, one.sequence),
                        one.over_places.value,
                        "",
                        one.over_places.low,
                        one.over_places.high,
                        sure=sure(one.p_holm),
                    )
                    for one in frequent
                    if isfinite(one.over_places.value)
                ),
                across="observed / expected, 95 % interval",
                reference=1.0,
            ),
            Table(
                ("sequence", "windows", "share, %", "over shares", "over task and position", "p",
                 "Holm"),
                [
                    [
                        named(pool, one.sequence), str(one.count), percent(one.share),
                        plain(one.over_shares), plain(one.over_places), p_value(one.p),
                        p_value(one.p_holm),
                    ]
                    for one in shown
                ],
            ),
        ),
        "Questions differ within a task too, and a switcher that sees this follows it: what is "
        "more frequent than expected here need not be a habit of switching.",
        20,
        {"pool": list(pool), "frequencies": [asdict(one) for one in found]},
    )  # fmt: skip
