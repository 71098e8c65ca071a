"""Forcing speakers in a running answer: nothing but who speaks differs between two arms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from taketurns import Candidate, EngineError, ModelSpec, Policy, Query, ScriptedEngine, Team
from taketurns.evaluation.interventions.effects import differences, effects
from taketurns.evaluation.interventions.forcing import Forcer
from taketurns.switchers.base import Switcher
from taketurns.switchers.simple import FixedSwitcher, RandomSwitcher
from taketurns.tasks.base import Split
from taketurns.training.labels.decision_points import DecisionPoint
from taketurns.training.labels.rollouts import gather_all
from taketurns.types import Score

POLICY = Policy(patch_size=2, max_tokens=20, seed=3)


@dataclass(frozen=True)
class Written:
    """Right where `says` says so."""

    says: Callable[[str], float | None]
    name: str = "written"
    category: str = "test"
    seen: dict[str, list[str]] = field(default_factory=dict)

    def queries(self, split: Split) -> tuple[Query, ...]:
        return tuple(Query(f"{split}/{i}", text=f"{split} {i}?") for i in range(200))

    def score(self, query: Query, answer: str) -> Score:
        self.seen.setdefault(query.id, []).append(answer)
        return Score(self.says(answer))


def scripted(
    switcher: Switcher | None = None, policy: Policy = POLICY, **replies: Any
) -> tuple[Team, ScriptedEngine]:
    """Three candidates that write their letter, or what they are told."""
    scripts = {n: lambda p, s, n=n: n * s.max_tokens for n in "abc"} | replies
    engine = ScriptedEngine(scripts)
    candidates = [Candidate(name, ModelSpec(name)) for name in "abc"]
    return Team(candidates, engine, switcher or RandomSwitcher(), policy), engine


async def force(team: Team, task: Written, count: int) -> list[dict[str, Any]]:
    forcer = Forcer(team)
    asked = [DecisionPoint(task, query, 0) for query in task.queries("test")[:count]]
    return await gather_all(forcer.trial(occasion) for occasion in asked)


async def test_the_forced_speak_at_the_same_boundary_and_the_switcher_goes_on() -> None:
    task = Written(lambda answer: 0.0)
    team, engine = scripted(FixedSwitcher([2]))
    for record in await force(team, task, 30):
        answers = task.seen[record["query"]]
        before = 2 * record["position"]
        assert 1 <= record["position"] <= 8
        for pair in record["pairs"]:
            assert pair[0]["speakers"] != pair[1]["speakers"]
            for arm in pair:
                answer = answers.pop(0)
                forced = "".join("abc"[who] * 2 for who in arm["speakers"])[: 20 - before]
                assert answer == "c" * before + forced + "c" * (20 - before - len(forced))
                assert arm["taken"] == min(len(arm["speakers"]), (20 - before) // 2)
        assert [len(pair[0]["speakers"]) for pair in record["pairs"]] == [2, 3]
        assert record["written"] == [2] * 10
    assert engine.open_sessions == 0


async def test_a_sequence_that_decides_the_answer_is_found_and_no_other() -> None:
    """An answer is right exactly where a hands over to b. Sequences that hold this hand-over are
    found to help, those that neither hold it nor can take part in it are not."""
    task = Written(lambda answer: float("aabb" in answer))
    team, _ = scripted(FixedSwitcher([2]))
    records = await force(team, task, 200)
    two = {one.speakers: one for one in effects(differences(records), 2)}
    assert two[0, 1].mean.low > 0.5
    assert all(one.mean.high < 0.2 for s, one in two.items() if s != (0, 1))
    three = {one.speakers: one for one in effects(differences(records), 3)}
    helped = {s for s, one in three.items() if one.p < 0.05 and one.mean.value > 0}
    assert helped == {s for s in three if (0, 1) in (s[:2], s[1:])}


async def test_an_answer_that_ends_early_is_not_spoken_in_full() -> None:
    task = Written(lambda answer: 1.0)
    team, _ = scripted(FixedSwitcher([0]), b=lambda prompt, sampling: "b")
    for record in await force(team, task, 40):
        for pair in record["pairs"]:
            for arm in pair:
                if 1 in arm["speakers"][:-1]:
                    assert arm["taken"] <= arm["speakers"].index(1) + 1


async def test_equal_trials_are_equal_whatever_runs_beside_them() -> None:
    task = Written(lambda answer: answer.count("a") / 20)
    team, _ = scripted()
    together_ = await force(team, task, 12)
    forcer = Forcer(scripted()[0])
    alone = [await forcer.trial(DecisionPoint(task, q, 0)) for q in task.queries("test")[:12]]
    assert alone == together_
    again = await forcer.trial(DecisionPoint(task, task.queries("test")[0], 1))
    assert again["pairs"] != alone[0]["pairs"]


async def test_an_answer_without_a_score_is_a_failure() -> None:
    team, _ = scripted()
    with pytest.raises(EngineError, match="has no score"):
        await force(team, Written(lambda answer: None), 1)
