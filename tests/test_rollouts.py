"""Prefix, branches, utilities: what a record says is what was written, whatever runs beside it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from taketurns import Candidate, EngineError, ModelSpec, Policy, Query, ScriptedEngine, Team
from taketurns.config.policy import PatchRule
from taketurns.engines.local.engine import LocalEngine
from taketurns.switchers.base import Switcher
from taketurns.switchers.lm import LMSwitcher
from taketurns.switchers.simple import RandomSwitcher
from taketurns.tasks.base import Split
from taketurns.training.labels.allocation import Allocation, Racing, Uniform
from taketurns.training.labels.decision_points import DecisionPoint, Traces, decision_points
from taketurns.training.labels.labels import label_from_json
from taketurns.training.labels.rollouts import (
    RolloutGenerator,
    Rollouts,
    cut_prefix,
    estimate_cost,
    rollouts_to_json,
)
from taketurns.types import Score


@dataclass(frozen=True)
class Letters:
    """Worth the share of its letter in the answer. The models write their names."""

    letter: str = "a"
    name: str = "letters"
    category: str = "test"
    asked: Callable[[str], float | None] | None = None
    seen: list[str] = field(default_factory=list)

    def queries(self, split: Split) -> tuple[Query, ...]:
        return tuple(Query(f"{split}/{i}", text=f"{split} {i}?") for i in range(40))

    def score(self, query: Query, answer: str) -> Score:
        self.seen.append(answer)
        if self.asked is not None:
            return Score(self.asked(answer), why="asked")
        return Score(answer.count(self.letter) / max(1, len(answer)))


POLICY = Policy(patch_size=2, max_tokens=20)


def scripted(
    names: str = "abc",
    switcher: Switcher | None = None,
    policy: Policy = POLICY,
    replies: dict[str, Any] | None = None,
    **options: Any,
) -> tuple[Team, ScriptedEngine]:
    scripts = {n: lambda p, s, n=n: n * s.max_tokens for n in names} | (replies or {})
    engine = ScriptedEngine(scripts, **options)
    candidates = [Candidate(name, ModelSpec(name)) for name in names]
    return Team(candidates, engine, switcher or RandomSwitcher(), policy), engine


async def roll_out(
    team: Team,
    numbers: Sequence[int] = range(1),
    allocation: Allocation | None = None,
    task: Any = None,
    traces: Traces = "random",
    concurrency: int = 64,
) -> list[Rollouts]:
    task = task or Letters()
    roller = RolloutGenerator(team, allocation or Uniform(4), concurrency)
    queries = task.queries("train")
    asked = [
        DecisionPoint(task, queries[i % len(queries)], i // len(queries), traces) for i in numbers
    ]
    return list(await asyncio.gather(*(roller.roll_out(occasion) for occasion in asked)))


def said(rollouts: Rollouts) -> str:
    return "".join(patch.text for patch in rollouts.prefix)


async def test_every_branch_gets_the_same_number_of_rollouts() -> None:
    """Fault: 16 random rollouts were divided by first speaker, so a candidate might get none and
    was given the utility -1000."""
    team, engine = scripted()
    for rollouts in await roll_out(team, range(20), Uniform(5)):
        assert [branch.speaker for branch in rollouts.branches] == [0, 1, 2]
        assert all(len(b.utilities) == (1 if b.ended else 5) for b in rollouts.branches)
        assert all(0 <= u <= 1 for branch in rollouts.branches for u in branch.utilities)
        for branch, name in zip(rollouts.branches, "abc", strict=True):
            assert branch.patch.text == name * 2
    assert engine.open_sessions == 0


async def test_utilities_are_those_of_the_whole_answers() -> None:
    task = Letters()
    team, _ = scripted()
    (rollouts,) = await roll_out(team, task=task, allocation=Uniform(3))
    prefix = "".join(patch.text for patch in rollouts.prefix)
    seen = iter(task.seen)
    for branch in rollouts.branches:
        for utility in branch.utilities:
            answer = next(seen)
            assert answer.startswith(prefix + branch.patch.text)
            assert len(answer) == 20
            assert utility == answer.count("a") / 20
    means = [sum(branch.utilities) for branch in rollouts.branches]
    assert max(means) == means[0]  # a patch of "a" is worth something here


@pytest.mark.parametrize("pool", [2, 3, 5])
async def test_prefixes_are_random_and_cut_on_patch_boundaries_in_the_middle(pool: int) -> None:
    team, _ = scripted("abcde"[:pool], policy=Policy(patch_size=2, max_tokens=20))
    made = await roll_out(team, range(200), Uniform(1))
    lengths = Counter(len(rollouts.prefix) for rollouts in made)
    # The patch that holds a point of 10 to 90 % of 20 tokens is chosen anew: the 2nd to the 9th.
    assert set(lengths) == set(range(1, 9))
    speakers = Counter(patch.speaker for rollouts in made for patch in rollouts.prefix)
    expected = sum(speakers.values()) / pool
    assert all(abs(speakers[i] - expected) < 0.2 * expected for i in range(pool))


async def test_an_answer_of_one_patch_has_the_empty_prefix() -> None:
    team, _ = scripted(replies={n: [n] for n in "abc"})
    (rollouts,) = await roll_out(team)
    assert rollouts.prefix == ()


async def test_a_branch_that_ended_is_not_repeated() -> None:
    """Its answer is always the same, so more rollouts would say nothing."""
    team, _ = scripted(replies={"b": lambda prompt, sampling: "b"})
    for rollouts in await roll_out(team, range(10), Uniform(6)):
        a, b, c = rollouts.branches
        assert (b.ended, len(b.utilities), b.patch.finish) == (True, 1, "stop")
        assert len(c.utilities) == (1 if c.ended else 6)
        assert len(a.utilities) == (1 if a.ended else 6)


async def test_a_branch_that_fills_the_budget_has_ended() -> None:
    team, _ = scripted(policy=Policy(patch_size=6, max_tokens=12))
    made = await roll_out(team, range(20), Uniform(3))
    last = [rollouts for rollouts in made if len(rollouts.prefix) == 1]
    assert last
    assert all(branch.ended for rollouts in last for branch in rollouts.branches)
    first = [rollouts for rollouts in made if not rollouts.prefix]
    assert first
    assert not any(branch.ended for rollouts in first for branch in rollouts.branches)


async def test_no_draw_depends_on_what_runs_beside_it() -> None:
    team, _ = scripted()
    together = await roll_out(team, range(12))
    alone = [(await roll_out(scripted()[0], [i], concurrency=1))[0] for i in range(12)]
    names = list("abc")
    for one, other in zip(together, alone, strict=True):
        assert rollouts_to_json(one, names, POLICY) == rollouts_to_json(other, names, POLICY)


async def test_more_rollouts_begin_with_the_same_ones() -> None:
    """So racing spends a part of what uniform allocation would."""
    few, many = [await roll_out(scripted()[0], range(8), Uniform(k)) for k in (3, 9)]
    raced = await roll_out(scripted()[0], range(8), Racing(9, first=2, step=2))
    for a, b, c in zip(few, many, raced, strict=True):
        assert said(a) == said(b) == said(c)
        for branch, more, some in zip(a.branches, b.branches, c.branches, strict=True):
            assert more.utilities[: len(branch.utilities)] == branch.utilities
            assert more.utilities[: len(some.utilities)] == some.utilities


async def test_prefixes_of_one_query_differ_and_seeds_matter() -> None:
    task = Letters()
    team, _ = scripted(policy=Policy(patch_size=1, max_tokens=20))
    query = task.queries("train")[0]
    roller = RolloutGenerator(team, Uniform(2))
    one, two = [await roller.roll_out(DecisionPoint(task, query, number)) for number in (0, 1)]
    assert said(one) != said(two)
    other, _ = scripted(policy=Policy(patch_size=1, max_tokens=20, seed=1))
    assert said((await roll_out(other))[0]) != said(one)


async def test_on_policy_traces_are_the_teams_switchers() -> None:
    prefer = {"s": [0.0, 1.0]}
    engine = ScriptedEngine(
        {n: lambda p, s, n=n: n * s.max_tokens for n in "ab"}, scores=prefer, delay=0
    )
    candidates = [Candidate(name, ModelSpec(name)) for name in "ab"]
    team = Team(candidates, engine, LMSwitcher("s"), POLICY)
    (rollouts,) = await roll_out(team, traces="on-policy")
    assert {patch.text for patch in rollouts.prefix} == {"bb"}
    assert rollouts.prefix[0].probabilities == (0.0, 1.0)
    assert set(rollouts.branches[1].utilities) == {0.0}
    assert set(rollouts.branches[0].utilities) == {2 / 20}
    asked = [call for call in engine.calls if call.kind == "score"]
    assert asked
    await roll_out(team, traces="random")
    assert [call for call in engine.calls if call.kind == "score"] == asked


async def test_speakers_that_a_rule_would_choose_are_left_out() -> None:
    policy = replace(POLICY, opening=2, closing=2, closing_on_end=True, closing_cue=" So:")
    team, _ = scripted(policy=replace(policy, greedy_switcher=True))
    made = await roll_out(team, range(20))
    patches = [patch for rollouts in made for patch in rollouts.prefix]
    assert {patch.reason for patch in patches} == {"chosen"}
    assert {patch.speaker for patch in patches} == {0, 1, 2}


async def test_a_rollout_that_fails_is_counted_with_its_reason() -> None:
    (whole,) = await roll_out(scripted()[0])
    team, engine = scripted()
    await roll_out(team, concurrency=1)
    last = len(engine.calls) - 1
    team, _ = scripted(failures={last: EngineError("the server is gone")})
    (rollouts,) = await roll_out(team, concurrency=1)
    assert [len(branch.failures) for branch in rollouts.branches] == [0, 0, 1]
    assert rollouts.branches[2].failures == ("the server is gone",)
    assert rollouts.branches[2].utilities == whole.branches[2].utilities[:-1]
    record = rollouts_to_json(rollouts, list("abc"), POLICY)
    assert record["branches"][2]["failures"] == 1
    assert record["branches"][2]["failure"] == "the server is gone"
    assert label_from_json(record, list("abc")).counts == (4, 4, 3)


async def test_a_prefix_or_a_branch_that_fails_has_no_record() -> None:
    for number in (0, 5, 8):
        team, engine = scripted(failures={number: EngineError("gone")})
        with pytest.raises(EngineError, match="gone"):
            await roll_out(team, concurrency=1)
        assert engine.open_sessions == 0


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (None, "asked"),
        (1.5, "the scorer gave 1.5, which is not within 0..1"),
        (float("nan"), "the scorer gave nan, which is not within 0..1"),
    ],
)
async def test_an_answer_that_cannot_be_scored_has_no_utility(value: Any, why: str) -> None:
    task = Letters(asked=lambda answer: value if answer.endswith("aa") else 0.5)
    (rollouts,) = await roll_out(scripted()[0], task=task, allocation=Uniform(12))
    for branch in rollouts.branches:
        assert set(branch.failures) == {why}
        assert set(branch.utilities) == {0.5}
        assert len(branch.failures) + len(branch.utilities) == 12


async def test_a_scorer_that_always_fails_is_an_error_of_the_prefix() -> None:
    def broken(answer: str) -> float:
        raise KeyError("reference")

    with pytest.raises(
        EngineError,
        match=r"train/0#0: all rollouts of the branch of a failed: the scorer failed: KeyError",
    ):
        await roll_out(scripted()[0], task=Letters(asked=broken))


@dataclass(frozen=True)
class Variety(Letters):
    """Worth the share of the other answers that are different."""

    def score_group(self, query: Query, answers: Sequence[str]) -> Sequence[Score]:
        others = max(1, len(answers) - 1)
        return [Score(sum(a != b for b in answers) / others) for a in answers]


async def test_a_task_may_judge_answers_beside_each_other() -> None:
    team, _ = scripted(replies={"b": lambda prompt, sampling: "b"})
    for allocation in (Uniform(4), Racing(12, first=4)):
        (rollouts,) = await roll_out(team, task=Variety(), allocation=allocation)
        texts = [end.text for branch in rollouts.branches for end in branch.results]
        assert len(texts) >= 9
        for branch in rollouts.branches:
            for end in branch.results:
                assert end.utility == sum(end.text != text for text in texts) / (len(texts) - 1)


async def test_cancelling_leaves_nothing_open() -> None:
    team, engine = scripted(delay=0.01)
    task = asyncio.create_task(roll_out(team, range(4)))
    while engine.open_sessions < 30:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert engine.open_sessions == 0


async def test_concurrency_bounds_the_continuations() -> None:
    team, engine = scripted(delay=0.001)
    most = 0

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, engine.open_sessions)
            await asyncio.sleep(0)

    watching = asyncio.create_task(watch())
    await roll_out(team, allocation=Uniform(20), concurrency=3)
    watching.cancel()
    assert most == 5 + 3  # the answer, its prefix and three branches; then the rollouts


async def test_an_estimate_is_what_the_run_comes_to() -> None:
    task = Letters()
    team, _ = scripted()
    planned = decision_points([task], 30, "random", 0)
    said = await estimate_cost(RolloutGenerator(team, Uniform(4)), planned, 30)
    made = await roll_out(team, range(30), task=task)
    assert said.rollouts == sum(r.continued for r in made)
    assert said.tokens == sum(r.tokens for r in made)
    assert (await estimate_cost(RolloutGenerator(team, Uniform(4)), planned, 10)).prefixes == 30
    assert "30 prefixes, about 3" in str(said)
    assert "a minute" in str(said)
    assert "2.0 hours" in str(replace(said, seconds=7200))
    assert "10 minutes" in str(replace(said, seconds=600))


async def test_prefixes_may_end_inside_a_patch() -> None:
    """For a switcher that will be asked at any token, on branches as long as its patches may be."""
    rule = PatchRule("switcher", min=2, max=9)
    policy = Policy(patch_size=2, max_tokens=40, patch=rule)
    team, engine = scripted(policy=policy)
    task = Letters()
    roller = RolloutGenerator(team, Uniform(2))
    asked = [DecisionPoint(task, task.queries("train")[0], n, cut_at="anywhere") for n in range(40)]
    made = [await roller.roll_out(occasion) for occasion in asked]
    inside, lengths = 0, set()
    for rollouts in made:
        *before, last = rollouts.prefix
        assert all(2 <= len(patch.token_ids) <= 9 for patch in before)
        inside += len(last.token_ids) == 1  # shorter than any patch
        length = {len(b.patch.token_ids) for b in rollouts.branches if not b.ended}
        assert len(length) <= 1  # compared at equal lengths
        lengths |= length
        written = "".join(patch.text for patch in rollouts.prefix)
        assert written == "".join("abc"[p.speaker] * len(p.token_ids) for p in rollouts.prefix)  # type: ignore[index]
        record = rollouts_to_json(rollouts, list("abc"), policy)
        assert record["cuts"] == label_from_json(record, list("abc")).cut_at == "anywhere"
        assert record["patch"]["until"] == "switcher"
    assert inside
    assert lengths == set(range(2, 10))
    shares = [sum(len(p.token_ids) for p in r.prefix) / 40 for r in made]
    assert min(shares) >= 0.1 - 1 / 40
    assert max(shares) <= 0.9
    again = await roller.roll_out(asked[3])
    records = [rollouts_to_json(one, list("abc"), policy) for one in (again, made[3])]
    assert records[0] == records[1]
    assert engine.open_sessions == 0


async def test_a_prefix_that_is_cut_inside_a_patch_is_read_as_it_was_written(
    make_model: Callable[..., Path], other_tokenizer: Any
) -> None:
    """Handed over as text it ends with a whole character, or training would read another."""
    first = ModelSpec(str(make_model(0)))
    for second in (make_model(1), make_model(1, tokenizer=other_tokenizer)):
        specs = {"m0": first, "m1": ModelSpec(str(second))}
        policy = Policy(patch_size=6, max_tokens=24, temperature=1.0, speaker_top_p=1.0)
        candidates = [Candidate(name, spec) for name, spec in specs.items()]
        team = Team(candidates, LocalEngine(specs), RandomSwitcher(), policy)
        query = Letters().queries("train")[0]
        inside = 0
        for seed in range(12):
            async with team.answer(await team.draft(query), seed) as answer:
                found = await cut_prefix(answer, seed, "anywhere")
            *_, last = found.patches or [None]
            inside += last is not None and len(last.token_ids) % 6 != 0
            again = await team.draft(query)
            again.resume(found.patches)
            assert [again.prompt(i) for i in (0, 1)] == [found.prompt(i) for i in (0, 1)]
            assert found.tokens == sum(len(patch.token_ids) for patch in found.patches)
        assert inside
        await team.aclose()
