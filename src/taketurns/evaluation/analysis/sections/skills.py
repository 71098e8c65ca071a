"""Skills and speakers, as a section."""

from __future__ import annotations

from dataclasses import asdict

from taketurns.evaluation.analysis.annotation import Agreement
from taketurns.evaluation.analysis.skills import SKILLS, SkillAssociation
from taketurns.evaluation.report import formatting as fmt
from taketurns.evaluation.report.blocks import Block, Chart, DataPoint, Heading, Paragraph, Table
from taketurns.evaluation.report.section import Section


def render_skills(skills: SkillAssociation | None, people: Agreement | None = None) -> Section:
    """The association of skill and speaker, and the agreement of people with the labels."""
    name, title = "skills", "Skills of the speakers"
    if skills is None:
        unknown = "Not measured: a task has no rules for skills; name a judge model with --judge."
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
            "Each speaker's share of the patches that show a skill.",
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
                f"Chi-square {skills.chi_square:.1f} with {skills.degrees} degrees of freedom as "
                f"if all patches were independent; {skills.corrected:.1f} after correction for the "
                f"clustering by question (Rao and Scott), p {_equal_or_below(skills.p)}."
            )
        )
    return Section(
        name,
        title,
        _finding(skills),
        (*parts, Heading("Labels by people", 3), Paragraph(_people(people))),
        "Skill and speaker both depend on task and position: their association does not mean that "
        "the switcher knows skills. Rules and judges make errors, which the labels by people "
        "measure.",
        50,
        {**asdict(skills), "people": None if people is None else asdict(people)},
    )


def _finding(skills: SkillAssociation) -> str:
    if skills.cramers_v is None or skills.p is None:
        return "Not measured: all patches show one skill, or one speaker wrote them all."
    strength = fmt.ratio(skills.cramers_v)
    if fmt.significant(skills.p):
        return (
            f"Skill and speaker are associated: Cramér's V {strength} (0: not at all, 1: "
            f"completely), p {_equal_or_below(skills.p)}."
        )
    return (
        "Skill and speaker are not significantly associated (Cramér's V "
        f"{strength}, p {fmt.p_value(skills.p)})."
    )


def _equal_or_below(p: float | None) -> str:
    text = fmt.p_value(p)
    return text if text.startswith("<") else f"= {text}"


def _people(agreement: Agreement | None) -> str:
    if agreement is None:
        return "This run has no labels by people (--annotate writes a table for them)."
    left = fmt.counted(agreement.left, "row")
    if not agreement.patches:
        return f"The table of patches has no label yet ({left} to label)."
    same = f"{100 * (agreement.same or 0):.0f} %"
    if agreement.same_low is not None and agreement.same_high is not None:
        same += f" ({100 * agreement.same_low:.0f} to {100 * agreement.same_high:.0f})"
    kappa = fmt.difference(agreement.kappa, agreement.kappa_low, agreement.kappa_high, 2)
    return (
        f"{agreement.patches} patches were labelled by people who did not see the speaker; they "
        f"agree with the labels above on {same}; Cohen's kappa {kappa}. Still without a label: "
        f"{left}."
    )
