"""A switcher of the user's own, held to what a switcher is, and settings by name in Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from taketurns import Candidate, ModelSpec, Policy, Team
from taketurns.config.loading import load_team_config
from taketurns.config.policy import PatchRule
from taketurns.engines.scripted import ScriptedEngine
from taketurns.errors import ConfigError

NAMES = ("a", "b", "c")


class Own:
    """As a user writes one; `given` is what it decides."""

    def __init__(self, given: Any) -> None:
        self.given = given

    async def prepare(self, engine: Any, candidates: Sequence[Any]) -> None:
        pass

    def begin(self, query: Any, policy: Any) -> Any:
        async def decide(session: Any, draft: Any) -> Any:
            return self.given

        return decide


class OrdinaryDecide(Own):
    def begin(self, query: Any, policy: Any) -> Any:
        return lambda session, draft: self.given


class CoroutineBegin(Own):
    async def begin(self, query: Any, policy: Any) -> Any:  # type: ignore[override]
        return None


class OrdinaryPrepare(Own):
    def prepare(self, engine: Any, candidates: Sequence[Any]) -> None:  # type: ignore[override]
        pass


class NoBegin:
    async def prepare(self, engine: Any, candidates: Sequence[Any]) -> None:
        pass


def team(switcher: Any) -> Team:
    candidates = [Candidate(name, ModelSpec(name, prompt="{text}")) for name in NAMES]
    engine = ScriptedEngine({name: [" word"] for name in NAMES})
    return Team(candidates, engine, switcher, Policy(patch_size=2, max_tokens=4))


def test_a_switcher_that_keeps_to_it_is_asked() -> None:
    trace = team(Own([0, 0, 1])).generate("hi")
    assert trace.error is None
    assert {patch.speaker for patch in trace.patches} == {2}
    assert trace.patches[0].probabilities == (0.0, 0.0, 1.0)
    almost = team(Own((0.333, 0.333, 0.333))).generate("hi")
    assert almost.error is None


THIRD = (1 / 3,) * 3
WRONG: list[tuple[Callable[[], Any], str]] = [
    (lambda: Own((0.5, 0.1)), "gave 2 probabilities for 3 candidates: it must give one for each"),
    (lambda: Own((0.5, 0.1, 0.2, 0.2)), "gave 4 probabilities for 3 candidates"),
    (lambda: Own((0.5, 0.1, 0.1)), r"sum to 0\.7: they must sum to 1"),
    (lambda: Own((3, 0, 0)), "sum to 3: they must sum to 1"),
    (lambda: Own(None), "gave None: it must give one probability for each of the 3"),
    (lambda: Own(("x", "y", "z")), "it must give one probability for each of the 3 candidates"),
    (lambda: OrdinaryDecide(THIRD), "is not a coroutine function: define it with `async def`"),
    (
        lambda: CoroutineBegin(THIRD),
        r"CoroutineBegin\.begin\(\) gave coroutine: it must be an ordinary function",
    ),
    (
        lambda: OrdinaryPrepare(THIRD),
        r"OrdinaryPrepare\.prepare\(\) is not a coroutine: write `async",
    ),
    (NoBegin, r"NoBegin is not a switcher: it has no method begin\(\)"),
]


@pytest.mark.parametrize(("make", "said"), WRONG, ids=[said[:30] for _, said in WRONG])
def test_a_switcher_that_does_not_is_refused_in_a_sentence(
    make: Callable[[], Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        team(make()).generate("hi")


@pytest.mark.parametrize("given", [(1.5, -0.5, 0.0), (float("nan"), 0.5, 0.5), (0.0, 0.0, 0.0)])
def test_what_is_no_probability_ends_the_answer_with_a_sentence(given: tuple[float, ...]) -> None:
    trace = team(Own(given)).generate("hi")
    assert trace.error is not None
    assert "the switcher gave" in trace.error


def test_a_setting_by_a_wrong_name_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"unknown key 'patch_sise'; did you mean 'patch_size'"):
        Team.load("pocket", patch_sise=8)
    with pytest.raises(ConfigError, match=r"'patch_sise' in policy; did you mean 'patch_size'\?"):
        Team.load(load_team_config("pocket"), patch_sise=8)


def test_a_policys_setting_outside_of_policy_says_where_it_belongs(tmp_path: Any) -> None:
    path = tmp_path / "team.yaml"
    path.write_text("candidates: [{name: a, model: a}, {name: b, model: b}]\npatch_size: 8\n")
    with pytest.raises(ConfigError, match=r"yaml:2: .*did you mean 'patch_size', a key of policy"):
        load_team_config(path)


def test_a_setting_of_a_config_is_held_to_its_kind() -> None:
    config = load_team_config("pocket")
    for changes, said in [
        ({"patch_size": "x"}, "policy.patch_size should be a valid integer, not 'x'"),
        ({"max_share": 3}, "policy.max_share should be"),
        ({"patch": {"until": "sentence"}}, "policy.patch should be an instance of PatchRule"),
        ({"patch_size": 0}, "patch_size must be at least 1"),
    ]:
        with pytest.raises(ConfigError, match=said):
            Team.load(config, **changes)
    loaded = Team.load(config, temperature=0, stop=["x"], patch=PatchRule("sentence"))
    assert loaded.policy == replace(
        config.policy, temperature=0, stop=("x",), patch=PatchRule("sentence")
    )


def test_a_rule_that_names_nobody_is_refused() -> None:
    with pytest.raises(ConfigError, match="opening names candidate 9, but the 3 candidates"):
        team(Own(THIRD)).generate("hi", policy=Policy(opening=9))
