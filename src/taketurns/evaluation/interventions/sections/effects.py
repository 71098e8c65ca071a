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
    """The randomised effects of forced sequences, by length; `frequency[length][category]` is that
    of the team's own answers ("" over all), `observed` what an analysis of stored answers gave."""
    parts: list[Block] = [
        Paragraph(
            f"{trials} running answers were cut at a random boundary. Two sequences of speakers, "
            "drawn evenly, were forced there, and both answers went on under the switcher with the "
            "same draws. An effect is the mean score after a sequence less that after the other; p "
            "is Holm's over all sequences of a length."
        )
    ]
    for length, of_length in effects.items():
        ranked = sorted(of_length, key=lambda effect: -effect.mean.value)
        if not ranked:
            few = (
                f"No sequence of {length} was forced on {LEAST} questions: more trials would tell."
            )
            parts.append(Paragraph(few))
            continue
        parts += [
            Heading(f"Sequences of {length}", 3),
            _chart(names, length, ranked),
            _table(names, ranked, frequency[length][""], observed),
        ]
    parts += [
        Heading("Do frequent sequences help more?", 3),
        _correlations(effects, frequency, observed),
        *_by_category(names, effects),
    ]
    return Section(
        "forced-sequences",
        "Forced sequences of speakers",
        _finding(names, effects),
        tuple(parts),
        caveat="An effect is that of being due to speak: where an answer ends before all of a "
        "sequence have spoken, it counts with those who did. It is measured at boundaries of this "
        "team's own answers, against other sequences there; what was observed is of answers with a "
        f"sequence anywhere against answers without. Sequences with fewer than {LEAST} questions "
        "are left out. By category no effect is tested.",
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
        return "No forced sequence of speakers is sure to change the score."
    best = max(sure, key=lambda effect: effect.mean.value)
    worst = min(sure, key=lambda effect: effect.mean.value)
    return (
        f"Of {sum(map(len, effects.values()))} sequences, {len(sure)} surely change the score when "
        f"forced: from {fmt.sequence_name(names, worst.speakers)} ({worst.mean.value:+.3f}) to "
        f"{fmt.sequence_name(names, best.speakers)} ({best.mean.value:+.3f})."
    )


def _chart(names: Sequence[str], length: int, ranked: Sequence[RandomisedEffect]) -> Chart:
    return Chart(
        f"forced-{length}",
        "intervals",
        f"What forcing {length} speakers in a row does to the score, 95 % intervals; filled where "
        "Holm's p is below .05.",
        tuple(
            DataPoint.of(
                fmt.sequence_name(names, e.speakers), e.mean, names[e.speakers[0]], sure=e.p < ALPHA
            )
            for e in ranked
        ),
        across="score, less that of another sequence",
        reference=0.0,
    )


def _table(
    names: Sequence[str], ranked: Sequence[RandomisedEffect], frequency: Shares, observed: Shares
) -> Table:
    header = ["sequence", "effect", "p", "questions", "spoke in full", "own frequency"]
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
    """Correlations of the effects with how frequent sequences are, and with what was observed."""
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
        ("randomised effect with", "r", "p", "sequences"),
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
    caption = f"The effects of sequences of {shortest} by category; of enough questions alone."
    return [Heading("By category", 3), Chart("forced-categories", "grid", caption, points)]
