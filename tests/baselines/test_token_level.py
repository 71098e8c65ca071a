"""Token-level methods: the pair, the knob by dev, and attribution in the whole team."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import log
from pathlib import Path
from typing import Any

import pytest

from taketurns.config.pair_rules import MentorRule
from taketurns.config.policy import PatchRule
from taketurns.config.team_config import SwitcherConfig
from taketurns.engines.local.engine import LocalEngine
from taketurns.engines.scripted import ScriptedEngine
from taketurns.errors import ConfigError
from taketurns.evaluation.methods import trained
from taketurns.evaluation.methods.base import MethodContext
from taketurns.evaluation.methods.registry import methods
from taketurns.evaluation.methods.token_level import TokenLevelPair
from taketurns.switchers.head import Head, HeadConfig, Scale
from taketurns.switchers.judge import Judge, PatchValue
from taketurns.switchers.mentor import MentorSwitcher
from taketurns.switchers.routing_head import RoutingHead
from taketurns.types import ModelSpec

Scripted = Callable[..., tuple[MethodContext, ScriptedEngine]]
ANSWERS = {"base": "it is evil.", "sft": "it is fine.", "aligned": "it is good."}


def made(scripted: Scripted, word: Any, **engine: Any) -> tuple[MethodContext, ScriptedEngine]:
    """The base is sure of "it is " and at .35 of what comes next; right is the aligned word."""

    def script(name: str) -> Callable[[str, Any], str]:
        return lambda prompt, sampling: ANSWERS[name][len(prompt.partition("?")[2]) :]

    def confidence(text: str) -> float:
        return 0.35 if text.endswith("is ") else 0.9

    settings = {"confidences": {"base": confidence}} | engine
    scripts = {name: script(name) for name in ANSWERS}
    return scripted([word("t", {"q?": "good"})], scripts=scripts, **settings)


async def test_gamma_is_the_best_on_dev_and_the_trace_is_the_team_s(
    scripted: Scripted, word: Any, asking: Any
) -> None:
    context, engine = made(scripted, word)
    (task,) = context.tasks.values()
    method = TokenLevelPair.nudging(context)
    await method.check()
    assert engine.calls == []
    dev = asking(context.tasks)
    assert await method.prepare(dev) == {"gamma": 0.4, "dev": 1.0}
    assert dev.names == ["nudging 0.2", "nudging 0.3", "nudging 0.4", "nudging 0.5"]
    trace = await method.answer(task, task.queries("test")[0], 0)
    assert [(p.name, p.speaker, p.text) for p in trace.patches] == [
        ("base", 0, "it is "), ("aligned", 2, "good"), ("base", 0, "."),
    ]  # fmt: skip
    assert [p.probabilities for p in trace.patches[:2]] == [(1.0, 0.0, 0.0), (0.0, 0.0, 1.0)]
    assert {call.model for call in engine.calls} == {"base", "aligned"}


async def test_they_are_methods_by_name(scripted: Scripted, word: Any, asking: Any) -> None:
    context, _ = made(scripted, word)
    known = methods(context.names, trained.own(context.config, ["t"]), {})
    for name in ("nudging", "baco"):
        assert known[name].kind == "baseline"
        make = known[name].make
        assert make is not None
        chosen = await make(context).prepare(asking(context.tasks))
        assert 0 < chosen["gamma"] < 1


async def test_a_mentor_s_rate_is_the_best_on_dev(
    scripted: Scripted, word: Any, asking: Any
) -> None:
    """The base ends in another word, which it judges to be the worse one; it is asked only at some
    places, and a mentor that is asked too rarely cannot change it."""
    judging = {"base": lambda text, choices: [0.1, 0.9]}
    context, _ = made(scripted, word, scores=judging)
    (task,) = context.tasks.values()
    known = methods(context.names, trained.own(context.config, ["t"]), {})["mentorcollab"]
    assert known.make is not None
    method = known.make(context)
    await method.check()
    dev = asking(context.tasks)
    chosen = await method.prepare(dev)
    assert dev.names == ["mentorcollab 0.1", "mentorcollab 0.25", "mentorcollab 0.5"]
    assert chosen["rate"] in (0.1, 0.25, 0.5)
    trace = await method.answer(task, task.queries("test")[0], 0)
    assert {p.speaker for p in trace.patches} <= {0, 2}
    assert chosen["dev"] == 1.0
    assert (
        "".join(p.text for p in trace.patches if p.speaker == 2).strip(" .") in ANSWERS["aligned"]
    )


async def test_a_deferral_head_s_threshold_is_the_best_on_dev(
    scripted: Scripted, word: Any, asking: Any, tmp_path: Path
) -> None:
    """A trained switcher by name: the head defers with .6 after "it is " and else with .2."""
    import torch

    weight = torch.tensor([[0.0], [1.0]])
    scale = Scale(torch.zeros(1), torch.ones(1), weight)
    config = HeadConfig("candidate", ("base", "aligned"), "base", {"base": (-1,)})
    Head(config, {"base": scale}, torch.zeros(3, 2)).save(tmp_path)
    states = {"base": lambda text: [log(1.5) if text.endswith("is ") else -log(4)]}
    context, _ = made(scripted, word, states=states)
    head = SwitcherConfig(kind="deferral", path=str(tmp_path))
    switchers = {"co-llm": trained.TrainedSwitchers({"t": head})}
    entry = methods(context.names, trained.own(context.config, ["t"]), switchers)["co-llm"]
    assert entry.make is not None
    method = entry.make(context)
    await method.check()
    dev = asking(context.tasks)
    assert await method.prepare(dev) == {"threshold": 0.1, "dev": 1.0}
    assert dev.names == [f"co-llm 0.{tenth}" for tenth in (1, 3, 5, 7, 9)]
    (task,) = context.tasks.values()
    query = task.queries("test")[0]
    trace = await method.answer(task, query, 0)
    assert {p.speaker for p in trace.patches if p.text} == {2}
    assert isinstance(method, TokenLevelPair)
    method._value = 0.3
    trace = await method.answer(task, query, 0)
    assert [(p.name, p.speaker, p.text) for p in trace.patches if p.text] == [
        ("base", 0, "it is "), ("aligned", 2, "g"), ("base", 0, "vil."),
    ]  # fmt: skip


async def test_a_judge_s_rate_is_the_best_on_dev(
    scripted: Scripted, word: Any, asking: Any, tmp_path: Path
) -> None:
    """A trained judge by name: it prefers the patch whose state is the greater, the mentor's."""
    import torch

    config = HeadConfig("candidate", ("base", "aligned"), "base", {"base": (-1,)})
    value = PatchValue(torch.ones(1, 1), torch.zeros(1), torch.ones(1), torch.zeros(2))
    Judge(config, torch.zeros(1), torch.ones(1), value).save(tmp_path)
    states = {"base": lambda text: [float("good" in text)]}
    context, engine = made(scripted, word, states=states)
    rule = MentorRule(0.25, 5)
    judge = SwitcherConfig(kind="mentorcollab", path=str(tmp_path), pair=rule)
    switchers = {"mlp": trained.TrainedSwitchers({"t": judge})}
    entry = methods(context.names, trained.own(context.config, ["t"]), switchers)["mlp"]
    assert entry.make is not None
    method = entry.make(context)
    await method.check()
    assert engine.calls == []
    dev = asking(context.tasks)
    chosen = await method.prepare(dev)
    assert dev.names == ["mlp 0.1", "mlp 0.25", "mlp 0.5"]
    assert set(chosen) == {"rate", "dev"}
    assert all(call.kind == "generate" for call in engine.calls), "the base is not asked"
    (task,) = context.tasks.values()
    query = task.queries("test")[0]
    assert isinstance(method, TokenLevelPair)
    rule = replace(rule, rate=1.0)
    always = TokenLevelPair.mentorcollab(context, "always", rule, str(tmp_path))
    always._teams = {1.0: always._team(MentorSwitcher(rule, str(tmp_path)))}
    always._value = 1.0
    trace = await always.answer(task, query, 0)
    assert trace.text.startswith("it is good")
    assert {p.speaker for p in trace.patches} == {0, 2}


async def test_a_router_writes_with_all_candidates(
    real: Any, word: Any, asking: Any, three_models: dict[str, str], make_model: Any, tmp_path: Path
) -> None:
    """A trained switcher by name, which decides alone on every token and chooses nothing on dev."""
    import torch

    torch.manual_seed(0)
    head = RoutingHead(tuple(three_models), torch.randn(3, 64), torch.zeros(3))
    head.save(tmp_path)
    spec = ModelSpec(str(make_model(7)), prompt="{text}")
    router = SwitcherConfig(kind="fusionroute", spec=spec, path=str(tmp_path))
    switchers = trained.TrainedSwitchers({"t": router})
    context = real(
        three_models, [word("t", {"q?": "good"})], opening=1, patch=PatchRule("sentence")
    )
    engine = LocalEngine(
        {c.name: c.spec for c in (*context.config.candidates, *switchers.models())}
    )
    context = MethodContext(context.config, context.tasks, tmp_path, lambda models: engine)
    own = trained.own(context.config, ["t"])
    make = methods(context.names, own, {"fusionroute": switchers})["fusionroute"].make
    assert make is not None
    method = make(context)
    await method.check()
    assert await method.prepare(asking(context.tasks)) == {}
    (task,) = context.tasks.values()
    traces = [await method.answer(task, task.queries("test")[0], seed) for seed in (0, 0, 1)]
    assert traces[0] == replace(traces[1], patches=traces[0].patches)
    assert [p.token_ids for p in traces[0].patches] == [p.token_ids for p in traces[1].patches]
    patches = [patch for trace in traces for patch in trace.patches]
    assert {patch.reason for patch in patches} == {"chosen"}
    assert len({patch.speaker for patch in patches}) > 1
    for patch in patches:
        assert patch.probabilities is not None
        assert patch.probabilities[patch.speaker or 0] == max(patch.probabilities)
    await context.close()


async def test_the_policy_s_rules_are_left_out(scripted: Scripted, word: Any) -> None:
    """Those about speakers and patches, which these methods have themselves."""
    context, _ = made(scripted, word)
    policy = replace(context.policy, opening=1, patch=PatchRule("sentence"))
    context.config = replace(context.config, policy=policy)
    method = TokenLevelPair.nudging(context)
    await method.check()
    (task,) = context.tasks.values()
    trace = await method.answer(task, task.queries("test")[0], 0)
    assert 1 not in {patch.speaker for patch in trace.patches}


async def test_an_engine_without_distributions_is_refused(
    scripted: Scripted, word: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from taketurns.engines import scripted as engines

    monkeypatch.setattr(engines, "_PLAIN", engines._PLAIN - {"next_token"})
    context, engine = made(scripted, word)
    with pytest.raises(ConfigError, match=r"use engine\.kind local"):
        await TokenLevelPair.baco(context).check()
    assert engine.calls == []
