"""Parts of a pool and changed pools: who may speak, and who is who."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from taketurns import Candidate, ModelSpec, Policy, Query, ScriptedEngine, Team, UsageError
from taketurns.config.policy import Guard, PatchRule
from taketurns.config.team_config import JUDGE, SwitcherConfig, TeamConfig
from taketurns.evaluation.interventions import conditions
from taketurns.evaluation.interventions.retraining import restrict_labels
from taketurns.evaluation.interventions.shapley import Coalition, coalitions
from taketurns.switchers.lm import LMSwitcher
from taketurns.switchers.simple import FixedSwitcher, SubsetSwitcher
from taketurns.training.labels.labels import Label
from taketurns.types import Patch

CONFIG = TeamConfig(
    tuple(Candidate(name, ModelSpec(f"/models/{name}")) for name in "abc"),
    SwitcherConfig(kind="fixed", sequence=(0, 1, 2)),
    Policy(patch_size=2, max_tokens=40, opening=0, closing=2, top_p=1.0),
)


def scripted(switcher: object, policy: Policy) -> Team:
    engine = ScriptedEngine(
        {n: lambda p, s, n=n: n * s.max_tokens for n in "abc"}, scores={"s": [0.1, 0.3, 0.6]}
    )
    return Team(CONFIG.candidates, engine, switcher, policy)  # type: ignore[arg-type]


async def test_a_part_speaks_in_the_switchers_own_proportion() -> None:
    """Of .1, .3 and .6 the first two keep their one to three."""
    policy = Policy(patch_size=1, max_tokens=80, top_p=1.0)
    team = scripted(SubsetSwitcher(LMSwitcher("s"), {0, 1}), policy)
    trace = await team.agenerate(Query("q", text="?"))
    spoke = Counter(patch.speaker for patch in trace.patches)
    assert set(spoke) == {0, 1}
    assert 0.6 < spoke[1] / 80 < 0.9
    assert trace.patches[0].probabilities == pytest.approx((0.25, 0.75, 0.0))


async def test_where_all_probability_was_taken_away_the_rest_are_equal() -> None:
    team = scripted(SubsetSwitcher(FixedSwitcher([0]), {1, 2}), Policy(patch_size=2, max_tokens=8))
    trace = await team.agenerate(Query("q", text="?"))
    assert all(patch.probabilities == (0.0, 0.5, 0.5) for patch in trace.patches)


def test_where_another_decides_patches_do_not_end_as_the_switcher_says() -> None:
    """Neither a part of the switcher nor chance can be asked at every token."""
    rule = PatchRule("switcher", min=3, max=9)
    head = replace(CONFIG, switcher=SwitcherConfig(kind="head", path="/heads/one"))
    team = scripted(FixedSwitcher([0]), replace(CONFIG.policy, patch=rule))
    by_chance = conditions.by_chance(head).on(team)
    part, whole = (
        conditions.of_coalition(head, Coalition(p)).on(team) for p in ((0, 1), (0, 1, 2))
    )
    assert by_chance.policy.patch == part.policy.patch == replace(rule, until="random")
    assert whole.policy.patch == rule
    assert conditions.of_coalition(head, Coalition((0,))).on(team).policy.patch is None


async def test_only_the_part_speaks_whatever_the_rules_say() -> None:
    team = scripted(FixedSwitcher([0, 1, 2]), CONFIG.policy)
    for part in coalitions(3):
        answering = conditions.of_coalition(CONFIG, part).on(team)
        trace = await answering.agenerate(Query("q", text="?"))
        wrote = {letter for letter in "abc" if letter in trace.text}
        assert wrote == {"abc"[who] for who in part}
        if 0 in part and len(part) > 1:
            assert trace.patches[0].reason == "opening"


def test_conditions_have_files_of_their_own_and_share_what_is_the_same() -> None:
    names = [conditions.of_coalition(CONFIG, part).name for part in coalitions(3)]
    assert names == [
        "alone-0", "alone-1", "alone-2", "part-0-1", "part-0-2", "part-1-2", "whole",
    ]  # fmt: skip
    again = [conditions.of_coalition(CONFIG, part, "retrained").name for part in coalitions(3)]
    assert set(again) & set(names) == {"alone-0", "alone-1", "alone-2"}
    assert conditions.by_chance(CONFIG).decided_by.switcher == SwitcherConfig()


def test_candidates_change_places_and_the_rules_follow() -> None:
    moved = conditions.permuted(CONFIG)
    assert [c.name for c in moved.candidates] == ["c", "a", "b"]
    assert [c.spec.model for c in moved.candidates] == ["/models/c", "/models/a", "/models/b"]
    assert (moved.policy.opening, moved.policy.closing) == (1, 0)


def test_candidates_get_names_that_say_nothing() -> None:
    named = conditions.renamed(CONFIG)
    assert [c.spec for c in named.candidates] == [c.spec for c in CONFIG.candidates]
    assert len({c.name for c in named.candidates} | {"a", "b", "c"}) == 6


def test_a_candidate_is_replaced_under_its_name() -> None:
    other = conditions.replaced(CONFIG, ["b=/models/new"])
    assert other.candidates[1] == replace(CONFIG.candidates[1], spec=ModelSpec("/models/new"))
    assert other.candidates[0] == CONFIG.candidates[0]
    with pytest.raises(UsageError, match="NAME one of a, b, c"):
        conditions.replaced(CONFIG, ["d=/models/new"])
    with pytest.raises(UsageError, match="NAME=MODEL"):
        conditions.replaced(CONFIG, [str(Path("/models/new"))])


def label(number: int, speakers: tuple[int, ...], utilities: tuple[float, ...]) -> Label:
    prefix = tuple(Patch(who, (1,), "x", "length", "chosen") for who in speakers)
    return Label(f"q{number}", Query(f"q{number}", text="?"), prefix, utilities, (4,) * 3)


def test_labels_of_a_part_say_who_of_it_is_best() -> None:
    labels = [
        label(0, (), (0.9, 0.5, 0.1)),
        label(1, (0, 1), (0.9, 0.5, 0.1)),  # the part never meets this: 1 spoke last
        label(2, (1, 2), (0.1, 0.9, 0.4)),
    ]
    found = restrict_labels(labels, Coalition({0, 2}))
    assert [one.id for one in found] == ["q0", "q2"]
    assert [one.best for one in found] == [(0,), (2,)]
    assert found[1].targets("tied") == (0.0, 0.0, 1.0)
    assert found[0].margin == pytest.approx(0.8)
    assert restrict_labels(labels, Coalition({0, 1, 2})) == labels


def test_what_racing_found_is_kept_where_it_is_of_the_part() -> None:
    raced = replace(label(0, (), (0.9, 0.5, 0.1)), found=(0, 1))
    assert restrict_labels([raced], {1, 2})[0].best == (1,)
    assert restrict_labels([replace(raced, found=(0,))], {1, 2})[0].best == (1,)


RULED = replace(
    CONFIG,
    policy=Policy(patch_size=2, max_tokens=40, max_share=((0, 0.4),), guard=Guard(2, judge=JUDGE)),
    judge=Candidate(JUDGE, ModelSpec("/models/judge")),
)


def test_shares_and_the_guard_follow_candidates_who_change_places() -> None:
    moved = conditions.permuted(RULED).policy
    assert moved.max_share == ((1, 0.4),)
    assert moved.guard == Guard(0, judge=JUDGE)


async def test_parts_of_a_guarded_team_are_guarded_while_its_guardian_is_there() -> None:
    engine = ScriptedEngine(
        {n: lambda p, s, n=n: n * s.max_tokens for n in "abc"},
        scores={JUDGE: lambda text, choices: [0.0] * (len(choices) - 1) + [1.0]},
    )
    team = Team(
        RULED.candidates, engine, FixedSwitcher([0]), RULED.policy,
        replace(RULED.judge, spec=ModelSpec(JUDGE, prompt="{text}")),
    )  # fmt: skip
    for part in coalitions(3):
        engine.calls.clear()
        answering = conditions.of_coalition(RULED, part).on(team)
        trace = await answering.agenerate(Query("q", text="?"))
        assert {"abc".index(letter) for letter in trace.text} <= part
        judged = any(call.kind == "score" for call in engine.calls)
        assert judged == (2 in part and len(part) > 1)


async def test_nobody_who_is_gone_fills_what_others_may_not_write() -> None:
    """Neither where all probability is theirs nor where all who are there have shares."""
    policy = Policy(patch_size=2, max_tokens=40, max_share=((0, 0.4), (1, 0.4)))
    for part in (Coalition((0, 1)), Coalition((0, 2))):
        config = replace(CONFIG, policy=policy, switcher=SwitcherConfig("fixed", sequence=(0,)))
        answering = conditions.of_coalition(config, part).on(scripted(FixedSwitcher([0]), policy))
        text = (await answering.agenerate(Query("q", text="?"))).text
        assert {"abc".index(letter) for letter in text} <= part
