"""Tiny teams and tasks for methods to work on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from taketurns.config.policy import Policy
from taketurns.config.team_config import TeamConfig
from taketurns.engines.scripted import ScriptedEngine
from taketurns.evaluation.methods.base import Ask, DevAnswer, MethodContext
from taketurns.evaluation.methods.metering import counting
from taketurns.tasks.base import Split
from taketurns.types import Candidate, ModelSpec, Query, Score

NAMES = ("base", "sft", "aligned")


@dataclass(frozen=True)
class Word:
    """Right is an answer whose last word is the reference."""

    name: str
    references: Mapping[str, str]
    category: str = "knowledge"

    def queries(self, split: Split) -> tuple[Query, ...]:
        return tuple(
            Query(f"{self.name}/{split}/{text}", text=text, reference=reference)
            for text, reference in self.references.items()
        )

    def score(self, query: Query, answer: str) -> Score:
        last = self.canonical_answer(query, answer)
        return Score(float(last == query.reference), last)

    def canonical_answer(self, query: Query, answer: str) -> str | None:
        words = answer.split()
        return words[-1].strip(".") if words else None


@dataclass
class Asking:
    """Dev answers asked for then and there; `names` lists who was asked."""

    tasks: Mapping[str, Any]
    names: list[str] = field(default_factory=list)

    async def answers(self, name: str, ask: Ask) -> Mapping[str, Sequence[DevAnswer]]:
        self.names.append(name)
        found: dict[str, list[DevAnswer]] = {}
        for task in self.tasks.values():
            found[task.name] = []
            for query in task.queries("dev"):
                with counting() as usage:
                    trace = await ask(task, query, 0)
                score = task.score(query, trace.text).value or 0.0
                found[task.name].append(DevAnswer(query, trace.text, score, usage.tokens))
        return found


@pytest.fixture
def scripted(tmp_path: Path) -> Callable[..., tuple[MethodContext, ScriptedEngine]]:
    """A stage on scripted candidates, with the tasks given."""

    def make(tasks: Sequence[Any], **engine: Any) -> tuple[MethodContext, ScriptedEngine]:
        scripts = engine.pop("scripts")
        made = ScriptedEngine(scripts, **engine)
        specs = tuple(Candidate(name, ModelSpec(name, prompt="{text}")) for name in NAMES)
        config = TeamConfig(specs, policy=Policy(patch_size=4, max_tokens=40))
        return MethodContext(
            config, {t.name: t for t in tasks}, tmp_path, lambda models: made
        ), made

    return make


@pytest.fixture
def real(tmp_path: Path) -> Callable[..., MethodContext]:
    """A stage on real models: `{name: folder}`, or a specification in place of a folder."""
    from taketurns.engines.local.engine import LocalEngine

    def make(models: Mapping[str, Any], tasks: Sequence[Any], **policy: Any) -> MethodContext:
        specs = tuple(
            Candidate(n, f if isinstance(f, ModelSpec) else ModelSpec(str(f), prompt="{text}"))
            for n, f in models.items()
        )
        config = TeamConfig(specs, policy=Policy(**{"patch_size": 4, "max_tokens": 12} | policy))
        return MethodContext(
            config,
            {t.name: t for t in tasks},
            tmp_path,
            lambda models: LocalEngine({model.name: model.spec for model in models}),
        )

    return make


@pytest.fixture
def word() -> type[Word]:
    return Word


@pytest.fixture
def asking() -> type[Asking]:
    return Asking
