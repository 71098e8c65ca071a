"""Calibration and regret of the switcher's decisions, as a section."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from taketurns.evaluation.interventions.calibration import (
    MARGIN,
    Calibration,
    DecisionQuality,
    Regret,
)
from taketurns.evaluation.report.blocks import Block, Chart, DataPoint, Heading, Paragraph, Table
from taketurns.evaluation.report.formatting import DASH, interval, with_interval
from taketurns.evaluation.report.section import Section


def render_calibration(names: Sequence[str], measured: DecisionQuality, source: str) -> Section:
    """The switcher's probabilities and choices against the utilities of every candidate."""
    calibration, regret = measured.calibration, measured.regret
    return Section(
        "switcher-decisions",
        "Quality of the switcher's decisions",
        f"The switcher loses {regret.drawn:.3f} utility per decision "
        f"({interval(regret.low, regret.high)}) against the best candidate; random switching loses "
        f"{regret.random:.3f}, {names[regret.always_who]} at every decision {regret.always:.3f}."
        + ("" if calibration is None else _calibrated(calibration)),
        (
            Paragraph(
                f"{regret.boundaries} decision points ({source}). At each, every candidate's next "
                "patch was continued to the end; the candidate with the highest utility wins. "
                "Regret is the utility lost against the best candidate."
            ),
            *(() if calibration is None else _calibration_parts(calibration)),
            *_regret_parts(names, measured),
        ),
        caveat="Regret is biased upwards, because the maximum of noisy means is above the true "
        "maximum. The honest figure, which finds the best candidate on every other rollout, is "
        "biased downwards. Winners come from measured means, at decision points where the "
        f"candidates differ by at least {MARGIN}.",
        place=120,
        data=asdict(measured) | {"candidates": list(names)},
    )


def _calibrated(calibration: Calibration) -> str:
    off = f" The calibration error of its probabilities is {calibration.error:.3f}; "
    if calibration.error <= calibration.by_chance_high:
        return f"{off}a calibrated switcher would show {calibration.by_chance:.3f} here by chance."
    way = "overconfident" if calibration.too_sure > 0 else "underconfident"
    return f"{off}it is {way} in its most probable candidate by {abs(calibration.too_sure):.3f}."


def _regret_parts(names: Sequence[str], measured: DecisionQuality) -> list[Block]:
    return [
        Heading("Regret", 3),
        Table(
            ("decision points", "n", "switcher", "95 %", "honest", "most probable", "random",
             "always the same", "agreement"),
            [
                ["all", *_regret_cells(names, measured.regret)],
                *(
                    [f"after {patches} patches", *_regret_cells(names, regret)]
                    for patches, regret in measured.by_position.items()
                ),
                *(
                    [task, *_regret_cells(names, regret)]
                    for task, regret in measured.by_task.items()
                ),
            ],
            frozenset({0}),
        ),
        Chart(
            "regret-position",
            "lines",
            "Regret by the number of patches before the decision point.",
            tuple(
                point
                for at, (patches, regret) in enumerate(measured.by_position.items())
                for point in (
                    DataPoint(
                        patches, regret.drawn, "switcher", regret.low, regret.high, float(at)
                    ),
                    DataPoint(patches, regret.random, "random", x=float(at)),
                )
            ),
            across="patches before",
            up="regret",
            reference=0.0,
        ),
    ]  # fmt: skip


def _regret_cells(names: Sequence[str], regret: Regret) -> list[str]:
    return [
        str(regret.boundaries),
        f"{regret.drawn:.3f}",
        interval(regret.low, regret.high),
        f"{regret.honest:.3f}",
        f"{regret.most_probable:.3f}",
        f"{regret.random:.3f}",
        f"{regret.always:.3f} ({names[regret.always_who]})",
        DASH if regret.agreement is None else f"{regret.agreement:.2f}",
    ]


def _calibration_parts(calibration: Calibration) -> list[Block]:
    bins = calibration.bins
    return [
        Heading("Calibration", 3),
        Chart(
            "reliability",
            "scatter",
            "Share of decision points won against the switcher's probability, one point per bin of "
            "width 0.1; a calibrated switcher lies on the diagonal.",
            tuple(
                DataPoint(f"{bin_.count} at about {bin_.given:.2f}", bin_.won, "switcher",
                          bin_.low, bin_.high, bin_.given)
                for bin_ in bins
            ),
            across="probability",
            up="share won",
            reference="diagonal",
        ),
        Table(
            ("mean probability", "share won", "95 %", "candidates"),
            [
                [f"{bin_.given:.3f}", f"{bin_.won:.3f}", interval(bin_.low, bin_.high),
                 str(bin_.count)]
                for bin_ in bins
            ],
        ),
        Table(
            ("over decision points with a winner", "switcher", "for comparison"),
            [
                [
                    "expected calibration error",
                    with_interval(
                        calibration.error, calibration.error_low, calibration.error_high
                    ),
                    f"{calibration.by_chance:.3f} if calibrated (97.5 % quantile "
                    f"{calibration.by_chance_high:.3f})",
                ],
                [
                    "Brier score (0 to 2)",
                    f"{calibration.brier:.3f}",
                    f"{calibration.brier_even:.3f} with equal probabilities, "
                    f"{calibration.brier_shares:.3f} with each candidate's share of wins",
                ],
                [
                    "probability of the most probable candidate minus its share of wins",
                    f"{calibration.too_sure:+.3f}",
                    f"{calibration.boundaries} decision points",
                ],
            ],
        ),
    ]  # fmt: skip
