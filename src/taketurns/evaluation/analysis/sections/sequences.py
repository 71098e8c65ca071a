"""Which sequences of speakers are frequent?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from math import isfinite

from taketurns.evaluation.analysis.sequences import SequenceFrequency
from taketurns.evaluation.report import formatting as fmt
from taketurns.evaluation.report.blocks import Chart, DataPoint, Paragraph, Table
from taketurns.evaluation.report.section import Section

CHARTED = 27


def render_sequences(pool: Sequence[str], frequencies: Sequence[SequenceFrequency]) -> Section:
    """How often each sequence occurs, beside what independent speakers would make likely."""
    tested = [f for f in frequencies if f.p_holm is not None]
    more = [f for f in tested if fmt.significant(f.p_holm) and f.over_places.value > 1]
    less = [f for f in tested if fmt.significant(f.p_holm) and f.over_places.value < 1]
    repeated = sum(len(set(f.sequence)) == 1 for f in more)
    listed = [f for f in frequencies if f.count or f.p is not None]
    listed.sort(key=lambda frequency: -frequency.count)
    charted = [f for f in listed if f.p is not None][:CHARTED]
    return Section(
        "sequences",
        "Which sequences of speakers are frequent?",
        f"Of {fmt.counted(len(tested), 'sequence')} that can be tested, {len(more)} occur more "
        f"often than the speakers' shares within each task and position make likely ({repeated} "
        f"of them one speaker going on) and {len(less)} less often (Holm).",
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
                    DataPoint.of(
                        fmt.sequence_name(pool, f.sequence),
                        f.over_places,
                        sure=fmt.significant(f.p_holm),
                    )
                    for f in charted
                    if isfinite(f.over_places.value)
                ),
                across="observed / expected, 95 % interval",
                reference=1.0,
            ),
            Table(
                ("sequence", "windows", "share, %", "over shares", "over task and position", "p",
                 "Holm"),
                [
                    [
                        fmt.sequence_name(pool, f.sequence), str(f.count), fmt.percent(f.share),
                        fmt.ratio(f.over_shares), fmt.ratio(f.over_places), fmt.p_value(f.p),
                        fmt.p_value(f.p_holm),
                    ]
                    for f in listed
                ],
            ),
        ),
        "Questions differ within a task too, and a switcher that sees this follows it: what is "
        "more frequent than expected here need not be a habit of switching.",
        20,
        {"pool": list(pool), "frequencies": [asdict(f) for f in frequencies]},
    )  # fmt: skip
