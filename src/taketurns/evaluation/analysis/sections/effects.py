"""Do some sequences help?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from taketurns.evaluation.analysis.effects import Correlation, Effect
from taketurns.evaluation.analysis.numbers import counted, listed, named, p_value, signed, sure
from taketurns.evaluation.analysis.section import Chart, Mark, Section
from taketurns.evaluation.report.blocks import Heading, Paragraph, Table

NAMED = 2
OBSERVED = (
    "This is observation: whatever made the speakers differ between two answers to a question (the "
    "words already written, above all) may also have made their scores differ, and a longer answer "
    "contains more sequences, also where speakers are drawn by lot. Only speakers that are forced "
    "show what a sequence does."
)


def of_effects(
    pool: Sequence[str],
    found: Sequence[Effect],
    of_length: Sequence[Effect],
    chance: Sequence[Effect] | None,
    related: Sequence[Correlation],
) -> Section:
    """Do some sequences help?"""
    known = [one for one in found if one.effect is not None]
    helping = [one for one in known if sure(one.p_holm) and (one.effect or 0) > 0]
    harming = [one for one in known if sure(one.p_holm) and (one.effect or 0) < 0]
    by_length = {one.sequence: one for one in of_length}
    by_chance = {one.sequence: one for one in chance or ()}
    finding = (
        f"Of {counted(len(known), 'sequence')} with enough questions answered with and without, "
        f"{_some(pool, helping)} better and {_some(pool, harming)} worse answers (Holm); "
        "by observation, not experiment."
        if known
        else "Too few questions were answered both with and without any sequence: more seeds would "
        "tell."
    )
    marks = []
    for one in sorted(known, key=lambda one: -(one.effect or 0)):
        for series, other in (("as the switcher chose", one),
                              ("speakers drawn evenly", by_chance.get(one.sequence))):  # fmt: skip
            if other is not None and other.effect is not None:
                marks.append(
                    Mark(named(pool, one.sequence), other.effect, series, other.low, other.high,
                         sure=sure(other.p_holm))
                )  # fmt: skip
    rows = [
        [
            named(pool, one.sequence),
            str(one.questions),
            signed(one.effect, one.low, one.high),
            p_value(one.p),
            p_value(one.p_holm),
            _cell(by_length.get(one.sequence)),
            *([_cell(by_chance.get(one.sequence))] if chance is not None else []),
        ]
        for one in sorted(known, key=lambda one: -(one.effect or 0))
    ]
    header = ["sequence", "questions", "effect on the score", "p", "Holm", "of as many patches"]
    if chance is not None:
        header.append("drawn evenly")
    parts: list[Paragraph | Table | Chart | Heading] = [
        Paragraph(
            "Within each question, the score of answers that contain the sequence less that of "
            "those that do not. Intervals are bootstraps over questions, p is from shuffling "
            "scores within questions, Holm over all sequences. Beside it the same among answers of "
            "as many patches, since longer answers contain more sequences"
            + (", and for answers whose speakers were drawn evenly" if chance is not None else "")
            + ", each with its number of questions."
        )
    ]
    if marks:
        parts += [
            Chart(
                "effect",
                "intervals",
                "Score of answers with a sequence less that of answers to the same questions "
                "without; filled where it is significant after Holm.",
                tuple(marks),
                across="effect on the score, 95 % interval",
                reference=0.0,
            ),
            Table(header, rows),
        ]
    parts += _related(related)
    return Section(
        "effects",
        "Do some sequences help?",
        f"{finding} {_relation(related)}",
        tuple(parts),
        OBSERVED,
        30,
        {
            "pool": list(pool),
            "effects": [asdict(one) for one in found],
            "effects among answers of as many patches": [asdict(one) for one in of_length],
            "effects where speakers are drawn evenly": [asdict(one) for one in chance or ()],
            "correlations": [asdict(one) for one in related],
        },
    )


def _cell(one: Effect | None) -> str:
    """An effect and how many questions say so."""
    if one is None or one.effect is None:
        return signed(None, None, None)
    return f"{signed(one.effect, one.low, one.high, 2)}, {one.questions}"


def _some(pool: Sequence[str], found: Sequence[Effect]) -> str:
    if not found:
        return "none goes with"
    most = sorted(found, key=lambda one: -abs(one.effect or 0))[:NAMED]
    names = "; ".join(named(pool, one.sequence) for one in most)
    return f"{len(found)} ({'most: ' if len(found) > NAMED else ''}{names}) go with"


def _related(found: Sequence[Correlation]) -> list[Heading | Paragraph | Table]:
    rows = [
        [
            _group(one),
            str(one.sequences),
            signed(one.r, one.low, one.high, 2),
            "\N{EN DASH}" if one.r_squared is None else f"{one.r_squared:.3f}",
            p_value(one.p),
            p_value(one.p_holm),
        ]
        for one in found
    ]
    return [
        Heading("Do frequent sequences help more?", 3),
        Paragraph(
            _relation(found)
            + " Sequences are what is counted here, and they overlap, so the intervals are if "
            "anything too narrow."
        ),
        Table(("category", "sequences", "r", "R\N{SUPERSCRIPT TWO}", "p", "Holm"), rows),
    ]


def _relation(found: Sequence[Correlation]) -> str:
    known = [one for one in found if one.r is not None]
    clear = [one for one in known if sure(one.p_holm)]
    if not known:
        return "Whether frequent sequences help more cannot be said: too few have an effect."
    if not clear:
        most = max(known, key=lambda one: one.sequences)
        return (
            f"That frequent sequences help more, or less, is not shown: r "
            f"{signed(most.r, most.low, most.high, 2)} over {most.sequences} sequences of "
            f"{_group(most)}, R\N{SUPERSCRIPT TWO} {most.r_squared:.3f}"
            + (", and nothing in any category (Holm)." if len(known) > 1 else ".")
        )
    each = [f"{_group(one)} (r {signed(one.r, one.low, one.high, 2)})" for one in clear]
    others = "; not shown in the others" if len(clear) < len(known) else ""
    return f"How frequent a sequence is goes with its effect in {listed(each)}{others} (Holm)."


def _group(one: Correlation) -> str:
    return "all categories" if one.group == "all" else one.group
