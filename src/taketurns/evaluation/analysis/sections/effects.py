"""Observed effects of sequences, as a section."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from taketurns.evaluation.analysis.effects import (
    FrequencyCorrelation,
    ObservedEffect,
    SequenceEffects,
)
from taketurns.evaluation.report import formatting as fmt
from taketurns.evaluation.report.blocks import Block, Chart, DataPoint, Heading, Paragraph, Table
from taketurns.evaluation.report.section import Section

NAMED = 2
CAVEAT = (
    "This is observation, not experiment: the cause of different speakers in two answers to a "
    "question (above all the text already written) may also be the cause of different scores, and "
    "a longer answer contains more sequences, also with random switching. Only forced sequences "
    "(taketurns experiment) show the effect of a sequence."
)


def render_effects(effects: SequenceEffects) -> Section:
    """The score with each sequence minus that without, and its correlation with frequency."""
    drawn_evenly = effects.random is not None
    parts: list[Block] = [
        Paragraph(
            "The effect is the score of answers that contain the sequence minus that of answers to "
            "the same question that do not. Intervals are bootstraps over questions, p comes from "
            "shuffling scores within questions, Holm is over all sequences. The next columns have "
            "the effect among answers with the same number of patches, since longer answers "
            "contain more sequences"
            + (", and with random switching" if drawn_evenly else "")
            + ", each with its number of questions."
        )
    ]
    known = [effect for effect in effects.overall if effect.effect is not None]
    if known:
        known.sort(key=lambda effect: -(effect.effect or 0))
        parts += [_chart(effects, known), _table(effects, known)]
    relation = _relation(effects.correlations)
    return Section(
        "effects",
        "Observed effects of sequences",
        f"{_finding(effects.pool, known)} {relation}",
        (*parts, *_correlations(effects.correlations, relation)),
        CAVEAT,
        30,
        {
            "pool": list(effects.pool),
            "effects": [asdict(e) for e in effects.overall],
            "effects among answers of as many patches": [asdict(e) for e in effects.same_length],
            "effects where speakers are drawn evenly": [asdict(e) for e in effects.random or ()],
            "correlations": [asdict(c) for c in effects.correlations],
        },
    )


def _finding(pool: Sequence[str], known: Sequence[ObservedEffect]) -> str:
    if not known:
        return (
            "Not measured: too few questions have answers both with and without a sequence; "
            "evaluate with more seeds."
        )
    helping, harming = (
        [e for e in known if fmt.significant(e.p_holm) and sign * (e.effect or 0) > 0]
        for sign in (1, -1)
    )
    return (
        f"Of {fmt.counted(len(known), 'sequence')} with enough questions, "
        f"{_some(pool, helping)} better and {_some(pool, harming)} worse answers (significant "
        "after Holm; observed, not randomised)."
    )


def _some(pool: Sequence[str], effects: Sequence[ObservedEffect]) -> str:
    if not effects:
        return "none is associated with"
    most = sorted(effects, key=lambda effect: -abs(effect.effect or 0))[:NAMED]
    names = "; ".join(fmt.sequence_name(pool, effect.sequence) for effect in most)
    verb = "is" if len(effects) == 1 else "are"
    most_of = "most: " if len(effects) > NAMED else ""
    return f"{len(effects)} ({most_of}{names}) {verb} associated with"


def _chart(effects: SequenceEffects, known: Sequence[ObservedEffect]) -> Chart:
    random = {effect.sequence: effect for effect in effects.random or ()}
    points = []
    for chosen in known:
        name = fmt.sequence_name(effects.pool, chosen.sequence)
        for series, effect in (
            ("the team's switcher", chosen),
            ("random switching", random.get(chosen.sequence)),
        ):
            if effect is not None and effect.effect is not None:
                sure = fmt.significant(effect.p_holm)
                points.append(
                    DataPoint(name, effect.effect, series, effect.low, effect.high, sure=sure)
                )
    return Chart(
        "effect",
        "intervals",
        "Score of answers with a sequence minus that of answers to the same questions without it; "
        "filled where the effect is significant after Holm.",
        tuple(points),
        across="effect on the score, 95 % interval",
        reference=0.0,
    )


def _table(effects: SequenceEffects, known: Sequence[ObservedEffect]) -> Table:
    beside = {"same number of patches": effects.same_length}
    if effects.random is not None:
        beside["random switching"] = effects.random
    by_sequence = [{effect.sequence: effect for effect in others} for others in beside.values()]
    return Table(
        ["sequence", "questions", "effect on the score", "p", "Holm", *beside],
        [
            [
                fmt.sequence_name(effects.pool, effect.sequence),
                str(effect.questions),
                fmt.difference(effect.effect, effect.low, effect.high),
                fmt.p_value(effect.p),
                fmt.p_value(effect.p_holm),
                *(_cell(others.get(effect.sequence)) for others in by_sequence),
            ]
            for effect in known
        ],
    )


def _cell(effect: ObservedEffect | None) -> str:
    """An effect and its number of questions."""
    if effect is None or effect.effect is None:
        return fmt.DASH
    return f"{fmt.difference(effect.effect, effect.low, effect.high, 2)}, {effect.questions}"


def _correlations(
    correlations: Sequence[FrequencyCorrelation], relation: str
) -> tuple[Heading, Paragraph, Table]:
    return (
        Heading("Correlation of effect and frequency", 3),
        Paragraph(
            f"{relation} The unit is the sequence, and sequences overlap, so the intervals are "
            "rather too narrow."
        ),
        Table(
            ("category", "sequences", "r", "R\N{SUPERSCRIPT TWO}", "p", "Holm"),
            [
                [
                    _group(correlation),
                    str(correlation.sequences),
                    _r(correlation),
                    fmt.DASH if correlation.r_squared is None else f"{correlation.r_squared:.3f}",
                    fmt.p_value(correlation.p),
                    fmt.p_value(correlation.p_holm),
                ]
                for correlation in correlations
            ],
        ),
    )


def _relation(correlations: Sequence[FrequencyCorrelation]) -> str:
    known = [c for c in correlations if c.r is not None]
    clear = [c for c in known if fmt.significant(c.p_holm)]
    if not known:
        return (
            "The correlation of frequency and effect is not known: too few sequences have a "
            "measured effect."
        )
    if not clear:
        most = max(known, key=lambda correlation: correlation.sequences)
        return (
            "Frequency and effect of sequences are not significantly correlated: r "
            f"{_r(most)} over {most.sequences} sequences of {_group(most)}, R\N{SUPERSCRIPT TWO} "
            f"{most.r_squared:.3f}"
            + (", and none in any category (Holm)." if len(known) > 1 else ".")
        )
    each = [f"{_group(correlation)} (r {_r(correlation)})" for correlation in clear]
    others = "; not significantly in the others" if len(clear) < len(known) else ""
    return f"Frequency and effect are correlated in {fmt.joined(each)}{others} (Holm)."


def _r(correlation: FrequencyCorrelation) -> str:
    return fmt.difference(correlation.r, correlation.low, correlation.high, 2)


def _group(correlation: FrequencyCorrelation) -> str:
    return "all categories" if correlation.group == "all" else correlation.group
