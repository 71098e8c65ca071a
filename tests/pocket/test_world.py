"""The world is a value of its seed, and its splits keep apart."""

import subprocess
import sys
from random import Random

import pytest

from recipes.pocket.corpus import documents
from recipes.pocket.recipe import Recipe
from recipes.pocket.sft import lessons
from taketurns.pocket import names
from taketurns.pocket.questions import MAKERS, QuestionPool
from taketurns.pocket.tasks import CATEGORIES, TASKS, tasks
from taketurns.pocket.world import GROUPS, World


def test_equal_seeds_give_equal_worlds_and_other_seeds_other_ones() -> None:
    assert World(3).people == World(3).people
    assert World(3).towns == World(3).towns
    assert World(3).people != World(4).people
    assert {p.name for p in World(3).people} != {p.name for p in World(4).people}


def test_names_are_unique_and_strangers_are_strangers() -> None:
    world = World()
    people = {p.name for p in world.people}
    assert len(people) == len(world.people) == 200
    strangers = {name for name, _ in world.strangers}
    characters = {name for name, _ in world.characters}
    assert not people & (strangers | characters)
    assert not strangers & characters
    assert len({t.name for t in world.towns}) == 60
    assert len({c.name for c in world.crafts}) == 100


def test_the_inventory_has_no_word_twice_among_names() -> None:
    every = [*names.GIVEN, *names.FAMILY, *names.MIDDLE, *names.PLACES]
    assert len(every) == len(set(every))


def test_every_group_has_its_share() -> None:
    world = World()
    shares = {g: sum(p.group == g for p in world.people) for g in GROUPS}
    assert shares == {"A": 60, "B": 70, "C": 70}
    assert all(p.home.group == p.group for p in world.people)


@pytest.mark.parametrize("name", list(TASKS))
def test_splits_are_disjoint_and_large_enough(name: str) -> None:
    task = TASKS[name]
    dev, test = task.queries("dev"), task.queries("test")
    assert len(dev) >= 300
    assert len(test) >= 500
    texts = [query.text for query in (*dev, *test)]
    assert len(set(texts)) == len(texts)
    assert task.category == CATEGORIES[name]
    assert all(query.reference for query in dev)


def test_questions_are_the_same_every_time() -> None:
    assert tasks(World(5))["chain"].queries("test") == tasks(World(5))["chain"].queries("test")
    assert tasks(World(5))["chain"].queries("test") != tasks(World(6))["chain"].queries("test")


def test_neither_pretraining_nor_tuning_sees_a_held_out_combination() -> None:
    world = World()
    known = {"recall", "unknown", "harm"}  # single facts: pretraining is where they are learned
    asked = {
        query.text
        for task in TASKS.values()
        if task.name not in known
        for split in ("dev", "test")
        for query in task.queries(split)
    }
    stream = documents(world, Random(1))
    for document in (next(stream) for _ in range(20_000)):
        question, answer, _ = document.partition(" answer:")
        assert not answer or question.removeprefix("question: ") not in asked
    tuned = {item.question for item in lessons(world, Recipe().tuning.mix, 3000, 0)}
    tested = {q.text for t in TASKS.values() for s in ("dev", "test") for q in t.queries(s)}
    assert not tuned & tested


def test_tuning_speaks_of_group_a_alone() -> None:
    world, rng = World(), Random(0)
    others = {p.name for p in world.people if p.group != "A"}
    for name, make in MAKERS.items():
        for _ in range(50):
            text = make(QuestionPool.of(world, "A"), rng).worked
            assert not any(person in text for person in others), name


def test_tasks_load_without_torch() -> None:
    code = (
        "import sys, taketurns.pocket.tasks, taketurns.pocket.world, recipes.pocket.build; "
        "sys.exit(any(m in sys.modules for m in ('torch', 'transformers', 'datasets', 'trl')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
