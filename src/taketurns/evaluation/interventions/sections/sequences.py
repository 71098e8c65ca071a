"""Forced sequences, as a section."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from taketurns.evaluation.analysis.numbers import NONE, named, p_value, signed
from taketurns.evaluation.analysis.section import Chart, Mark, Part, Section
from taketurns.evaluation.interventions.effects import LEAST, Effect, Speakers, related
from taketurns.evaluation.report.blocks import Heading, Paragraph, Table
from taketurns.evaluation.statistics import ALPHA


def of_sequences(
    names: Sequence[str],
    trials: int,
    found: Mapping[int, Sequence[Effect]],
    frequency: Mapping[int, Mapping[str, Mapping[Speakers, float]]],
    observed: Mapping[Speakers, float],
) -> Section:
    """The randomised effects of forced sequences, by length; `frequency[length][category]` is that
    of the team's own answers ("" over all), `observed` what an analysis of stored answers gave."""
    parts: list[Part] = [
        Paragraph(
            f"{trials} running answers were cut at a random boundary. Two sequences of speakers, "
            "drawn evenly, were forced there, and both answers went on under the switcher with the "
            "same draws. An effect is the mean score after a sequence less that after the other; p "
            "is Holm's over all sequences of a length."
        )
    ]
    for length, effects in found.items():
        ranked = sorted(effects, key=lambda one: -one.mean.value)
        if not ranked:
            few = (
                f"No sequence of {length} was forced on {LEAST} questions: more trials would tell."
            )
            parts.append(Paragraph(few))
            continue
        parts += [
            Heading(f"Sequences of {length}", 3),
            _forced(names, length, ranked),
            _forced_table(names, ranked, frequency[length][""], observed),
        ]
    parts += [
        Heading("Do frequent sequences help more?", 3),
        _relations(found, frequency, observed),
    ]
    parts += _categories(names, found)
    return Section(
        "forced-sequences",
        "Forced sequences of speakers",
        _forced_finding(names, found),
        tuple(parts),
        caveat="An effect is that of being due to speak: where an answer ends before all of a "
        "sequence have spoken, it counts with those who did. It is measured at boundaries of this "
        "team's own answers, against other sequences there; what was observed is of answers with a "
        f"sequence anywhere against answers without. Sequences with fewer than {LEAST} questions "
        "are left out. By category no effect is tested.",
        place=100,
        data={
            "candidates": list(names),
            "effects": {str(k): [asdict(one) for one in own] for k, own in found.items()},
            "frequency": {
                str(k): [{"speakers": list(s), "share": x} for s, x in sorted(own[""].items())]
                for k, own in frequency.items()
            },
        },
    )


def _forced_finding(names: Sequence[str], found: Mapping[int, Sequence[Effect]]) -> str:
    sure = [one for effects in found.values() for one in effects if one.p < ALPHA]
    if not sure:
        return "No forced sequence of speakers is sure to change the score."
    best = max(sure, key=lambda one: one.mean.value)
    worst = min(sure, key=lambda one: one.mean.value)
    return (
        f"Of {sum(map(len, found.values()))} sequences, {len(sure)} surely change the score when "
        f"forced: from {named(names, worst.speakers)} ({worst.mean.value:+.3f}) to "
        f"{named(names, best.speakers)} ({best.mean.value:+.3f})."
    )


def _forced(names: Sequence[str], length: int, ranked: Sequence[Effect]) -> Chart:
    return Chart(
        f"forced-{length}",
        "intervals",
        f"What forcing {length} speakers in a row does to the score, 95 % intervals; filled where "
        "Holm's p is below .05.",
        tuple(
            Mark(
                named(names, one.speakers), one.mean.value, names[one.speakers[0]],
                one.mean.low, one.mean.high, sure=one.p < ALPHA,
            )
            for one in ranked
        ),
        across="score, less that of another sequence",
        reference=0.0,
    )  # fmt: skip


def _forced_table(
    names: Sequence[str],
    ranked: Sequence[Effect],
    frequency: Mapping[Speakers, float],
    observed: Mapping[Speakers, float],
) -> Table:
    header = ["sequence", "effect", "p", "questions", "spoke in full", "own frequency"]
    rows = []
    for one in ranked:
        mean = one.mean
        row = [
            named(names, one.speakers), signed(mean.value, mean.low, mean.high),
            p_value(one.p), str(mean.queries), f"{one.whole:.0%}",
            f"{frequency.get(one.speakers, 0):.3f}",
        ]  # fmt: skip
        if observed:
            row.append(f"{observed[one.speakers]:+.3f}" if one.speakers in observed else NONE)
        rows.append(row)
    sure = frozenset(at for at, one in enumerate(ranked) if one.p < ALPHA)
    return Table([*header, *(["observed effect"] if observed else [])], rows, sure)


def _relations(
    found: Mapping[int, Sequence[Effect]],
    frequency: Mapping[int, Mapping[str, Mapping[Speakers, float]]],
    observed: Mapping[Speakers, float],
) -> Table:
    """Correlations of the effects with how frequent sequences are, and with what was observed."""
    rows = []
    for length, effects in found.items():
        for group, shares in frequency[length].items():
            means = {
                one.speakers: one.by_category.get(group) if group else one.mean for one in effects
            }
            pairs = [(shares.get(s, 0.0), mean.value) for s, mean in means.items() if mean]
            what = f"frequency, sequences of {length}" + (f", {group}" if group else "")
            rows.append((what, related(pairs)))
        seen = [(observed[e.speakers], e.mean.value) for e in effects if e.speakers in observed]
        if seen:
            rows.append((f"observed effect, sequences of {length}", related(seen)))
    return Table(
        ("randomised effect with", "r", "p", "sequences"),
        [
            [what, signed(one.r, one.low, one.high, 2), p_value(one.p),
             str(one.count)]
            for what, one in rows
            if one is not None
        ],
    )  # fmt: skip


def _categories(names: Sequence[str], found: Mapping[int, Sequence[Effect]]) -> list[Part]:
    """The shortest sequences by category, as a grid."""
    effects = found[min(found)]
    marks = tuple(
        Mark(
            named(names, one.speakers), mean.value, category, mean.low, mean.high,
            sure=not mean.low <= 0 <= mean.high,
        )
        for one in effects
        for category, mean in one.by_category.items()
    )  # fmt: skip
    if not marks:
        return []
    caption = f"The effects of sequences of {min(found)} by category; of enough questions alone."
    return [Heading("By category", 3), Chart("forced-categories", "grid", caption, marks)]
