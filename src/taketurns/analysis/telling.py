"""Results as sections: what is said of each, with its table, its chart and its caveat."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from math import isfinite

from taketurns.analysis.annotation import Agreement
from taketurns.analysis.clusters import Ratio
from taketurns.analysis.diagnosis import At, Sign, Switcher
from taketurns.analysis.effects import Correlation, Effect
from taketurns.analysis.numbers import counted, listed, p_value, percent, plain, signed
from taketurns.analysis.sections import Chart, Mark, Section
from taketurns.analysis.sequences import Frequency
from taketurns.analysis.shares import Share, Shares
from taketurns.analysis.skills import SKILLS, Skills
from taketurns.evaluate.beyond import Beyond
from taketurns.evaluate.report.blocks import Heading, Paragraph, Table

SURE = 0.05
SHOWN = 27
OBSERVED = (
    "This is observation: whatever made the speakers differ between two answers to a question (the "
    "words already written, above all) may also have made their scores differ, and a longer answer "
    "contains more sequences. Only speakers that are forced or drawn by lot show what a sequence "
    "does."
)


def of_shares(found: Shares) -> Section:
    """Who writes what?"""
    first = max(range(len(found.pool)), key=lambda who: found.overall.of_tokens[who].value)
    said = [
        f"{name} writes {percent(ratio)} % of the tokens"
        for name, ratio in zip(found.pool, found.overall.of_tokens, strict=True)
    ]
    tables: list[Table | Chart | Heading] = []
    for title, groups in (
        ("By category", found.by_category),
        ("By task", found.by_task),
        ("By position in the answer", found.by_position),
    ):
        tables += [
            Heading(title, 3),
            Chart(
                title.split()[1],
                "shares",
                f"Share of the tokens that each candidate writes, {title.lower()}.",
                tuple(
                    Mark(group.group, ratio.value, name, ratio.low, ratio.high)
                    for group in groups
                    for name, ratio in zip(found.pool, group.of_tokens, strict=True)
                ),
                across="share of the tokens",
            ),
            _shares_table(found.pool, groups),
        ]
    most = max(found.by_task, key=lambda group: group.of_tokens[first].value)
    return Section(
        "shares",
        "Who writes what?",
        f"{listed(said)}; {found.pool[first]} most of all in {most.group} "
        f"({percent(most.of_tokens[first])} %).",
        (
            Paragraph(
                "Per cent of the tokens, with 95 % intervals (bootstrap over questions), and of "
                "the patches."
            ),
            _shares_table(found.pool, [found.overall]),
            *tables,
        ),
        "Who writes a lot need not help a lot: a share says who was asked, not what for.",
        10,
        asdict(found),
    )


def _shares_table(pool: Sequence[str], groups: Sequence[Share]) -> Table:
    header = ["", "patches", *pool, *(f"{name}, patches" for name in pool)]
    rows = [
        [
            group.group,
            str(group.patches),
            *map(percent, group.of_tokens),
            *(f"{100 * ratio.value:.0f}" for ratio in group.of_patches),
        ]
        for group in groups
    ]
    return Table(header, rows)


def of_sequences(pool: Sequence[str], found: Sequence[Frequency]) -> Section:
    """Which sequences are frequent?"""
    tested = [one for one in found if one.p_holm is not None]
    more = [one for one in tested if _sure(one.p_holm) and one.over_places.value > 1]
    less = [one for one in tested if _sure(one.p_holm) and one.over_places.value < 1]
    repeated = sum(len(set(one.sequence)) == 1 for one in more)
    there = (one for one in found if one.count or one.p is not None)
    shown = sorted(there, key=lambda one: -one.count)
    frequent = [one for one in shown if one.p is not None][:SHOWN]
    finding = (
        f"Of {counted(len(tested), 'sequence')} that can be tested, {len(more)} occur more often "
        f"than the speakers' shares within each task and position make likely ({repeated} of them "
        f"one speaker going on) and {len(less)} less often (Holm)."
    )
    return Section(
        "sequences",
        "Which sequences of speakers are frequent?",
        finding,
        (
            Paragraph(
                "Observed over expected is 1 where the order of speakers adds nothing. From the "
                "shares overall, as if speakers were drawn independently everywhere; and from the "
                "shares within each task and position, which is what is tested: if tasks have "
                "speakers of their own, the first is far from 1 without any order."
            ),
            Chart(
                "frequency",
                "intervals",
                "How often each sequence occurs beside what independence predicts from the shares "
                "within task and position; filled where it differs after Holm.",
                tuple(
                    Mark(
                        named(pool, one.sequence),
                        one.over_places.value,
                        "",
                        one.over_places.low,
                        one.over_places.high,
                        sure=_sure(one.p_holm),
                    )
                    for one in frequent
                    if isfinite(one.over_places.value)
                ),
                across="observed / expected, 95 % interval",
                reference=1.0,
            ),
            Table(
                ("sequence", "windows", "share, %", "over shares", "over task and position", "p",
                 "Holm"),
                [
                    [
                        named(pool, one.sequence), str(one.count), percent(one.share),
                        plain(one.over_shares), plain(one.over_places), p_value(one.p),
                        p_value(one.p_holm),
                    ]
                    for one in shown
                ],
            ),
        ),
        "Questions differ within a task too, and a switcher that sees this follows it: what is "
        "more frequent than expected here need not be a habit of switching.",
        20,
        {"pool": list(pool), "frequencies": [asdict(one) for one in found]},
    )  # fmt: skip


def of_effects(
    pool: Sequence[str],
    found: Sequence[Effect],
    of_length: Sequence[Effect],
    chance: Sequence[Effect] | None,
    related: Sequence[Correlation],
) -> Section:
    """Do some sequences help?"""
    known = [one for one in found if one.effect is not None]
    helping = [one for one in known if _sure(one.p_holm) and (one.effect or 0) > 0]
    harming = [one for one in known if _sure(one.p_holm) and (one.effect or 0) < 0]
    by_length = {one.sequence: one for one in of_length}
    by_chance = {one.sequence: one for one in chance or ()}
    finding = (
        f"Of {counted(len(known), 'sequence')} with enough questions answered with and without, "
        f"{_some(pool, helping)} better and {_some(pool, harming)} worse answers (Holm); "
        "by observation, not experiment."
        if known
        else "Too few questions were answered both with and without any sequence: more seeds would "
        "tell."
    )
    marks = []
    for one in sorted(known, key=lambda one: -(one.effect or 0)):
        for series, other in (("as the switcher chose", one),
                              ("speakers drawn evenly", by_chance.get(one.sequence))):  # fmt: skip
            if other is not None and other.effect is not None:
                marks.append(
                    Mark(named(pool, one.sequence), other.effect, series, other.low, other.high,
                         sure=_sure(other.p_holm))
                )  # fmt: skip
    rows = [
        [
            named(pool, one.sequence),
            str(one.questions),
            signed(one.effect, one.low, one.high),
            p_value(one.p),
            p_value(one.p_holm),
            _cell(by_length.get(one.sequence)),
            *([_cell(by_chance.get(one.sequence))] if chance is not None else []),
        ]
        for one in sorted(known, key=lambda one: -(one.effect or 0))
    ]
    header = ["sequence", "questions", "effect on the score", "p", "Holm", "of as many patches"]
    if chance is not None:
        header.append("drawn evenly")
    parts: list[Paragraph | Table | Chart | Heading] = [
        Paragraph(
            "Within each question, the score of answers that contain the sequence less that of "
            "those that do not. Intervals are bootstraps over questions, p is from shuffling "
            "scores within questions, Holm over all sequences. Beside it the same among answers of "
            "as many patches, since longer answers contain more sequences"
            + (", and for answers whose speakers were drawn evenly" if chance is not None else "")
            + ", each with its number of questions."
        )
    ]
    if marks:
        parts += [
            Chart(
                "effect",
                "intervals",
                "Score of answers with a sequence less that of answers to the same questions "
                "without; filled where it is significant after Holm.",
                tuple(marks),
                across="effect on the score, 95 % interval",
                reference=0.0,
            ),
            Table(header, rows),
        ]
    parts += _related(related)
    return Section(
        "effects",
        "Do some sequences help?",
        f"{finding} {_relation(related)}",
        tuple(parts),
        OBSERVED,
        30,
        {
            "pool": list(pool),
            "effects": [asdict(one) for one in found],
            "effects among answers of as many patches": [asdict(one) for one in of_length],
            "effects where speakers are drawn evenly": [asdict(one) for one in chance or ()],
            "correlations": [asdict(one) for one in related],
        },
    )


def _cell(one: Effect | None) -> str:
    """An effect and how many questions say so."""
    if one is None or one.effect is None:
        return signed(None, None, None)
    return f"{signed(one.effect, one.low, one.high, 2)}, {one.questions}"


def _some(pool: Sequence[str], found: Sequence[Effect]) -> str:
    if not found:
        return "none goes with"
    return f"{len(found)} ({'; '.join(named(pool, one.sequence) for one in found)}) go with"


def _related(found: Sequence[Correlation]) -> list[Heading | Paragraph | Table]:
    rows = [
        [
            _group(one),
            str(one.sequences),
            signed(one.r, one.low, one.high, 2),
            "\N{EN DASH}" if one.r_squared is None else f"{one.r_squared:.3f}",
            p_value(one.p),
            p_value(one.p_holm),
        ]
        for one in found
    ]
    return [
        Heading("Do frequent sequences help more?", 3),
        Paragraph(
            _relation(found)
            + " Sequences are what is counted here, and they overlap, so the intervals are if "
            "anything too narrow."
        ),
        Table(("category", "sequences", "r", "R\N{SUPERSCRIPT TWO}", "p", "Holm"), rows),
    ]


def _relation(found: Sequence[Correlation]) -> str:
    known = [one for one in found if one.r is not None]
    sure = [one for one in known if _sure(one.p_holm)]
    if not known:
        return "Whether frequent sequences help more cannot be said: too few have an effect."
    if not sure:
        most = max(known, key=lambda one: one.sequences)
        return (
            f"That frequent sequences help more, or less, is not shown: r "
            f"{signed(most.r, most.low, most.high, 2)} over {most.sequences} sequences of "
            f"{_group(most)}, R\N{SUPERSCRIPT TWO} {most.r_squared:.3f}"
            + (", and nothing in any category (Holm)." if len(known) > 1 else ".")
        )
    each = [f"{_group(one)} (r {signed(one.r, one.low, one.high, 2)})" for one in sure]
    others = "; not shown in the others" if len(sure) < len(known) else ""
    return f"How frequent a sequence is goes with its effect in {listed(each)}{others} (Holm)."


def _group(one: Correlation) -> str:
    return "all categories" if one.group == "all" else one.group


def of_beyond(found: Beyond | None, lacks: str = "") -> Section:
    """Is anything solved that no checkpoint solves alone? `lacks` says why that is not known."""
    name, title = "beyond", "Is anything solved that no checkpoint solves alone?"
    if found is None:
        return Section(name, title, f"Not known: {lacks}.", (), "", 40)
    mine = next(one for one in found.tried if one.name == found.subject)
    best = max((one for one in found.tried if one is not mine), key=lambda one: one.share)
    sure = [one for one in found.against if _sure(one.p_holm) and one.difference > 0]
    verdict = (
        f"more than {listed([one.control for one in sure])}"
        if sure
        else "no more than chance explains"
    )
    if 0 < len(sure) < len(found.against):
        verdict += f", not surely more than {_rest(found, sure)}"
    others = {one.control: one for one in found.against}
    rows = []
    for one in sorted(found.tried, key=lambda one: -one.share):
        against = others.get(one.name)
        rows.append(
            [
                one.name,
                f"{one.solved:.1f}".removesuffix(".0"),
                f"{one.share:.3f} ({one.low:.3f}\N{EN DASH}{one.high:.3f})",
                *(
                    (signed(against.difference, against.low, against.high), p_value(against.p),
                     p_value(against.p_holm))
                    if against
                    else ("", "", "")
                ),
            ]
        )  # fmt: skip
    return Section(
        name,
        title,
        f"{found.subject} solves {100 * mine.share:.0f} % of the questions that no checkpoint "
        f"solved; as many new answers of {best.name} solve {100 * best.share:.0f} %. That is "
        f"{verdict} (Holm).",
        (
            Paragraph(
                f"{counted(found.defining, 'answer')} of each checkpoint tell which questions "
                f"none solves ({found.left:.1f} of {found.questions} on average over "
                f"{counted(found.rounds, 'way')} to divide the seeds); then everybody has "
                f"{counted(found.tries, 'new answer')} a question. What a checkpoint solves now is "
                "chance; whatever tries more widely solves more by chance, as random switching "
                "does."
            ),
            Chart(
                "solved",
                "intervals",
                "Share of the questions left by all checkpoints that each solves with as many new "
                "answers.",
                tuple(
                    Mark(one.name, one.share, "", one.low, one.high, sure=one is mine)
                    for one in sorted(found.tried, key=lambda one: -one.share)
                ),
                across="solved of the questions left, 95 % interval",
            ),
            Table(
                ("who", "solved", "share", f"{found.subject} less it", "p", "Holm"),
                rows,
                frozenset(n for n, row in enumerate(rows) if row[0] == found.subject),
            ),
        ),
        "Which questions count as left depends on how often the checkpoints were asked: with more "
        "answers they would solve more.",
        40,
        asdict(found),
    )


def _rest(found: Beyond, sure: Sequence[object]) -> str:
    return listed([one.control for one in found.against if one not in sure])


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
            if found.p < SURE
            else "Skill and speaker do not go together beyond chance (Cramér's V "
            f"{plain(strong)}, p {p_value(found.p)})."
        )
    parts: list[Paragraph | Table | Chart | Heading] = [
        Paragraph(
            f"Labels: {found.labels}. A patch has the skill that takes up most of it: "
            + "; ".join(f"{skill} {SKILLS[skill]}" for skill in (row.skill for row in found.rows))
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


def of_switcher(found: Switcher) -> Section:
    """How does the switcher decide?"""
    name, title = "switcher", "How does the switcher decide?"
    every = found.overall
    switching = (
        f"The speaker changes {plain(found.switches)} times an answer, at "
        f"{percent(found.switch_rate)} % of the boundaries."
    )
    if every is None:
        return Section(
            name, title, switching, (Paragraph("Nobody was asked who is next."),), "", 60
        )
    series: tuple[tuple[str, Callable[[At], Ratio]], ...] = (
        ("entropy of its probabilities", lambda at: at.entropy),
        ("probability of its favourite", lambda at: at.favourite),
        ("favourite drawn", lambda at: at.followed),
    )
    return Section(
        name,
        title,
        f"Its favourite has probability {plain(every.favourite)} and speaks in "
        f"{percent(every.followed)} % of {every.decisions} decisions. {switching}",
        (
            Paragraph(
                "Entropy is a share of the most that it can be: 0 where the switcher is sure, 1 "
                "where all are as likely. Only decisions that it made are counted."
            ),
            Chart(
                "positions",
                "lines",
                "Entropy of the switcher's probabilities, probability of its favourite, and how "
                "often the favourite speaks, by position in the answer.",
                tuple(
                    Mark(at.position, of(at).value, what, of(at).low, of(at).high, float(number))
                    for what, of in series
                    for number, at in enumerate(found.by_position, start=1)
                ),
                across="patch of the answer",
                up="share",
            ),
            Table(
                ("patch", "decisions", *(what for what, _ in series)),
                [
                    [at.position, str(at.decisions), *(plain(of(at)) for _, of in series)]
                    for at in (*found.by_position, every)
                ],
                frozenset({len(found.by_position)}),
            ),
        ),
        "A sure switcher need not be right: whether its probabilities fit what the speakers would "
        "have brought takes answers that were not written.",
        60,
        asdict(found),
    )


def of_signs(found: Sequence[Sign]) -> Section:
    """Does anything look broken?"""
    there = [one for one in found if one.verdict != "no"]
    local = [one for one in found if one.verdict == "no" and one.tasks]
    finding = "No known sign of a team that does not work."
    if there:
        finding = " ".join(
            f"{one.name.capitalize() if one.name.islower() else one.name}"
            f"{' (perhaps)' if one.verdict == 'perhaps' else ''}: {one.means}."
            for one in there
        )
    elif local:
        each = [f"{one.name} in {listed(one.tasks)}" for one in local]
        finding = f"Not over all tasks; but {listed(each)}."
    return Section(
        "signs",
        "Does anything look broken?",
        finding,
        (
            Table(
                ("sign", "what is measured", "value", "from", "there", "tasks beyond it"),
                [
                    [
                        one.name, one.measure, plain(one.value), f"{one.threshold:.2f}",
                        one.verdict, ", ".join(one.tasks) or "none",
                    ]
                    for one in found
                ],
            ),
            *(Paragraph(f"{one.means}.", f"{one.name}:") for one in found),
        ),
        'A sign is there ("yes") where the whole interval lies beyond the threshold, "perhaps" '
        "where the value does. One candidate may rightly write nearly all of a task that it does "
        "best.",
        70,
        {"signs": [asdict(one) for one in found]},
    )  # fmt: skip


def named(pool: Sequence[str], sequence: Sequence[int]) -> str:
    """A sequence by its speakers' names."""
    return " \N{RIGHTWARDS ARROW} ".join(pool[speaker] for speaker in sequence)


def _sure(p: float | None) -> bool:
    return p is not None and p < SURE
