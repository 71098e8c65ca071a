"""What is learned from labels, what is kept aside, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from taketurns.errors import DataError
from taketurns.training.labels.labels import Label
from taketurns.training.supervised.choice_metrics import (
    by_task,
    measure_choices,
    reference_utilities,
)
from taketurns.training.supervised.examples import Example, select, summary, write_examples
from taketurns.training.supervised.settings import Selection, TrainingConfig
from taketurns.types import Query

NAMES = ("a", "b", "c")


def label(
    number: int, *utilities: float | None, query: int | None = None, task: str = "t"
) -> Label:
    id_ = f"q{number if query is None else query}"
    known = tuple(0 if utility is None else 2 for utility in utilities)
    return Label(f"{id_}#{number}", Query(id_, text="?"), (), utilities, known, task)


def some(count: int = 40) -> list[Label]:
    """Four prefixes a query; a quarter says nothing."""
    utilities = [(1.0, 0.0, 0.0), (0.0, 0.5, 0.5), (0.2, 0.2, 0.9), (0.5, 0.5, 0.5)]
    return [label(i, *utilities[i % 4], query=i // 4) for i in range(count)]


@pytest.mark.parametrize("targets", ["hard", "tied", "soft"])
def test_no_query_is_on_both_sides(targets: str) -> None:
    found = select(some(), NAMES, Selection(targets=targets), seed=0)  # type: ignore[arg-type]
    sides = [{x.label.query.id for x in side} for side in (found.train, found.validation)]
    assert all(sides)
    assert not sides[0] & sides[1]
    assert all(x.label.margin >= 0.1 for x in found.train)
    assert found.report["without_signal"] == 10
    assert found.report["ties_dropped"] == (10 if targets == "hard" else 0)
    assert sum(found.report["balance"].values()) == pytest.approx(1, abs=1e-3)
    said = summary(found.report, 0.1)
    assert said.startswith(f"{len(some())} labels (10 queries of the selected tasks): ")
    assert add_up(said) == len(some())


def add_up(said: str) -> int:
    """The parts of a summary that says how many labels there are."""
    parts = said.partition(": ")[2].partition(". Best")[0].split("; ")
    return sum(int(part.split()[0]) for part in parts)


def test_what_is_left_out_is_said_with_its_reason_and_adds_up() -> None:
    labels = some() + [replace(x, id=f"{x.id}+", task="u") for x in some()[:8]]
    found = select(labels, NAMES, Selection(targets="hard", tasks=("t",)), 0)
    said = summary(found.report, 0.1)
    assert add_up(said) == 48
    assert "; 8 left out because they are of other tasks; " in said
    assert "left out because their best and worst candidates differ by less than 0.1 (--min" in said
    assert "left out because several candidates are best (--targets hard needs one)" in said
    assert "too much" not in said


def test_the_split_depends_on_the_seed_alone() -> None:
    few = select(some(40), NAMES, Selection(), 0)
    assert select(some(40), NAMES, Selection(), 0) == few
    assert select(some(40), NAMES, Selection(), 1) != few


def test_a_task_alone() -> None:
    labels = some() + [replace(x, id=f"{x.id}+", task="u") for x in some()]
    found = select(labels, NAMES, Selection(tasks=("u",)), 0)
    assert found.report["tasks"] == ["u"]
    assert found.report["of_other_tasks"] == 40
    with pytest.raises(DataError, match="no label belongs to task 'v'; the labels' tasks are t, u"):
        select(labels, NAMES, Selection(tasks=("v",)), 0)


def test_labels_without_signal_are_refused() -> None:
    silent = [label(i, 0.5, 0.5, 0.45) for i in range(20)]
    with pytest.raises(
        DataError, match="none of the 20 labels shows which candidate should write next"
    ):
        select(silent, NAMES, Selection(), 0)
    one = [label(i, 1.0, 0.0, 0.0, query=0) for i in range(5)]
    with pytest.raises(DataError, match="at least two queries"):
        select(one, NAMES, Selection(), 0)


def test_a_candidate_without_utility_is_never_the_one_to_learn() -> None:
    labels = [label(i, None, 0.5, 1.0) for i in range(10)]
    found = select(labels, NAMES, Selection("soft"), 0)
    assert found.train[0].target[0] == 0
    assert found.train[0].utilities == (0.5, 0.5, 1.0)


def test_the_examples_are_written_whole(tmp_path: Path) -> None:
    found = select(some(), NAMES, Selection(), 0)
    write_examples(found, tmp_path / "e.jsonl")
    assert len((tmp_path / "e.jsonl").read_text().splitlines()) == len(found.train) + len(
        found.validation
    )


def test_a_verdict_is_by_what_the_choice_is_worth() -> None:
    examples = [
        Example(label(0, 1.0, 0.0, 0.5), (1.0, 0.0, 0.0)),
        Example(label(1, 0.5, 0.5, 0.5, task="u"), (1 / 3, 1 / 3, 1 / 3)),
    ]
    verdict = measure_choices([(0.2, 0.1, 0.7), (0.0, 1.0, 0.0)], examples)
    assert (verdict.utility, verdict.regret, verdict.agreement) == (0.5, 0.25, 0.0)
    beside = reference_utilities(examples, NAMES)
    assert beside == {"random": 0.5, "always": {"a": 0.75, "b": 0.25, "c": 0.5}, "best": 0.75}
    assert by_task([(1, 0, 0), (1, 0, 0)], examples)["u"]["regret"] == 0
    with pytest.raises(ValueError, match="argument 2"):
        measure_choices([(1, 0, 0)], examples)


def test_of_equal_choices_the_surer_one_is_better() -> None:
    example = [Example(label(0, 1.0, 0.0, 0.0), (1.0, 0.0, 0.0))]
    sure, unsure = (
        measure_choices([(0.9, 0.05, 0.05)], example),
        measure_choices([(0.4, 0.3, 0.3)], example),
    )
    assert sure.utility == unsure.utility
    assert sure.selection_metric > unsure.selection_metric


@pytest.mark.parametrize(
    "make",
    [
        lambda: Selection(temperature=0),
        lambda: Selection(min_margin=0),
        lambda: Selection(validation=1),
        lambda: TrainingConfig(epochs=0),
        lambda: TrainingConfig(seed=-1),
    ],
)
def test_a_setting_out_of_range_is_one_sentence(make) -> None:
    from taketurns.errors import UsageError

    with pytest.raises(UsageError, match="must be") as caught:
        make()
    assert "\n" not in str(caught.value)
