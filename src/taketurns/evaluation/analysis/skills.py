"""The skill that each patch shows, and its association with the speaker.

Labels come from the rules of a task, from a judge model (`judge.py`), or from people
(`annotation.py`). A patch has one label: the skill that takes up most of its text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from taketurns.evaluation.analysis.answers import MethodAnswers, ScoredAnswer
from taketurns.evaluation.bootstrap import (
    Ratio,
    bootstrap_weights,
    percentile_interval,
    shares_within,
)
from taketurns.evaluation.statistics import PERCENT_TAIL
from taketurns.tasks.base import SkillTask
from taketurns.tasks.registry import built_in_task

if TYPE_CHECKING:
    from taketurns.evaluation.statistics import Floats

SKILLS: Mapping[str, str] = MappingProxyType(
    {
        "recall": "states something that it must know",
        "read": "takes something from the question",
        "reckon": "computes, compares or concludes",
        "wording": "keeps to words or a form that were asked for",
        "refuse": "declines what should not be done",
        "abstain": "says that something is not known",
        "link": "does none of these: words in between, an ending, nonsense",
    }
)
"""The skills, with their descriptions for judges and people."""
LINK = "link"


@dataclass(frozen=True, slots=True)
class SkillLabel:
    """The skill of patch number `patch` (from 0) of an answer."""

    question: str
    seed: int
    patch: int
    skill: str


@dataclass(frozen=True, slots=True)
class SkillRow:
    """Each speaker's share of the patches that show a skill."""

    skill: str
    patches: int
    by_speaker: tuple[Ratio, ...]


@dataclass(frozen=True, slots=True)
class SkillAssociation:
    """Skill by speaker: `counts[skill][speaker]` in the rows' order, and the association of the
    two.

    `chi_square` with `degrees` of freedom treats all patches as independent; `corrected` divides it
    by its inflation from the clustering by question (Rao and Scott, first order), and `p` belongs
    to that. Cramér's V (0: no association, 1: complete) has a bootstrap interval over questions and
    is corrected for its bias by chance (Bergsma).
    """

    pool: tuple[str, ...]
    labels: str
    rows: tuple[SkillRow, ...]
    counts: tuple[tuple[int, ...], ...]
    chi_square: float | None = None
    degrees: int | None = None
    corrected: float | None = None
    p: float | None = None
    cramers_v: Ratio | None = None


def label_by_rules(subject: MethodAnswers) -> list[SkillLabel] | None:
    """The skill of each patch by the rules of its task; None if a task has no rules."""
    labels: list[SkillLabel] = []
    for answer in subject.answers:
        task = built_in_task(answer.task)
        if not isinstance(task, SkillTask):
            return None
        shown = task.skills_shown(answer.query, answer.text)
        if shown is None:
            return None
        labels += [
            SkillLabel(answer.question, answer.seed, number, skill)
            for number, skill in enumerate(_by_patch(answer, list(shown)))
        ]
    return labels


def _by_patch(answer: ScoredAnswer, shown: Sequence[tuple[int, int, str]]) -> Iterator[str]:
    """For each patch the skill with the most characters in it."""
    begin = 0
    for patch in answer.patches:
        end = begin + len(patch.text)
        amounts = dict.fromkeys(SKILLS, 0)
        for first, last, skill in shown:
            amounts[skill] += max(0, min(last, end) - max(first, begin))
        best = max(amounts, key=amounts.__getitem__)
        yield best if amounts[best] else LINK
        begin = end


def skill_association(
    subject: MethodAnswers, labels: Iterable[SkillLabel], source: str
) -> SkillAssociation:
    """The association of the labels with the speakers. `source` describes the labels' origin."""
    import numpy as np

    speaker = {
        (answer.question, answer.seed, number): who
        for answer in subject.answers
        for number, who in enumerate(answer.speakers)
    }
    row_of = {question: number for number, question in enumerate(subject.questions)}
    names = list(SKILLS)
    counts = np.zeros((len(row_of), len(names), len(subject.pool)))
    for label in labels:
        who = speaker[label.question, label.seed, label.patch]
        counts[row_of[label.question], names.index(label.skill), who] += 1
    kept = [at for at in range(len(names)) if counts[:, at].sum()]
    counts = counts[:, kept]
    drawn = bootstrap_weights(subject.strata)
    total = counts.sum(0)
    shares = shares_within(counts, drawn)
    association = SkillAssociation(
        subject.pool,
        source,
        rows=tuple(
            SkillRow(names[skill], int(total[at].sum()), shares[at])
            for at, skill in enumerate(kept)
        ),
        counts=tuple(tuple(int(n) for n in row) for row in total),
    )
    spoken = total.sum(0) > 0
    if len(kept) < 2 or spoken.sum() < 2:
        return association
    return _tested(association, counts[:, :, spoken], drawn)


def _tested(association: SkillAssociation, counts: Floats, drawn: Floats) -> SkillAssociation:
    """The association with its tests, from counts `[question, skill, speaker]`."""
    from scipy.stats import chi2

    total = counts.sum(0)
    degrees = (total.shape[0] - 1) * (total.shape[1] - 1)
    plain = _chi_square(total[None])[0]
    corrected = plain / max(1.0, _inflation(counts))
    tables = (drawn @ counts.reshape(len(counts), -1)).reshape(-1, *total.shape)
    low, high = percentile_interval(_cramers_v(tables), PERCENT_TAIL)
    value = float(_cramers_v(total[None])[0])
    return replace(
        association,
        chi_square=float(plain),
        degrees=degrees,
        corrected=float(corrected),
        p=float(chi2.sf(corrected, degrees)),
        cramers_v=Ratio(value, float(low), float(high), len(counts)),
    )


def _chi_square(tables: Floats) -> Floats:
    """The chi-square statistic of each of `tables`, `[table, row, column]`."""
    import numpy as np

    n = tables.sum((1, 2), keepdims=True)
    expected = tables.sum(2, keepdims=True) * tables.sum(1, keepdims=True) / n
    with np.errstate(invalid="ignore", divide="ignore"):
        statistic: Floats = np.nan_to_num((tables - expected) ** 2 / expected).sum((1, 2))
    return statistic


def _cramers_v(tables: Floats) -> Floats:
    """Cramér's V of each table, bias-corrected (Bergsma 2013)."""
    import numpy as np

    n = tables.sum((1, 2))
    rows = (tables.sum(2) > 0).sum(1)
    columns = (tables.sum(1) > 0).sum(1)
    phi = np.maximum(0.0, _chi_square(tables) / n - (rows - 1) * (columns - 1) / (n - 1))
    least = np.minimum(rows - (rows - 1) ** 2 / (n - 1), columns - (columns - 1) ** 2 / (n - 1)) - 1
    with np.errstate(invalid="ignore", divide="ignore"):
        v: Floats = np.nan_to_num(np.sqrt(phi / least))
    return v


def _inflation(counts: Floats) -> float:
    """The mean design effect of a test of independence, from those of cells and margins (Rao and
    Scott 1984): the inflation of its statistic over that of independent patches."""
    cells, rows, columns = (
        _design_effects(part)
        for part in (counts.reshape(len(counts), -1), counts.sum(2), counts.sum(1))
    )
    degrees = (counts.shape[1] - 1) * (counts.shape[2] - 1)
    parts = [sum((1 - share) * effect) for share, effect in (cells, rows, columns)]
    return float((parts[0] - parts[1] - parts[2]) / degrees)


def _design_effects(counts: Floats) -> tuple[Floats, Floats]:
    """From `[question, kind]` counts: each kind's share, and the inflation of its variance by the
    clustering in questions."""
    import numpy as np

    n = counts.sum()
    share = counts.sum(0) / n
    residuals = counts - counts.sum(1, keepdims=True) * share
    clustered = (residuals**2).sum(0) / n**2 * len(counts) / max(1, len(counts) - 1)
    alone = share * (1 - share) / n
    with np.errstate(invalid="ignore", divide="ignore"):
        return share, np.where(alone > 0, clustered / alone, 0.0)


def agreement(first: Sequence[str], second: Sequence[str]) -> tuple[float, float | None]:
    """The share of equal labels, and Cohen's kappa, which corrects it for chance (None if both
    labellers always give the same single label)."""
    n = len(first)
    same = sum(a == b for a, b in zip(first, second, strict=True)) / n
    chance = sum(first.count(label) * second.count(label) for label in set(first)) / n**2
    return same, (same - chance) / (1 - chance) if chance < 1 else None
