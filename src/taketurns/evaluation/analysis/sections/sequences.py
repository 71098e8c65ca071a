"""Frequent sequences of speakers, as a section."""

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
    """How often each sequence occurs, compared with independent speakers."""
    tested = [f for f in frequencies if f.p_holm is not None]
    more = [f for f in tested if fmt.significant(f.p_holm) and f.over_places.value > 1]
    less = [f for f in tested if fmt.significant(f.p_holm) and f.over_places.value < 1]
    repeated = sum(len(set(f.sequence)) == 1 for f in more)
    listed = [f for f in frequencies if f.count or f.p is not None]
    listed.sort(key=lambda frequency: -frequency.count)
    charted = [f for f in listed if f.p is not None][:CHARTED]
    return Section(
        "sequences",
        "Frequent sequences of speakers",
        f"Of {fmt.counted(len(tested), 'tested sequence')}, {len(more)} occur significantly more "
        f"often than the speakers' shares within each task and position predict ({repeated} "
        f"of them repeat one speaker) and {len(less)} less often (Holm).",
        (
            Paragraph(
                "Observed over expected is 1 if the order of speakers has no effect. One "
                "expectation takes the speakers' shares overall, the other the shares within each "
                "task and position. The second is tested: if tasks differ in their speakers, the "
                "first is far from 1 without any effect of order."
            ),
            Chart(
                "frequency",
                "intervals",
                "Observed over expected frequency of each sequence, expected from the shares "
                "within task and position; filled where it differs significantly from 1 after "
                "Holm.",
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
        "Questions within a task differ too, and a switcher may react to that: a sequence that is "
        "more frequent than expected is not necessarily a habit of the switcher.",
        20,
        {"pool": list(pool), "frequencies": [asdict(f) for f in frequencies]},
    )  # fmt: skip
