"""Effects of forced sequences, as a section."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from taketurns.evaluation.interventions.effects import LEAST, RandomisedEffect, SpeakerSequence
from taketurns.evaluation.report import formatting as fmt
from taketurns.evaluation.report.blocks import Block, Chart, DataPoint, Heading, Paragraph, Table
from taketurns.evaluation.report.section import Section
from taketurns.evaluation.statistics import ALPHA, pearson

ByLength = Mapping[int, Sequence[RandomisedEffect]]
Shares = Mapping[SpeakerSequence, float]


def render_forced_effects(
    names: Sequence[str],
    trials: int,
    effects: ByLength,
    frequency: Mapping[int, Mapping[str, Shares]],
    observed: Shares,
) -> Section:
    """The randomised effects of forced sequences, by length. `frequency[length][category]` has the
    frequencies in the team's own answers ("": all), `observed` the effects from an analysis of
    stored answers."""
    parts: list[Block] = [
        Paragraph(
            f"{trials} answers were cut at a random patch boundary. Two different sequences of "
            "speakers, drawn evenly, were forced there, and both answers were continued with the "
            "switcher and the same random draws. The effect of a sequence is its mean score minus "
            "that of the other sequence; p is adjusted by Holm over all sequences of a length."
        )
    ]
    for length, of_length in effects.items():
        ranked = sorted(of_length, key=lambda effect: -effect.mean.value)
        if not ranked:
            few = (
                f"No sequence of {length} was forced on at least {LEAST} questions: ask more with "
                "--trials."
            )
            parts.append(Paragraph(few))
            continue
        parts += [
            Heading(f"Sequences of {length}", 3),
            _chart(names, length, ranked),
            _table(names, ranked, frequency[length][""], observed),
        ]
    parts += [
        Heading("Correlation of effect and frequency", 3),
        _correlations(effects, frequency, observed),
        *_by_category(names, effects),
    ]
    return Section(
        "forced-sequences",
        "Forced sequences of speakers",
        _finding(names, effects),
        tuple(parts),
        caveat="An answer that ends before all speakers of a sequence have written counts too, so "
        "the effect is that of the assigned sequence. It is measured at boundaries of this team's "
        "own answers, against other sequences at the same boundary; an observed effect compares "
        "answers that contain a sequence anywhere with answers that do not. Sequences with fewer "
        f"than {LEAST} questions are left out. Effects by category are not tested.",
        place=100,
        data={
            "candidates": list(names),
            "effects": {str(k): [asdict(e) for e in of_length] for k, of_length in effects.items()},
            "frequency": {
                str(k): [{"speakers": list(s), "share": x} for s, x in sorted(shares[""].items())]
                for k, shares in frequency.items()
            },
        },
    )


def _finding(names: Sequence[str], effects: ByLength) -> str:
    sure = [e for of_length in effects.values() for e in of_length if e.p < ALPHA]
    if not sure:
        return "No forced sequence of speakers changes the score significantly."
    best = max(sure, key=lambda effect: effect.mean.value)
    worst = min(sure, key=lambda effect: effect.mean.value)
    return (
        f"Of {sum(map(len, effects.values()))} forced sequences, {len(sure)} change the score "
        f"significantly: from {fmt.sequence_name(names, worst.speakers)} ({worst.mean.value:+.3f}) "
        f"to {fmt.sequence_name(names, best.speakers)} ({best.mean.value:+.3f})."
    )


def _chart(names: Sequence[str], length: int, ranked: Sequence[RandomisedEffect]) -> Chart:
    return Chart(
        f"forced-{length}",
        "intervals",
        f"Effect of a forced sequence of {length} speakers on the score, with 95 % intervals; "
        "filled where it is significant after Holm.",
        tuple(
            DataPoint.of(
                fmt.sequence_name(names, e.speakers), e.mean, names[e.speakers[0]], sure=e.p < ALPHA
            )
            for e in ranked
        ),
        across="score minus that of another sequence",
        reference=0.0,
    )


def _table(
    names: Sequence[str], ranked: Sequence[RandomisedEffect], frequency: Shares, observed: Shares
) -> Table:
    header = ["sequence", "effect", "p", "questions", "all speakers wrote", "frequency"]
    rows = []
    for effect in ranked:
        mean, speakers = effect.mean, effect.speakers
        row = [
            fmt.sequence_name(names, speakers), fmt.difference(mean.value, mean.low, mean.high),
            fmt.p_value(effect.p), str(mean.queries), f"{effect.whole:.0%}",
            f"{frequency.get(speakers, 0):.3f}",
        ]  # fmt: skip
        if observed:
            row.append(f"{observed[speakers]:+.3f}" if speakers in observed else fmt.DASH)
        rows.append(row)
    sure = frozenset(row for row, effect in enumerate(ranked) if effect.p < ALPHA)
    return Table([*header, *(["observed effect"] if observed else [])], rows, sure)


def _correlations(
    effects: ByLength, frequency: Mapping[int, Mapping[str, Shares]], observed: Shares
) -> Table:
    """Correlations of the randomised effects with frequencies and with observed effects."""
    correlations = []
    for length, of_length in effects.items():
        for group, shares in frequency[length].items():
            means = {e.speakers: e.by_category.get(group) if group else e.mean for e in of_length}
            pairs = [(shares.get(s, 0.0), mean.value) for s, mean in means.items() if mean]
            what = f"frequency, sequences of {length}" + (f", {group}" if group else "")
            correlations.append((what, pearson(pairs)))
        both = [(observed[e.speakers], e.mean.value) for e in of_length if e.speakers in observed]
        if both:
            correlations.append((f"observed effect, sequences of {length}", pearson(both)))
    return Table(
        ("correlation of the effect with", "r", "p", "sequences"),
        [
            [what, fmt.difference(r.r, r.low, r.high, 2), fmt.p_value(r.p), str(r.count)]
            for what, r in correlations
            if r is not None
        ],
    )


def _by_category(names: Sequence[str], effects: ByLength) -> list[Block]:
    """The shortest sequences by category, as a grid."""
    shortest = min(effects)
    points = tuple(
        DataPoint.of(
            fmt.sequence_name(names, e.speakers), mean, category, sure=fmt.excludes_zero(mean)
        )
        for e in effects[shortest]
        for category, mean in e.by_category.items()
    )
    if not points:
        return []
    caption = f"Effects of sequences of {shortest} by category, where there are enough questions."
    return [Heading("By category", 3), Chart("forced-categories", "grid", caption, points)]
