"""The protocols of parts of one's own are public, and docs/extending.md describes each."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import taketurns
from taketurns.switchers.base import GenerationView, Switcher

PAGE = (Path(__file__).parents[1] / "docs" / "extending.md").read_text(encoding="utf-8")
PROTOCOLS = {
    "Switcher": "taketurns.switchers.base",
    "GenerationView": "taketurns.switchers.base",
    "Engine": "taketurns.engines.base",
    "Session": "taketurns.engines.base",
    "Scorer": "taketurns.tasks.scorers.base",
    "Method": "taketurns.evaluation.methods.base",
    "Dev": "taketurns.evaluation.methods.base",
    "Task": "taketurns.tasks.base",
    "StoppingCriterion": "taketurns.types",
    "NextTokenCriterion": "taketurns.types",
    "PatchEndingDecide": "taketurns.switchers.base",
    "ComparingDecide": "taketurns.switchers.base",
    "CorrectingDecide": "taketurns.switchers.base",
    "TokenConstraint": "taketurns.types",
}
BESIDE = {
    "AnswerFormat", "Candidate", "CapacityError", "Completion", "ConfigError", "DataError",
    "Decide", "DevAnswer", "EngineError", "FormatError", "LengthError", "MethodContext",
    "ModelInfo", "NextToken", "NotANumberError", "Patch", "Policy", "PromptError", "Query",
    "Sampling", "SamplingOptions", "Score", "ScriptedEngine", "Split", "Token", "Trace",
    "UnavailableError", "UsageError",
}  # fmt: skip
SECTIONS = {"GenerationView": "Switcher", "Session": "Engine", "StoppingCriterion": "Engine"}
SECTIONS |= {"TokenConstraint": "Engine", "Dev": "Method", "NextTokenCriterion": "Engine"}
SECTIONS |= {"PatchEndingDecide": "Switcher", "ComparingDecide": "Switcher"}
SECTIONS |= {"CorrectingDecide": "Switcher"}


def section(title: str) -> str:
    return PAGE[PAGE.index(f"\n## {title}\n") :].split("\n## ")[1]


def members(protocol: Any) -> set[str]:
    """What a class must have to be one."""
    own = {*vars(protocol), *getattr(protocol, "__annotations__", {})}
    return {name for name in own if not name.startswith("_")}


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_protocol_is_public_and_described(name: str) -> None:
    protocol = getattr(taketurns, name)
    assert protocol is getattr(import_module(PROTOCOLS[name]), name)
    assert getattr(protocol, "_is_protocol", False)
    assert name in taketurns.__all__
    text = section(SECTIONS.get(name, name))
    assert f"`{name}`" in text
    described = members(protocol) - {"finish", "entropy", "layers", "written"}
    assert described
    for member in described:
        assert re.search(rf"[`.\s]{member}\b", text), f"{name}.{member}"


@pytest.mark.parametrize("name", sorted(BESIDE))
def test_what_a_protocol_takes_and_gives_is_public_and_named(name: str) -> None:
    assert name in taketurns.__all__
    assert getattr(taketurns, name) is not None
    assert f"`{name}`" in PAGE


def test_every_public_name_that_the_page_has_is_one() -> None:
    """A name of a class in code on the page is public, or the page says where it is."""
    named = set(re.findall(r"`([A-Z][a-z][A-Za-z]*)`", PAGE))
    elsewhere = set()
    for module, names in (
        ("taketurns.engines.base", r"\w+Session|BoundedEngine|FailingEngine"),
        ("taketurns.tasks.scorers.base", r"\w+Scorer"),
        ("taketurns.tasks.base", r"\w+Task"),
    ):
        known = vars(import_module(module))
        elsewhere |= {name for name in named if re.fullmatch(names, name) and name in known}
        assert f"`{module}`" in PAGE
    assert named - elsewhere - {"None", "True", "False"} <= set(taketurns.__all__)


def test_a_class_of_ones_own_is_a_protocol_by_its_methods() -> None:
    """As a type checker sees it; the annotations are those of the public names."""

    class Evenly:
        async def prepare(self, engine: Any, candidates: Any) -> None: ...

        def begin(self, query: taketurns.Query, policy: taketurns.Policy) -> taketurns.Decide:
            async def decide(
                session: taketurns.Session, state: GenerationView
            ) -> tuple[float, ...]:
                return (1 / len(state.names),) * len(state.names)

            return decide

    switcher: Switcher = Evenly()
    assert callable(switcher.begin)
