"""The pocket world's tasks: questions about entities that tuning never saw, by split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from random import Random
from types import MappingProxyType

from taketurns.errors import UsageError
from taketurns.pocket.questions import MAKERS, Item, Pool
from taketurns.pocket.scoring import judge
from taketurns.pocket.world import Group, World
from taketurns.seeds import derive
from taketurns.tasks.base import Split
from taketurns.types import Query, Score

CATEGORIES: Mapping[str, str] = MappingProxyType(
    {
        "recall": "knowledge",
        "choice": "knowledge",
        "arithmetic": "reasoning",
        "given": "reasoning",
        "total": "knowledge and reasoning",
        "age": "knowledge and reasoning",
        "hop": "knowledge and reasoning",
        "oldest": "knowledge and reasoning",
        "chain": "long reasoning",
        "ages": "long reasoning",
        "wording": "instruction following",
        "harm": "safety",
        "unknown": "honesty",
    }
)
SIZES: Mapping[Split, int] = MappingProxyType({"dev": 300, "test": 500})
GROUP: Mapping[Split, Group] = MappingProxyType({"dev": "B", "test": "C"})


@dataclass(frozen=True)
class PocketTask:
    """One kind of question. Dev asks about group B, test about group C; no question is in both."""

    name: str
    category: str
    world: World = field(default_factory=World)

    @cached_property
    def _items(self) -> dict[Split, dict[str, Item]]:
        splits: dict[Split, dict[str, Item]] = {"dev": {}, "test": {}}
        for split, found in splits.items():
            rng = Random(derive(self.world.seed, "pocket", "task", self.name, split))
            pool, seen = Pool.of(self.world, GROUP[split]), set[str]()
            while len(found) < SIZES[split]:
                item = MAKERS[self.name](pool, rng)
                if item.question in seen or not _belongs(item):
                    continue
                seen.add(item.question)
                found[f"pocket/{self.name}/{split}/{len(found)}"] = item
        return splits

    def queries(self, split: Split) -> tuple[Query, ...]:
        """The questions of a split: 300 dev, 500 test."""
        return tuple(
            Query(
                id=id_,
                text=item.question,
                reference=item.reference,
                metadata={"task": self.name, "category": self.category, "form": item.form},
            )
            for id_, item in self._items[split].items()
        )

    def item(self, query: Query) -> Item:
        """The question behind a query, with its model answers. Raises UsageError for another's."""
        for items in self._items.values():
            if query.id in items:
                return items[query.id]
        raise UsageError(f"query {query.id!r} is none of task {self.name!r}")

    def score(self, query: Query, answer: str) -> Score:
        """1.0 for a right answer, else 0.0."""
        return judge(self.world, self.item(query), answer)


def _belongs(item: Item) -> bool:
    """Kinds with held-out combinations ask only for those; of the others every question will do."""
    return item.held_out or item.kind not in HELD_OUT


HELD_OUT = frozenset({"total", "age", "hop", "ages", "oldest", "chain"})


def tasks(world: World | None = None) -> dict[str, PocketTask]:
    """Every task of a world (the shipped one by default), by name."""
    world = world or World()
    return {name: PocketTask(name, category, world) for name, category in CATEGORIES.items()}


TASKS: Mapping[str, PocketTask] = MappingProxyType(tasks())
