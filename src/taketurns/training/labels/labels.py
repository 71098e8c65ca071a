"""From rollouts to labels, one per prefix.

The utility of a branch is the mean over its rollouts, and the label is the best branch. Branches
often have equal utilities (the answer will be right, or wrong, whatever follows); then all of them
are best. This module does not depend on how the rollouts were made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import exp, isfinite
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from taketurns.errors import DataError
from taketurns.runs.output import failed
from taketurns.runs.records import Record, decode_records, patch_from_json, query_from_json
from taketurns.runs.runner import describe_error
from taketurns.training.labels.decision_points import CutAt
from taketurns.training.labels.rollouts import SCHEMA
from taketurns.types import Patch, Query, Timing

TargetKind = Literal["hard", "tied", "soft"]


@dataclass(frozen=True, slots=True)
class Label:
    """A prefix of an answer to `query`, and for each candidate the mean utility of the answers in
    which it wrote the next patch; None if no rollout has a utility. `counts` are the numbers of
    rollouts with a utility.

    `reported_best` are the best candidates by racing: its branches have different numbers of
    rollouts, so their means alone do not show which of them tie. `cut_at` is where prefixes of the
    file end (`DecisionPoint.cut_at`). At comparisons `patches` are what the candidates wrote there;
    elsewhere it is empty, because a switcher decides before they are written. Raises ValueError
    without any utility, and for one that is NaN or infinite.
    """

    id: str
    query: Query
    prefix: tuple[Patch, ...]
    utilities: tuple[float | None, ...]
    counts: tuple[int, ...]
    task: str = ""
    reported_best: tuple[int, ...] | None = None
    cut_at: CutAt = "boundary"
    patches: tuple[Patch, ...] = ()

    def __post_init__(self) -> None:
        if all(utility is None for utility in self.utilities):
            raise ValueError(f"the label {self.id!r} has no utility for any candidate")
        if not all(map(isfinite, self._known)):
            raise ValueError(f"the label {self.id!r} has a utility that is NaN or infinite")

    @property
    def best(self) -> tuple[int, ...]:
        """The candidates with the highest utility; several if they tie."""
        return self._top if self.reported_best is None else self.reported_best

    @property
    def _top(self) -> tuple[int, ...]:
        top = max(self._known)
        return tuple(index for index, utility in enumerate(self.utilities) if utility == top)

    @property
    def margin(self) -> float:
        """The best utility minus the worst: the most that a wrong choice can lose."""
        return max(self._known) - min(self._known)

    @property
    def tied(self) -> bool:
        """Whether all candidates are best."""
        return len(self.best) == len(self.utilities)

    def targets(self, kind: TargetKind, temperature: float = 0.1) -> tuple[float, ...]:
        """The target distribution over candidates; it sums to 1.

        "hard" gives 1 to the first of the best candidates (the paper's argmax), "tied" is uniform
        over the best ones, "soft" is the softmax of the utilities at `temperature`, where a
        candidate without a utility gets 0. Raises ValueError for a `temperature` of 0 or less.
        """
        if kind == "hard":
            return tuple(float(i == self.best[0]) for i in range(len(self.utilities)))
        if kind == "tied":
            return tuple((i in self.best) / len(self.best) for i in range(len(self.utilities)))
        if temperature <= 0:
            raise ValueError(f"temperature must be above 0, not {temperature}")
        top = max(self._known)
        weights = [0.0 if u is None else exp((u - top) / temperature) for u in self.utilities]
        return tuple(weight / sum(weights) for weight in weights)

    @property
    def _known(self) -> list[float]:
        return [utility for utility in self.utilities if utility is not None]


def read_labels(path: Path, candidates: Sequence[str]) -> Iterator[Label]:
    """The labels of a rollouts file, in order, for candidates with these names in this order.
    Records of failures, of prefixes without a label and repeated records are left out.

    Raises DataError for a file of other candidates, for a line that is cut off or not a record, and
    for two lines with the same id and different values.
    """
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    if not lines:
        raise DataError(
            f"{path} is empty: it must have one rollout record per line, as taketurns rollout "
            "writes them"
        )
    seen: dict[str, tuple[int, tuple[Any, ...]]] = {}
    for number, record in enumerate(decode_records(lines, str(path)), start=1):
        if not has_label(record):
            continue
        try:
            label = label_from_json(record, candidates)
        except DataError as error:
            raise DataError(f"{path}:{number}: {error}") from error
        line, content = seen.setdefault(label.id, (number, _content(label)))
        if line == number:
            yield label
        elif content != _content(label):
            raise DataError(
                f"{path}:{number}: the id {label.id!r} is already in line {line}, with other "
                "values; run the taketurns rollout command that wrote the file again: it keeps the "
                "first of the two"
            )


def has_label(record: Mapping[str, Any]) -> bool:
    """Whether a record of rollouts has a label: it did not fail, and there was one to make."""
    return not (failed(record) or is_left_out(record))


def is_left_out(record: Mapping[str, Any]) -> bool:
    """Whether a record of rollouts says that there was nothing to label."""
    return "left_out" in record


def failures_of(record: Record) -> int:
    """How many rollouts of a record failed."""
    return sum(branch["failures"] for branch in record.get("branches", ()))


def _content(label: Label) -> tuple[Any, ...]:
    """The fields of a label, without the timings of its patches."""
    prefix, patches = (
        tuple(replace(patch, timing=Timing()) for patch in some)
        for some in (label.prefix, label.patches)
    )
    return (
        label.query,
        prefix,
        patches,
        label.utilities,
        label.counts,
        label.task,
        label.reported_best,
        label.cut_at,
    )


def label_from_json(record: Mapping[str, Any], candidates: Sequence[str]) -> Label:
    """The label of a rollouts record. Raises DataError for another kind of record, for a record of
    other candidates, and for an incomplete one."""
    if record.get("schema") != SCHEMA:
        raise DataError(
            f"not a {SCHEMA} record: its schema is {record.get('schema')!r}; give a file that "
            "taketurns rollout wrote"
        )
    if record.get("candidates") != list(candidates):
        made = ", ".join(map(str, record.get("candidates") or ()))
        raise DataError(
            f"these rollouts were made with the candidates {made}, but the team has "
            f"{', '.join(candidates)}: give a team with the same candidates in the same order, or "
            "make new labels with taketurns rollout"
        )
    try:
        branches = sorted(record["branches"], key=lambda branch: int(branch["speaker"]))
        if (speakers := [branch["speaker"] for branch in branches]) != [*range(len(candidates))]:
            raise DataError(
                f"the record {record.get('id')!r} has branches of the candidates {speakers}; it "
                f"needs exactly one branch for each candidate, 0 to {len(candidates) - 1}: make "
                "this record again with taketurns rollout"
            )
        utilities = [[_utility(u) for u in branch["utilities"]] for branch in branches]
        cut_at: CutAt = record.get("cuts", "boundary")
        compared = branches if cut_at == "comparison" else ()
        return Label(
            id=record["id"],
            query=query_from_json(record["query"]),
            prefix=tuple(patch_from_json(patch) for patch in record["prefix"]),
            utilities=tuple(fmean(reached) if reached else None for reached in utilities),
            counts=tuple(map(len, utilities)),
            task=record["task"],
            reported_best=None if record.get("best") is None else tuple(map(int, record["best"])),
            cut_at=cut_at,
            patches=tuple(patch_from_json(branch["patch"]) for branch in compared),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"the record {record.get('id')!r} is incomplete or damaged: {describe_error(error)}; "
            "make it again with taketurns rollout"
        ) from error


def _utility(value: Any) -> float:
    utility = float(value)
    if not isfinite(utility):
        raise ValueError(f"a utility is {utility}, not a finite number")
    return utility
