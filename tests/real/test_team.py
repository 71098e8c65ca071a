"""A real team writes what a plain loop over transformers writes, text for text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from peft import PeftModel

from taketurns import Candidate, ModelSpec, Policy, Team
from taketurns.engines.local.engine import LocalEngine
from taketurns.engines.local.library_logging import asked_by_an_old_name
from taketurns.switchers.base import Switcher
from taketurns.switchers.simple import FixedSwitcher, RandomSwitcher

from .questions import QUESTIONS
from .reference import Plain, follow, report

BUDGET = 48
SWITCHERS = {"fixed": FixedSwitcher([0, 1, 2]), "random": RandomSwitcher()}
SIZES = (1, 7, 24)


def asked(size: int) -> tuple[list[str], int]:
    """The questions and how many tokens an answer may have: fewer of both where the plain loop
    reads the whole answer at every token."""
    return (list(QUESTIONS[:4]), BUDGET // 2) if size == 1 else (list(QUESTIONS[::2]), BUDGET)


@pytest.fixture(scope="module")
def pair(real_cache: Path, adapter: Path) -> Iterator[Team]:
    """SmolLM2 and an adapter on it: one tokenizer, and weights that are shared."""
    folder = str(real_cache / "smollm2")
    specs = {"base": ModelSpec(folder), "tuned": ModelSpec(folder, adapter=str(adapter))}
    candidates = [Candidate(name, spec) for name, spec in specs.items()]
    with Team(candidates, LocalEngine(specs), RandomSwitcher()) as team:
        yield team


@pytest.fixture(scope="module")
def plain_pair(real_cache: Path, adapter: Path) -> list[Plain]:
    base, tuned = (Plain.load(real_cache / "smollm2") for _ in range(2))
    with asked_by_an_old_name():
        adapted = PeftModel.from_pretrained(tuned.model, adapter).eval()
    return [base, Plain(adapted, tuned.tokenizer)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("switcher", SWITCHERS.values(), ids=SWITCHERS)
def test_three_tokenizers_take_turns_by_text(
    team: Team, plain: Mapping[str, Plain], switcher: Switcher, size: int
) -> None:
    questions, budget = asked(size)
    policy = Policy(patch_size=size, max_tokens=budget, temperature=0)
    traces = team.ruled_by(policy).switched_by(switcher).generate(questions)
    assert not any(trace.exact for trace in traces)
    members = [plain[candidate.name] for candidate in team.candidates]
    ties = [
        tie for trace in traces for tie in follow(trace, members, size, budget, one_tokenizer=False)
    ]
    report(ties, f"three tokenizers, patches of {size}, {len(traces)} answers")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("switcher", [FixedSwitcher([0, 1]), RandomSwitcher()], ids=SWITCHERS)
def test_one_tokenizer_takes_turns_by_ids(
    pair: Team, plain_pair: list[Plain], switcher: Switcher, size: int
) -> None:
    questions, budget = asked(size)
    policy = Policy(patch_size=size, max_tokens=budget, temperature=0)
    traces = pair.ruled_by(policy).switched_by(switcher).generate(questions)
    assert all(trace.exact for trace in traces)
    ties = [
        tie
        for trace in traces
        for tie in follow(trace, plain_pair, size, budget, one_tokenizer=True)
    ]
    report(ties, f"one tokenizer, patches of {size}, {len(traces)} answers")
    spoken = {patch.speaker for trace in traces for patch in trace.patches}
    assert spoken == {0, 1}


def test_the_adapter_makes_another_model_of_it(pair: Team) -> None:
    policy = Policy(max_tokens=BUDGET, temperature=0)
    base, tuned = (pair.ruled_by(policy).alone(name).generate(QUESTIONS[0]).text
                   for name in ("base", "tuned"))  # fmt: skip
    assert base != tuned
