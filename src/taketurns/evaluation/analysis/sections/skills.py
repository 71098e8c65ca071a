"""Who shows which skill?"""

from __future__ import annotations

from dataclasses import asdict

from taketurns.evaluation.analysis.annotation import Agreement
from taketurns.evaluation.analysis.skills import SKILLS, SkillAssociation
from taketurns.evaluation.report import formatting as fmt
from taketurns.evaluation.report.blocks import Block, Chart, DataPoint, Heading, Paragraph, Table
from taketurns.evaluation.report.section import Section


def render_skills(skills: SkillAssociation | None, people: Agreement | None = None) -> Section:
    """How far skill and speaker go together, and how far people agree with the labels."""
    name, title = "skills", "Who shows which skill?"
    if skills is None:
        unknown = "Not known: a task has no rules for skills; name a model with --judge."
        return Section(name, title, unknown, (), place=50)
    parts: list[Block] = [
        Paragraph(
            f"Labels: {skills.labels}. A patch has the skill that takes up most of it: "
            + "; ".join(f"{row.skill} ({SKILLS[row.skill]})" for row in skills.rows)
            + "."
        ),
        Chart(
            "speakers",
            "shares",
            "Of the patches that show each skill, who wrote them.",
            tuple(
                DataPoint.of(row.skill, share, speaker)
                for row in skills.rows
                for speaker, share in zip(skills.pool, row.by_speaker, strict=True)
            ),
            across="share of the patches",
        ),
        Table(
            ("skill", "patches", *(f"{speaker}, %" for speaker in skills.pool)),
            [
                [row.skill, str(row.patches), *map(fmt.percent, row.by_speaker)]
                for row in skills.rows
            ],
        ),
    ]
    if skills.chi_square is not None and skills.corrected is not None:
        parts.append(
            Paragraph(
                f"Chi-square {skills.chi_square:.1f} with {skills.degrees} degrees of freedom if "
                "all patches were independent; they are not, and for what clusters by question it "
                f"comes to {skills.corrected:.1f} (Rao and Scott), p {_equal_or_below(skills.p)}."
            )
        )
    return Section(
        name,
        title,
        _finding(skills),
        (*parts, Heading("People", 3), Paragraph(_people(people))),
        "Skill follows task and position, and so does the speaker: that they go together does not "
        "say that the switcher knows skills. Rules and judges err; people's labels are the measure "
        "of them.",
        50,
        {**asdict(skills), "people": None if people is None else asdict(people)},
    )


def _finding(skills: SkillAssociation) -> str:
    if skills.cramers_v is None or skills.p is None:
        return "All patches show one skill, or one speaker wrote them all."
    strength = fmt.ratio(skills.cramers_v)
    if fmt.significant(skills.p):
        return (
            f"Skill and speaker go together with Cramér's V {strength} (0 nothing, 1 all), "
            f"p {_equal_or_below(skills.p)}."
        )
    return (
        "Skill and speaker do not go together beyond chance (Cramér's V "
        f"{strength}, p {fmt.p_value(skills.p)})."
    )


def _equal_or_below(p: float | None) -> str:
    text = fmt.p_value(p)
    return text if text.startswith("<") else f"= {text}"


def _people(agreement: Agreement | None) -> str:
    if agreement is None:
        return "Nobody has labelled patches of this run."
    left = fmt.counted(agreement.left, "row")
    if not agreement.patches:
        return f"The table of patches has {left} and no label yet."
    same = f"{100 * (agreement.same or 0):.0f} %"
    if agreement.same_low is not None and agreement.same_high is not None:
        same += f" ({100 * agreement.same_low:.0f} to {100 * agreement.same_high:.0f})"
    kappa = fmt.difference(agreement.kappa, agreement.kappa_low, agreement.kappa_high, 2)
    return (
        f"On {fmt.counted(agreement.patches, 'patch')}es that people labelled without seeing the "
        f"speaker, they agree with these labels in {same}; Cohen's kappa {kappa}. "
        f"{left} have no label yet."
    )
