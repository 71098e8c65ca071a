"""An invented world: people, towns and crafts, and the facts about them.

Equal seeds give equal worlds. Entities are split into three groups: instruction tuning asks about
group A; group B is for choosing settings and for labels; group C is for the final test. Pretraining
text states the facts of all groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import ClassVar, Literal

from taketurns.pocket import names
from taketurns.utils.seeds import derive

Group = Literal["A", "B", "C"]
GROUPS: tuple[Group, ...] = ("A", "B", "C")
SHARES = (0.3, 0.35, 0.35)
PEOPLE, TOWNS, CRAFTS = 200, 60, 100


@dataclass(frozen=True, slots=True)
class Person:
    """Born in 10..69; `sheep` is 10..99."""

    name: str
    group: Group
    born: int
    sheep: int
    home: Town
    job: str


@dataclass(frozen=True, slots=True)
class Town:
    """Founded in 30..79."""

    name: str
    group: Group
    founded: int
    river: str


@dataclass(frozen=True, slots=True)
class Craft:
    """A thing that people work on, and the two tools for it."""

    name: str
    group: Group
    tools: tuple[str, str]


@dataclass(frozen=True, slots=True)
class Fact:
    """One attribute of one entity: `kind` names the attribute, `value` is its text."""

    kind: str
    subject: str
    value: str
    group: Group


@dataclass(frozen=True)
class World:
    """All entities of one seed; `facts_of` gives their facts."""

    stored_name: ClassVar[str] = "World"
    seed: int = 0

    @cached_property
    def towns(self) -> tuple[Town, ...]:
        rng = self._rng("towns")
        every = [*names.PLACES, *(f"{a} {b}" for a in names.PREFIXES for b in names.PLACES)]
        chosen = rng.sample(every[: len(names.PLACES)], TOWNS // 2)
        chosen += rng.sample(every[len(names.PLACES) :], TOWNS - len(chosen))
        return tuple(
            Town(name, group, rng.randint(30, 79), rng.choice(names.RIVERS))
            for name, group in _grouped(chosen, rng)
        )

    @cached_property
    def people(self) -> tuple[Person, ...]:
        rng = self._rng("people")
        homes = {group: [t for t in self.towns if t.group == group] for group in GROUPS}
        return tuple(
            Person(
                name=name,
                group=group,
                born=rng.randint(10, 69),
                sheep=rng.randint(10, 99),
                home=rng.choice(homes[group]),
                job=rng.choice(names.JOBS),
            )
            for name, group in _grouped(self._full_names[:PEOPLE], rng)
        )

    @cached_property
    def strangers(self) -> tuple[tuple[str, Group], ...]:
        """Names like those of people, but of no person of the world, by group."""
        return _grouped(self._full_names[PEOPLE : 4 * PEOPLE], self._rng("strangers"))

    @cached_property
    def characters(self) -> tuple[tuple[str, Group], ...]:
        """Names for people in stories, who have no facts outside the story, by group."""
        return _grouped(self._full_names[4 * PEOPLE : 8 * PEOPLE], self._rng("characters"))

    @cached_property
    def crafts(self) -> tuple[Craft, ...]:
        rng = self._rng("crafts")
        every = [f"{material} {thing}" for material in names.MATERIALS for thing in names.THINGS]
        chosen = rng.sample(every, CRAFTS)
        made = []
        for name, group in _grouped(chosen, rng):
            first, second = rng.sample(names.TOOLS, 2)
            made.append(Craft(name, group, (first, second)))
        return tuple(made)

    @cached_property
    def _full_names(self) -> tuple[str, ...]:
        """All different full names; three in ten have three words."""
        rng = self._rng("names")
        pairs = [(first, family) for first in names.GIVEN for family in names.FAMILY]
        rng.shuffle(pairs)
        return tuple(
            f"{first} {rng.choice(names.MIDDLE)} {family}"
            if rng.random() < 0.3
            else f"{first} {family}"
            for first, family in pairs
        )

    def _rng(self, part: str) -> Random:
        return Random(derive(self.seed, "pocket", part))


def _grouped(items: Sequence[str], rng: Random) -> tuple[tuple[str, Group], ...]:
    order = list(items)
    rng.shuffle(order)
    first = round(SHARES[0] * len(order))
    second = first + round(SHARES[1] * len(order))
    return tuple(
        (name, "A" if i < first else "B" if i < second else "C") for i, name in enumerate(order)
    )


def facts_of(entity: Person | Town) -> tuple[Fact, ...]:
    """All facts about a person or a town."""
    if isinstance(entity, Person):
        values = {
            "born": str(entity.born),
            "sheep": str(entity.sheep),
            "home": entity.home.name,
            "job": entity.job,
        }
    else:
        values = {"founded": str(entity.founded), "river": entity.river}
    return tuple(Fact(kind, entity.name, value, entity.group) for kind, value in values.items())


STATEMENTS: dict[str, tuple[str, ...]] = {
    "born": (
        "{n} was born in {v}.",
        "the year of birth of {n} is {v}.",
        "in the year {v}, {n} was born.",
        "{n}, born in the year {v}, is well known.",
    ),
    "sheep": (
        "{n} has {v} sheep.",
        "the farm of {n} has {v} sheep.",
        "there are {v} sheep on the farm of {n}.",
    ),
    "home": ("{n} lives in {v}.", "the home of {n} is {v}.", "{n} has a house in {v}."),
    "job": ("{n} works as a {v}.", "the job of {n} is {v}.", "{n} is a {v}."),
    "founded": (
        "{n} was founded in {v}.",
        "the town of {n} was founded in the year {v}.",
        "in the year {v}, {n} was founded.",
    ),
    "river": ("{n} lies on the river {v}.", "the river of {n} is {v}."),
}

QUESTIONS: dict[str, tuple[str, ...]] = {
    "born": ("when was {n} born?", "in which year was {n} born?"),
    "sheep": ("how many sheep does {n} have?", "how many sheep are on the farm of {n}?"),
    "home": ("where does {n} live?", "what is the home of {n}?"),
    "job": ("what is the job of {n}?", "what does {n} work as?"),
    "founded": ("when was {n} founded?", "in which year was {n} founded?"),
    "river": ("on which river does {n} lie?", "what is the river of {n}?"),
}


def state(fact: Fact, rng: Random | None = None) -> str:
    """The fact as a sentence: the first form, or, with `rng`, a random one."""
    forms = STATEMENTS[fact.kind]
    form = rng.choice(forms) if rng is not None else forms[0]
    return form.format(n=fact.subject, v=fact.value)


def ask(fact: Fact, rng: Random) -> str:
    """A question whose answer is the fact."""
    return rng.choice(QUESTIONS[fact.kind]).format(n=fact.subject)
