"""What the experiments found, as sections of the analysis report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from taketurns.analysis.sections import Chart, Mark, Part, Section
from taketurns.evaluate.report.blocks import Heading, Paragraph, Table
from taketurns.experiments.calibration import MARGIN, Calibration, Knowledge, Regret
from taketurns.experiments.effects import LEAST, Effect, Speakers, related
from taketurns.experiments.helpfulness import Correlation, Figure, Helpfulness, Study
from taketurns.experiments.signatures import KEPT, SURE, Signature
from taketurns.statistics import Paired

NONE = "\N{EN DASH}"


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


def of_helpfulness(names: Sequence[str], studies: Mapping[str, Study], questions: int) -> Section:
    """What each candidate adds, by each way to make do without it."""
    parts: list[Part] = [
        Paragraph(
            f"Every part of the pool answered the same {questions} questions a task. Renormalised: "
            "the switcher's probabilities over those who are there. Retrained: a head that learned "
            "from the same labels who of them is best. Shapley's values are what a candidate adds "
            "on average over all orders of putting the pool together; they sum to the pool's score."
        )
    ]
    for kind, one in studies.items():
        parts += [
            Heading(f"Switcher {kind}", 3),
            Table(
                ("candidate", "alone", "pool less pool without it", "Shapley value"),
                [_candidate(names, helps) for helps in one.whole],
            ),
            Chart(
                f"{kind}-candidates",
                "intervals",
                f"What the pool loses without each candidate on each task, switcher {kind}; 95 % "
                "intervals, filled where they exclude 0.",
                tuple(
                    Mark(
                        task, helps.left_out.value, names[helps.candidate], helps.left_out.low,
                        helps.left_out.high, sure=_excludes_zero(helps.left_out),
                    )
                    for task, own in one.tasks.items()
                    for helps in own
                ),
                across="score of the pool less that without the candidate",
                reference=0.0,
            ),
            Chart(
                f"{kind}-accuracy",
                "scatter",
                "A candidate's score alone on a task, and what the pool loses there without it.",
                tuple(
                    Mark(
                        task, helps.left_out.value, names[helps.candidate], helps.left_out.low,
                        helps.left_out.high, helps.alone.value,
                    )
                    for task, own in one.tasks.items()
                    for helps in own
                ),
                across="score alone",
                up="lost without it",
                reference=0.0,
            ),
            Table(
                ("correlation with the score alone", "over pairs", "within tasks"),
                [
                    ["lost without it", *_correlation(one.left_out)],
                    *(
                        [["added to a part that is not empty", *_correlation(one.shapley)]]
                        if one.shapley is not None
                        else []
                    ),
                ],
            ),
        ]  # fmt: skip
    helps = next(iter(studies.values())).whole
    most = max(helps, key=lambda one: one.left_out.value)
    idle = [names[one.candidate] for one in helps if not _excludes_zero(one.left_out)]
    finding = (
        f"The pool loses most without {names[most.candidate]} ({most.left_out.value:+.3f}, "
        f"{_interval(most.left_out.low, most.left_out.high, '+.3f')})."
    )
    if idle:
        finding += f" Without {' or without '.join(idle)} alone it loses nothing that is sure."
    return Section(
        "helpfulness",
        "What each candidate adds",
        finding,
        tuple(parts),
        caveat="Retrained heads learn from labels whose prefixes and continuations all candidates "
        "wrote, and may read the states of a candidate that is left out before anybody has spoken. "
        "A correlation takes the score alone from other questions than what is added, and its "
        "interval from resampled tasks, which are few.",
        place=110,
        data={kind: _study(names, one) for kind, one in studies.items()},
    )


def of_decisions(names: Sequence[str], found: Knowledge, source: str) -> Section:
    """Calibration and regret of the switcher."""
    whole = found.regret
    parts: list[Part] = [
        Paragraph(
            f"{whole.boundaries} boundaries ({source}). At each, every candidate's next patch was "
            f"continued to the end; whoever's is worth most wins it. Regret is the utility lost "
            "against the best candidate."
        )
    ]
    if found.calibration is not None:
        parts += _calibration(found.calibration)
    parts += [
        Heading("Regret", 3),
        Table(
            _REGRET,
            [
                ["all", *_regret(names, whole)],
                *([f"after {n} patches", *_regret(names, r)] for n, r in found.by_position.items()),
                *([task, *_regret(names, r)] for task, r in found.by_task.items()),
            ],
            frozenset({0}),
        ),
        Chart(
            "regret-position",
            "lines",
            "Regret by the number of patches before the boundary.",
            tuple(
                Mark(name, value, series, low, high, float(at))
                for at, (name, own) in enumerate(found.by_position.items())
                for series, value, low, high in (
                    ("switcher", own.drawn, own.low, own.high),
                    ("random", own.random, None, None),
                )
            ),
            across="patches before",
            up="regret",
            reference=0.0,
        ),
    ]
    finding = (
        f"The switcher loses {whole.drawn:.3f} utility a decision "
        f"({_interval(whole.low, whole.high)}) against the best candidate; random switching loses "
        f"{whole.random:.3f}, always {names[whole.always_who]} {whole.always:.3f}."
    )
    if (known := found.calibration) is not None:
        finding += f" Its probabilities are off by {known.error:.3f} on average; "
        if known.error <= known.by_chance_high:
            finding += f"one that is calibrated would show {known.by_chance:.3f} here by chance."
        else:
            way = "sure" if known.too_sure > 0 else "unsure"
            finding += f"it is too {way}, by {abs(known.too_sure):.3f} of its favourite."
    return Section(
        "switcher-decisions",
        "Does the switcher know?",
        finding,
        tuple(parts),
        caveat="The best of noisy means looks better than it is, so regret is too high; the honest "
        "figure, whose best candidate was found on every other rollout, is too low. Winners are "
        f"those of the measured means, at boundaries where candidates differ by at least {MARGIN}.",
        place=120,
        data=asdict(found) | {"candidates": list(names)},
    )


def of_generalisation(gain: Paired, found: Sequence[Signature], questions: int) -> Section:
    """What became of the switcher's gain in changed pools."""
    rows = [
        [
            one.how,
            one.verdict,
            NONE if one.there is None else _paired(one.there),
            NONE if one.lost is None else _paired(one.lost),
            NONE if one.kept is None else f"{one.kept:.0%}",
            NONE if one.p is None else f"{one.p:.4f}",
        ]
        for one in found
    ]
    broken = [one for one in found if one.verdict in ("does not carry over", "refuses")]
    finding = (
        f"The switcher's gain over random switching is {gain.difference:+.3f} "
        f"({_interval(gain.low, gain.high, '+.3f')})"
    )
    finding += (
        "; it carries over to every changed pool that was tried, as far as this can say."
        if not broken
        else ". No generalisation: "
        + "; ".join(f"{one.how} ({one.verdict})" for one in broken)
        + "."
    )
    return Section(
        "generalisation",
        "Does the switcher carry over to another pool?",
        finding,
        (
            Paragraph(
                f"The same {questions} questions a task, asked again with the pool changed and the "
                "switcher untouched. Its gain is its score less random switching's: of the same "
                "pool, where other models are in it."
            ),
            Table(("change", "verdict", "gain there", "score lost", "gain kept", "p"), rows),
            Paragraph(" ".join(f"{one.how}: {one.sentence}" for one in found)),
        ),
        caveat=f"It does not carry over where less than {KEPT:.0%} of the gain is kept and, with "
        f"the same models, the loss is sure, or, with another model, the gain there is not (p "
        f"below {SURE} after Holm over all changes, interval excluding 0). With fewer questions "
        "less can be sure, and more is said to be so only in part.",
        place=130,
        data={"gain": asdict(gain), "changes": [asdict(one) for one in found]},
    )


def said(speakers: Sequence[int], names: Sequence[str]) -> str:
    """A sequence in words."""
    return " > ".join(names[speaker] for speaker in speakers)


def _forced_finding(names: Sequence[str], found: Mapping[int, Sequence[Effect]]) -> str:
    sure = [one for effects in found.values() for one in effects if one.p < SURE]
    if not sure:
        return "No forced sequence of speakers is sure to change the score."
    best = max(sure, key=lambda one: one.mean.value)
    worst = min(sure, key=lambda one: one.mean.value)
    return (
        f"Of {sum(map(len, found.values()))} sequences, {len(sure)} surely change the score when "
        f"forced: from {said(worst.speakers, names)} ({worst.mean.value:+.3f}) to "
        f"{said(best.speakers, names)} ({best.mean.value:+.3f})."
    )


def _forced(names: Sequence[str], length: int, ranked: Sequence[Effect]) -> Chart:
    return Chart(
        f"forced-{length}",
        "intervals",
        f"What forcing {length} speakers in a row does to the score, 95 % intervals; filled where "
        "Holm's p is below .05.",
        tuple(
            Mark(
                said(one.speakers, names), one.mean.value, names[one.speakers[0]],
                one.mean.low, one.mean.high, sure=one.p < SURE,
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
    header = ["sequence", "effect", "95 %", "p", "questions", "spoke in full", "own frequency"]
    rows = []
    for one in ranked:
        mean = one.mean
        row = [
            said(one.speakers, names), f"{mean.value:+.3f}", _interval(mean.low, mean.high, "+.3f"),
            f"{one.p:.4f}", str(mean.queries), f"{one.whole:.0%}",
            f"{frequency.get(one.speakers, 0):.3f}",
        ]  # fmt: skip
        if observed:
            row.append(f"{observed[one.speakers]:+.3f}" if one.speakers in observed else NONE)
        rows.append(row)
    sure = frozenset(at for at, one in enumerate(ranked) if one.p < SURE)
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
        ("randomised effect with", "r", "95 %", "p", "sequences"),
        [
            [what, f"{one.r:+.2f}", _interval(one.low, one.high, "+.2f"), f"{one.p:.3f}",
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
            said(one.speakers, names), mean.value, category, mean.low, mean.high,
            sure=not mean.low <= 0 <= mean.high,
        )
        for one in effects
        for category, mean in one.by_category.items()
    )  # fmt: skip
    if not marks:
        return []
    caption = f"The effects of sequences of {min(found)} by category; of enough questions alone."
    return [Heading("By category", 3), Chart("forced-categories", "grid", caption, marks)]


def _candidate(names: Sequence[str], one: Helpfulness) -> list[str]:
    return [
        names[one.candidate],
        _figure(one.alone),
        _figure(one.left_out, "+.3f"),
        NONE if one.shapley is None else _figure(one.shapley, "+.3f"),
    ]


def _correlation(one: Correlation) -> list[str]:
    return [NONE if f is None else _figure(f, "+.2f") for f in (one.pairs, one.within)]


def _figure(one: Figure, spec: str = ".3f") -> str:
    if one.low is None or one.high is None:
        return format(one.value, spec)
    return f"{one.value:{spec}} ({_interval(one.low, one.high, spec)})"


def _interval(low: float | None, high: float | None, spec: str = ".3f") -> str:
    if low is None or high is None:
        return NONE
    return f"{low:{spec}} to {high:{spec}}"


def _paired(one: Paired) -> str:
    return f"{one.difference:+.3f} ({_interval(one.low, one.high, '+.3f')})"


def _excludes_zero(one: Figure) -> bool:
    return one.low is not None and one.high is not None and not one.low <= 0 <= one.high


def _calibration(one: Calibration) -> list[Part]:
    return [
        Heading("Calibration", 3),
        Chart(
            "reliability",
            "scatter",
            "Share of boundaries won over the probability given, a mark a tenth; on the diagonal a "
            "switcher is calibrated.",
            tuple(
                Mark(f"{own.count} given about {own.given:.2f}", own.won, "switcher", own.low,
                     own.high, own.given)
                for own in one.bins
            ),
            across="probability given",
            up="share won",
            reference="diagonal",
        ),
        Table(
            ("probability given", "won", "95 %", "candidates"),
            [
                [f"{own.given:.3f}", f"{own.won:.3f}", _interval(own.low, own.high), str(own.count)]
                for own in one.bins
            ],
        ),
        Table(
            ("over boundaries that somebody wins", "figure", "beside"),
            [
                [
                    "expected calibration error",
                    f"{one.error:.3f} ({_interval(one.error_low, one.error_high)})",
                    f"{one.by_chance:.3f} if calibrated, below {one.by_chance_high:.3f} in 97.5 %",
                ],
                [
                    "Brier score (0 to 2)",
                    f"{one.brier:.3f}",
                    f"{one.brier_even:.3f} giving all the same, {one.brier_shares:.3f} giving each "
                    "its share of wins",
                ],
                [
                    "its favourite's probability less how often that wins",
                    f"{one.too_sure:+.3f}",
                    f"{one.boundaries} boundaries",
                ],
            ],
        ),
    ]  # fmt: skip


_REGRET = (
    "boundaries", "n", "switcher", "95 %", "honest", "most probable", "random", "always the same",
    "agreement",
)  # fmt: skip


def _regret(names: Sequence[str], one: Regret) -> list[str]:
    return [
        str(one.boundaries),
        f"{one.drawn:.3f}",
        _interval(one.low, one.high),
        f"{one.honest:.3f}",
        f"{one.most_probable:.3f}",
        f"{one.random:.3f}",
        f"{one.always:.3f} ({names[one.always_who]})",
        NONE if one.agreement is None else f"{one.agreement:.2f}",
    ]


def _study(names: Sequence[str], one: Study) -> dict[str, Any]:
    def named(own: Sequence[Helpfulness]) -> dict[str, Any]:
        return {names[helps.candidate]: asdict(helps) for helps in own}

    return {
        "whole": named(one.whole),
        "tasks": {task: named(own) for task, own in one.tasks.items()},
        "correlation": {
            "left_out": asdict(one.left_out),
            "shapley": None if one.shapley is None else asdict(one.shapley),
        },
    }
