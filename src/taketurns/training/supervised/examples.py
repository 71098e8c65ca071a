"""From labels to examples: informative labels are kept; training and validation share no query."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from statistics import fmean
from typing import Any

from taketurns.errors import DataError
from taketurns.runs.records import encode_record, query_to_json
from taketurns.training.labels.labels import Label
from taketurns.training.supervised.settings import Selection
from taketurns.utils.files import write_bytes
from taketurns.utils.seeds import derive


@dataclass(frozen=True, slots=True)
class Example:
    """A label and its target distribution over candidates."""

    label: Label
    target: tuple[float, ...]

    @property
    def utilities(self) -> tuple[float, ...]:
        """One per candidate; for a candidate without one, the lowest of the others."""
        known = [utility for utility in self.label.utilities if utility is not None]
        return tuple(min(known) if u is None else u for u in self.label.utilities)


@dataclass(frozen=True, slots=True)
class Examples:
    """Training examples, and validation examples that choose the epoch; no query is in both.
    Validation keeps the prefixes without signal, whose utility does not depend on the choice."""

    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    report: Mapping[str, Any]


def select(
    labels: Iterable[Label], names: Sequence[str], selection: Selection, seed: int
) -> Examples:
    """The examples of a run. Raises DataError if no label, or labels of only one query, show which
    candidate should write next."""
    read = list(labels)
    chosen = _of_tasks(read, selection.tasks)
    signal = [label for label in chosen if label.margin >= selection.min_margin]
    if not signal:
        raise DataError(
            f"none of the {len(chosen)} labels shows which candidate should write next: in each of "
            f"them the candidates' utilities differ by less than {selection.min_margin:g}; lower "
            "--min-margin, or make labels of other questions"
        )
    # With several best candidates a hard label would be arbitrary.
    learned = [x for x in signal if selection.targets != "hard" or len(x.best) == 1]
    held_out = _held_out(chosen, {x.query.id for x in learned}, selection.validation, seed)
    train = [label for label in learned if label.query.id not in held_out]
    validation = [label for label in chosen if label.query.id in held_out]

    def example(label: Label) -> Example:
        return Example(label, label.targets(selection.targets, selection.temperature))

    examples = tuple(map(example, train))
    return Examples(
        train=examples,
        validation=tuple(map(example, validation)),
        report={
            "labels": len(read),
            "of_other_tasks": len(read) - len(chosen),
            "without_signal": len(chosen) - len(signal),
            "ties_dropped": len(signal) - len(learned),
            "queries": len({label.query.id for label in chosen}),
            "left_out_without_signal": _left(chosen, held_out) - _left(signal, held_out),
            "left_out_ties": _left(signal, held_out) - len(train),
            "train_rows": len(train),
            "validation_rows": len(validation),
            "tasks": sorted({label.task for label in chosen}),
            "balance": {
                name: round(fmean(example.target[index] for example in examples), 4)
                for index, name in enumerate(names)
            },
        },
    )


def write_examples(examples: Examples, path: Path) -> None:
    """Write one line per example: its id, task, part and target. Raises OSError."""
    parts = (("train", examples.train), ("validation", examples.validation))
    records = (
        {
            "id": row.label.id,
            "task": row.label.task,
            "part": part,
            "target": list(row.target),
        }
        for part, rows in parts
        for row in rows
    )
    write_bytes(path, map(encode_record, records))


def summary(report: Mapping[str, Any], min_margin: float) -> str:
    """The report as a line of text, in which the counts add up to the number of labels."""
    balance = ", ".join(f"{name} {share:.0%}" for name, share in report["balance"].items())
    left_out = {
        "because they are of other tasks": report["of_other_tasks"],
        "because their best and worst candidates differ by less than "
        f"{min_margin:g} (--min-margin)": report["left_out_without_signal"],
        "because several candidates are best (--targets hard needs one)": report["left_out_ties"],
    }
    parts = [
        f"{report['train_rows']} for training",
        f"{report['validation_rows']} for choosing the epoch",
        *(f"{count} left out {why}" for why, count in left_out.items() if count),
    ]
    return (
        f"{report['labels']} labels ({report['queries']} queries of the selected tasks): "
        f"{'; '.join(parts)}. Best candidate in the training labels: {balance}"
    )


def _left(labels: Sequence[Label], held_out: Collection[str]) -> int:
    """The number of labels of training queries."""
    return sum(label.query.id not in held_out for label in labels)


def digest(examples: Examples) -> str:
    """A hash of all examples: what is read, the targets, and the part of each."""
    hashed = sha256(str(len(examples.train)).encode())
    for example in (*examples.train, *examples.validation):
        label = example.label
        patches = [[p.token_ids, p.text] for p in label.patches]
        compared = {"patches": patches} if patches else {}  # others keep the hash they had
        hashed.update(
            encode_record(
                {
                    "id": label.id,
                    "query": query_to_json(label.query),
                    "prefix": [[p.speaker, p.token_ids, p.text] for p in label.prefix],
                    **compared,
                    "utilities": label.utilities,
                    "target": example.target,
                }
            )
        )
    return hashed.hexdigest()


def _of_tasks(labels: Sequence[Label], tasks: Sequence[str]) -> list[Label]:
    there = sorted({label.task for label in labels})
    for task in tasks:
        if task not in there:
            raise DataError(
                f"no label belongs to task {task!r}; the labels' tasks are {', '.join(there)}"
            )
    return [label for label in labels if not tasks or label.task in tasks]


def _held_out(
    labels: Sequence[Label], informative: set[str], share: float, seed: int
) -> frozenset[str]:
    """The queries kept for validation: the same share of the informative and of the other
    queries."""
    if len(informative) < 2:
        raise DataError(
            "at least two queries must have labels that show which candidate should write next, "
            f"one for training and one for choosing the epoch; here {len(informative)} has: make "
            "more labels with taketurns rollout"
        )

    def draw(ids: set[str], least: int) -> list[str]:
        ranked = sorted(ids, key=lambda id_: derive(seed, "validation", id_))
        return ranked[: max(least, round(share * len(ranked)))]

    silent = {label.query.id for label in labels} - informative
    return frozenset(draw(informative, 1) + draw(silent, 0))
