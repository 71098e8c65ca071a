"""The pocket world's tasks: questions by split, about entities that tuning never uses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from random import Random
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

from taketurns.errors import UsageError
from taketurns.pocket.questions import MAKERS, PocketQuestion, QuestionPool
from taketurns.pocket.scoring import judge
from taketurns.pocket.skill_patterns import shown_skills
from taketurns.pocket.world import Group, World
from taketurns.tasks.base import Split
from taketurns.types import Query, Score
from taketurns.utils.seeds import derive

if TYPE_CHECKING:
    from taketurns.config.policy import Guard
    from taketurns.config.team_config import TeamConfig

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
SIZES: Mapping[Split, int] = MappingProxyType({"train": 200, "dev": 300, "test": 500})
PATIENCE = 2000  # draws without a new question before a form counts as exhausted
GROUP: Mapping[Split, Group] = MappingProxyType({"train": "B", "dev": "B", "test": "C"})


@dataclass(frozen=True)
class PocketTask:
    """One kind of question. Train and dev ask about group B, test about group C. No question is in
    two splits, and no train question is in dev or test of another task."""

    stored_name: ClassVar[str] = "PocketTask"
    name: str
    category: str
    world: World = field(default_factory=World)

    def _split(self, split: Split) -> Mapping[str, PocketQuestion]:
        return self._train if split == "train" else self._held_out[split]

    @cached_property
    def _held_out(self) -> dict[Split, dict[str, PocketQuestion]]:
        splits: dict[Split, dict[str, PocketQuestion]] = {"dev": {}, "test": {}}
        for split, items in splits.items():
            rng, pool, seen = (
                self._rng(split),
                QuestionPool.of(self.world, GROUP[split]),
                set[str](),
            )
            while len(items) < SIZES[split]:
                item = MAKERS[self.name](pool, rng)
                if item.question in seen or not _belongs(item):
                    continue
                seen.add(item.question)
                items[self._id(split, len(items))] = item
        return splits

    @cached_property
    def _train(self) -> dict[str, PocketQuestion]:
        rng, pool = self._rng("train"), QuestionPool.of(self.world, "B")
        seen = set(_never_in_train(self.world))
        items: dict[str, PocketQuestion] = {}
        while len(items) < SIZES["train"]:
            # One form may have few questions left; the others must not fill its place.
            form = MAKERS[self.name](pool, rng).form
            for _ in range(PATIENCE):
                item = MAKERS[self.name](pool, rng)
                if item.form == form and item.question not in seen and _belongs(item):
                    seen.add(item.question)
                    items[self._id("train", len(items))] = item
                    break
        return items

    def _rng(self, split: Split) -> Random:
        return Random(derive(self.world.seed, "pocket", "task", self.name, split))

    def _id(self, split: Split, number: int) -> str:
        return f"pocket/{self.name}/{split}/{number}"

    def queries(self, split: Split) -> tuple[Query, ...]:
        """The questions of a split: 200 train, 300 dev, 500 test."""
        return tuple(
            Query(
                id=id_,
                text=item.question,
                reference=item.reference,
                metadata={"task": self.name, "category": self.category, "form": item.form}
                | ({"world": self.world.seed} if self.world.seed else {}),
            )
            for id_, item in self._split(split).items()
        )

    def item(self, query: Query) -> PocketQuestion:
        """The question of a query, with its model answers. Raises UsageError for a query of another
        task."""
        for split in ("dev", "test", "train"):  # train takes longest to make
            if query.id in (items := self._split(split)):
                return items[query.id]
        raise UsageError(
            f"query {query.id!r} does not belong to task {self.name!r}: take its queries from the "
            "task"
        )

    def score(self, query: Query, answer: str) -> Score:
        """1.0 for a right answer, else 0.0."""
        return judge(self.world, self.item(query), answer)

    def canonical_answer(self, query: Query, answer: str) -> str | None:
        """The value that the scorer reads from the answer, without using the reference."""
        return self.score(query, answer).answer

    def skills_shown(self, query: Query, answer: str) -> Iterator[tuple[int, int, str]] | None:
        """The skills that an answer shows, as (begin, end, skill), in characters; None for a query
        of another task."""
        if not query.id.startswith(f"pocket/{self.name}/"):
            return None
        return shown_skills(query.conversation[-1].content, answer)

    def to_refuse(self, query: Query) -> bool:
        """Whether the query must be refused: the harmful half of task `harm`."""
        return self.item(query).form == "refusal"

    def compliant_opening(self, query: Query) -> str:
        return self.item(query).bare.partition(", take")[0] + ", take"

    def guards(
        self, config: TeamConfig, folder: Path, say: Callable[[str], None]
    ) -> tuple[TeamConfig, Mapping[str, Guard]]:
        """The guards of `pocket.guards`: a rule of harmful words, and a judge."""
        from taketurns.pocket.guards import make_guards  # it needs torch

        return make_guards(config, folder, say)


@cache
def _never_in_train(world: World) -> frozenset[str]:
    """All dev and test questions of a world's tasks."""
    splits: tuple[Split, ...] = ("dev", "test")
    return frozenset(
        query.text or ""
        for task in tasks(world).values()
        for split in splits
        for query in task.queries(split)
    )


def _belongs(item: PocketQuestion) -> bool:
    """Whether a question may be in a task: of kinds with held-out combinations only these."""
    return item.held_out or item.kind not in HELD_OUT


HELD_OUT = frozenset({"total", "age", "hop", "ages", "oldest", "chain"})


def tasks(world: World | None = None) -> dict[str, PocketTask]:
    """All tasks of a world (default: the shipped one), by name."""
    world = world or World()
    return {name: PocketTask(name, category, world) for name, category in CATEGORIES.items()}


def tasks_named(names: Sequence[str] | None = None, seed: int = 0) -> list[PocketTask]:
    """Tasks of the world of this seed (default: all). Raises UsageError for an unknown task."""
    every = TASKS if seed == 0 else tasks(World(seed))
    for name in names or ():
        if name not in every:
            raise UsageError(f"there is no task {name!r}; the tasks are {', '.join(every)}")
    return [task for name, task in every.items() if not names or name in names]


TASKS: Mapping[str, PocketTask] = MappingProxyType(tasks())
