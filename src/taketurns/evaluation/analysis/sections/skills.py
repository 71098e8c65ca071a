"""Who shows which skill?"""

from __future__ import annotations

from dataclasses import asdict

from taketurns.evaluation.analysis.annotation import Agreement
from taketurns.evaluation.analysis.numbers import counted, p_value, percent, plain, signed
from taketurns.evaluation.analysis.section import Chart, Mark, Section
from taketurns.evaluation.analysis.skills import SKILLS, Skills
from taketurns.evaluation.report.blocks import Heading, Paragraph, Table
from taketurns.evaluation.statistics import ALPHA


def of_skills(found: Skills | None, people: Agreement | None = None) -> Section:
    """Who shows which skill?"""
    name, title = "skills", "Who shows which skill?"
    if found is None:
        return Section(
            name,
            title,
            "Not known: there are rules for the pocket world alone; name a model with --judge.",
            (),
            "",
            50,
        )
    strong = found.cramers_v
    finding = "All patches show one skill, or one speaker wrote them all."
    if strong is not None and found.p is not None:
        finding = (
            f"Skill and speaker go together with Cramér's V {plain(strong)} (0 nothing, 1 all), "
            f"p {_stated(found.p)}."
            if found.p < ALPHA
            else "Skill and speaker do not go together beyond chance (Cramér's V "
            f"{plain(strong)}, p {p_value(found.p)})."
        )
    parts: list[Paragraph | Table | Chart | Heading] = [
        Paragraph(
            f"Labels: {found.labels}. A patch has the skill that takes up most of it: "
            + "; ".join(f"{row.skill} ({SKILLS[row.skill]})" for row in found.rows)
            + "."
        ),
        Chart(
            "speakers",
            "shares",
            "Of the patches that show each skill, who wrote them.",
            tuple(
                Mark(row.skill, ratio.value, who, ratio.low, ratio.high)
                for row in found.rows
                for who, ratio in zip(found.pool, row.by_speaker, strict=True)
            ),
            across="share of the patches",
        ),
        Table(
            ("skill", "patches", *(f"{who}, %" for who in found.pool)),
            [[row.skill, str(row.patches), *map(percent, row.by_speaker)] for row in found.rows],
        ),
    ]
    if found.chi_square is not None and found.corrected is not None:
        parts.append(
            Paragraph(
                f"Chi-square {found.chi_square:.1f} with {found.degrees} degrees of freedom if all "
                f"patches were independent; they are not, and for what clusters by question it "
                f"comes to {found.corrected:.1f} (Rao and Scott), p {_stated(found.p)}."
            )
        )
    parts += _people(people)
    return Section(
        name,
        title,
        finding,
        tuple(parts),
        "Skill follows task and position, and so does the speaker: that they go together does not "
        "say that the switcher knows skills. Rules and judges err; people's labels are the measure "
        "of them.",
        50,
        {**asdict(found), "people": None if people is None else asdict(people)},
    )


def _stated(p: float | None) -> str:
    said = p_value(p)
    return said if said.startswith("<") else f"= {said}"


def _people(found: Agreement | None) -> list[Heading | Paragraph | Table | Chart]:
    heading = Heading("People", 3)
    if found is None:
        return [heading, Paragraph("Nobody has labelled patches of this run.")]
    if not found.patches:
        said = f"The table of patches has {counted(found.left, 'row')} and no label yet."
        return [heading, Paragraph(said)]
    kappa = signed(found.kappa, found.kappa_low, found.kappa_high, 2)
    same = f"{100 * (found.same or 0):.0f} %"
    if found.same_low is not None and found.same_high is not None:
        same += f" ({100 * found.same_low:.0f} to {100 * found.same_high:.0f})"
    return [
        heading,
        Paragraph(
            f"On {counted(found.patches, 'patch')}es that people labelled without seeing the "
            f"speaker, they agree with these labels in {same}; Cohen's kappa {kappa}. "
            f"{counted(found.left, 'row')} have no label yet."
        ),
    ]
