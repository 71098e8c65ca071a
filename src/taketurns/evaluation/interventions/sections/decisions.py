"""The switcher's decisions, as a section."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from taketurns.evaluation.analysis.numbers import NONE
from taketurns.evaluation.analysis.section import Chart, Mark, Part, Section
from taketurns.evaluation.interventions.calibration import (
    MARGIN,
    Calibration,
    DecisionQuality,
    Regret,
)
from taketurns.evaluation.interventions.sections.words import interval
from taketurns.evaluation.report.blocks import Heading, Paragraph, Table

_REGRET = (
    "boundaries", "n", "switcher", "95 %", "honest", "most probable", "random", "always the same",
    "agreement",
)  # fmt: skip


def of_decisions(names: Sequence[str], found: DecisionQuality, source: str) -> Section:
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
        f"({interval(whole.low, whole.high)}) against the best candidate; random switching loses "
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
                [f"{own.given:.3f}", f"{own.won:.3f}", interval(own.low, own.high), str(own.count)]
                for own in one.bins
            ],
        ),
        Table(
            ("over boundaries that somebody wins", "figure", "beside"),
            [
                [
                    "expected calibration error",
                    f"{one.error:.3f} ({interval(one.error_low, one.error_high)})",
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


def _regret(names: Sequence[str], one: Regret) -> list[str]:
    return [
        str(one.boundaries),
        f"{one.drawn:.3f}",
        interval(one.low, one.high),
        f"{one.honest:.3f}",
        f"{one.most_probable:.3f}",
        f"{one.random:.3f}",
        f"{one.always:.3f} ({names[one.always_who]})",
        NONE if one.agreement is None else f"{one.agreement:.2f}",
    ]
