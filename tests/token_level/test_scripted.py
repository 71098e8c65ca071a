"""Token-level turns of scripted models: who is asked, what is recorded, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from taketurns import (
    Candidate,
    ConfigError,
    Delta,
    ModelSpec,
    Patch,
    Policy,
    Query,
    ScriptedEngine,
    Team,
    Trace,
)
from taketurns.config.pair_rules import BacoRule, NudgingRule
from taketurns.config.policy import Guard, PatchRule
from taketurns.switchers.baco import BacoSwitcher
from taketurns.switchers.base import Switcher
from taketurns.switchers.nudging import NudgingSwitcher

ANSWER = "It is red, so stop there. Then go."
UNSURE = ("It is ", "It is red", "It is red, so stop ")
"""The beginnings after which the base is unsure."""


def made(
    switcher: Switcher | None = None,
    unsure: Sequence[str] = UNSURE,
    names: Sequence[str] = ("base", "aligned"),
    engine: Mapping[str, Any] | None = None,
    **policy: Any,
) -> tuple[Team, ScriptedEngine]:
    """All candidates know the same answer, so a letter that is lost or said twice shows."""

    def go_on(prompt: str, sampling: Any) -> str:
        return ANSWER[len(prompt) - 1 :]

    def confidence(text: str) -> float:
        return 0.1 if text[1:] in unsure else 0.9

    settings: dict[str, Any] = {"confidences": {"base": confidence}, **(engine or {})}
    scripted = ScriptedEngine(dict.fromkeys(names, go_on), **settings)
    candidates = [Candidate(name, ModelSpec(name, prompt="{text}")) for name in names]
    rules = Policy(**{"patch_size": 60, "max_tokens": 60} | policy)
    return Team(candidates, scripted, switcher or NudgingSwitcher(), rules), scripted


def turns(trace: Trace) -> list[tuple[str, str]]:
    assert trace.error is None
    return [(patch.name, patch.text) for patch in trace.patches]


NUDGED = [
    ("base", "It is "),
    ("aligned", "red"),
    ("aligned", ","),
    ("base", " so stop "),
    ("aligned", "there"),
    ("base", ". Then go."),
]


def test_the_other_one_writes_words_where_the_base_is_unsure() -> None:
    """After "red" the base is asked, declines and writes nothing; the trace has no empty patch."""
    team, engine = made()
    trace = team.generate("?")
    assert turns(trace) == NUDGED
    assert trace.text == ANSWER
    assert [patch.finish for patch in trace.patches] == ["switcher"] * 5 + ["stop"]
    assert [patch.probabilities for patch in trace.patches[:2]] == [(1.0, 0.0), (0.0, 1.0)]
    assert [call.model for call in engine.calls] == [
        "base", "aligned", "base", "aligned", "base", "aligned", "base",
    ]  # fmt: skip


def test_a_reader_of_the_stream_sees_the_same() -> None:
    import asyncio

    team, _ = made()

    async def read() -> list[Any]:
        return [event async for event in team.stream(Query("q", text="?"))]

    events = asyncio.run(read())
    deltas = [event for event in events if isinstance(event, Delta)]
    assert "".join(delta.text for delta in deltas) == ANSWER
    patches = [event for event in events if isinstance(event, Patch)]
    assert [(patch.name, patch.text) for patch in patches] == NUDGED


def test_the_base_may_be_either_candidate() -> None:
    team, _ = made(NudgingSwitcher(NudgingRule(base=1)), names=("aligned", "base"))
    assert turns(team.generate("?")) == NUDGED


def test_baco_gives_the_base_what_it_is_unsure_of_but_no_punctuation() -> None:
    team, _ = made(BacoSwitcher(), unsure=(*UNSURE, "It is re", "It is red, so"))
    trace = team.generate("?")
    assert trace.text == ANSWER
    assert [text for name, text in turns(trace) if name == "base"] == ["red", "there"]
    team, _ = made(BacoSwitcher(BacoRule(uncertainty="none")))
    words = [text for name, text in turns(team.generate("?")) if name == "base"]
    assert "".join(words) == "Itisredsostopthere" + "Thengo"


def test_a_patch_that_reached_its_length_goes_on_where_it_stopped() -> None:
    """The base is not asked inside "there", which the other one's patch was too short for."""
    team, _ = made(patch_size=4)
    trace = team.generate("?")
    assert trace.text == ANSWER
    assert [t for n, t in turns(trace) if n == "aligned"] == ["red", ",", "ther", "e"]


def test_who_declined_writes_if_no_other_candidate_may() -> None:
    """A share of 0 leaves the base alone, however unsure it is: the answer still ends."""
    team, _ = made(max_share=((1, 0.0),))
    assert {name for name, _ in turns(team.generate("?"))} == {"base"}
    assert team.generate("?").text == ANSWER


def test_opening_and_guard_are_kept() -> None:
    """An opening speaker may not decline, and a guard sees every patch."""
    team, _ = made(unsure=("", *UNSURE), opening=0, patch_size=3)
    assert team.generate("?").text == ANSWER
    team, _ = made(guard=Guard(0, words=("there",)))
    trace = team.generate("?")
    assert trace.finish == "guard"
    assert trace.text == "It is red, so stop "


def test_a_fork_decides_as_the_answer_itself() -> None:
    """The switcher keeps nothing of an answer: what was written decides."""
    import asyncio

    async def both() -> tuple[list[Any], list[Any]]:
        team, _ = made()
        state = await team.draft(Query("q", text="?"))
        async with team.answer(state, 0) as answer:
            await answer.step()
            async with answer.fork(1) as fork:
                await fork.write()
                forked = list(fork.state.patches)
            await answer.write()
            return forked, list(answer.state.patches)

    forked, whole = asyncio.run(both())
    assert [p.text for p in forked] == [p.text for p in whole] == [text for _, text in NUDGED]


def test_what_cannot_be_is_refused_before_anything_runs() -> None:
    """In one sentence that names what, where and the cure."""
    team, engine = made(names=("base", "b", "c"))
    with pytest.raises(ConfigError, match=r"two candidates, not 3 \(base, b, c\): use two"):
        team.generate("?")
    team, _ = made(patch=PatchRule("sentence"))
    with pytest.raises(
        ConfigError, match=r"policy\.patch\.until: sentence .* remove policy\.patch"
    ):
        team.generate("?")
    for wrong in (1.5, -0.1, float("nan")):
        with pytest.raises(ConfigError, match="gamma, a probability, must be from 0 to 1"):
            NudgingRule(wrong)
        with pytest.raises(ConfigError, match="gamma, a probability, must be from 0 to 1"):
            BacoRule(wrong)
    with pytest.raises(ConfigError, match="gamma, an entropy in nats, must be 0 or more"):
        BacoRule(float("inf"), "entropy")
    with pytest.raises(ConfigError, match="base must be the index of one of two candidates"):
        NudgingRule(base=2)
    assert engine.calls == []


def test_an_engine_without_distributions_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from taketurns.engines import scripted

    monkeypatch.setattr(scripted, "_PLAIN", scripted._PLAIN - {"next_token"})
    team, engine = made()
    with pytest.raises(
        ConfigError, match=r"the engine of base does not give: use engine\.kind local"
    ):
        team.generate("?")
    assert engine.calls == []
