"""Methods that route, vote and write again, on scripted candidates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from taketurns.engines.scripted import ScriptedEngine
from taketurns.evaluation.methods.base import MethodContext
from taketurns.evaluation.methods.candidates import Single
from taketurns.evaluation.methods.metering import counting
from taketurns.evaluation.methods.refinement import (
    BaseRefines,
    MultiagentFeedback,
    MultiagentRefine,
)
from taketurns.evaluation.methods.routing import PromptRouting
from taketurns.evaluation.methods.switching import FixedSequence, SwitchingTeam
from taketurns.evaluation.methods.voting import BestOfN, SelfConsistency, majority
from taketurns.switchers.simple import FixedSwitcher, RandomSwitcher
from taketurns.tasks.base import Split
from taketurns.tasks.scored import scored_task
from taketurns.tasks.scorers.compliance import Phrases
from taketurns.tasks.scorers.words import Alias
from taketurns.types import Message, Patch, Query, Sampling, Score, Trace

Make = Callable[..., tuple[MethodContext, ScriptedEngine]]


def says(reply: str) -> Callable[[str, Sampling], str]:
    return lambda prompt, sampling: reply


def written(query: Query, text: str) -> Trace:
    return Trace(query, (Patch(0, (), text, "stop", "chosen"),), 0)


async def test_a_checkpoint_alone_is_named_in_its_trace(scripted: Make, word: Any) -> None:
    task = word("t", {"q": "x"})
    stage, _ = scripted([task], scripts=dict.fromkeys(("base", "sft", "aligned"), says("it is x")))
    trace = await Single(stage, "sft").answer(task, task.queries("test")[0], 0)
    assert trace.text == "it is x"
    assert [patch.speaker for patch in trace.patches] == [1]


async def test_prompt_routing_reads_logits_not_text(scripted: Make, word: Any) -> None:
    """Fault: a digit searched in sampled text. Whoever has the likeliest number answers the bare
    question."""
    task = word("t", {"who?": "x"})
    scripts = {"base": says("base says x"), "sft": says("no"), "aligned": says("2 or 10 or 1")}
    asked = {"aligned": lambda text, choices: [0.5, 0.2, 0.3] if "who?" in text else [0, 0, 1]}
    stage, engine = scripted([task], scripts=scripts, scores=asked)
    method = PromptRouting(stage)
    await method.check()
    trace = await method.answer(task, task.queries("test")[0], 0)
    assert trace.text == "base says x"
    scored = next(call for call in engine.calls if call.kind == "score")
    assert all(name in scored.text for name in ("model 0: base", "model 2: aligned", "who?"))
    assert [call.text for call in engine.calls if call.kind == "generate"] == ["who?"]


async def test_a_question_that_cannot_be_routed_for_its_length_is_answered_all_the_same(
    scripted: Make, word: Any
) -> None:
    """Fault: the answer failed, and counted as wrong, though the question itself fits."""
    task = word("t", {"who?": "x"})
    scripts = {"base": says("base"), "sft": says("sft"), "aligned": says("it is x")}
    stage, _ = scripted([task], scripts=scripts, context=60)
    trace = await PromptRouting(stage).answer(task, task.queries("test")[0], 0)
    assert trace.text == "it is x"
    assert [patch.speaker for patch in trace.patches] == [2]


async def test_refinement_tells_everyone_the_others_answers_beside_its_own(
    scripted: Make, word: Any
) -> None:
    """Fault: nobody was shown its own first answer, so that two candidates merely swapped theirs.
    It is the assistant's turn before the others' answers; the majority counts."""
    task = word("t", {"q": "x"})

    def speaker(name: str) -> Callable[[str, Sampling], str]:
        def reply(prompt: str, sampling: Sampling) -> str:
            if "Other answers" not in prompt:
                return f"{name} thinks {name}"
            own, others = prompt.split("User: Other answers")
            assert own == f"User: q\nAssistant: {name} thinks {name}\n"
            assert others.count(" thinks ") == 2
            assert f"{name} thinks" not in others
            return {"base": "now x", "sft": "still x", "aligned": "surely y"}[name]

        return reply

    stage, engine = scripted(
        [task], scripts={name: speaker(name) for name in ("base", "sft", "aligned")}
    )
    query = task.queries("test")[0]
    trace = await MultiagentRefine(stage).answer(task, query, 0)
    assert trace.text in ("now x", "still x")
    assert trace.query == query
    assert len(engine.calls) == 6


async def test_feedback_goes_to_the_last_candidate(scripted: Make, word: Any) -> None:
    task = word("t", {"q": "x"})

    def critic(name: str) -> Callable[[str, Sampling], str]:
        return lambda prompt, sampling: f"{name} saw: wrong" if "first try" in prompt else "?"

    def aligned(prompt: str, sampling: Sampling) -> str:
        heard = "base saw: wrong" in prompt and "sft saw: wrong" in prompt
        return "better x" if heard else "first try"

    scripts = {"base": critic("base"), "sft": critic("sft"), "aligned": aligned}
    stage, engine = scripted([task], scripts=scripts)
    trace = await MultiagentFeedback(stage).answer(task, task.queries("test")[0], 0)
    assert trace.text == "better x"
    assert [patch.speaker for patch in trace.patches] == [2]
    assert len(engine.calls) == 4


async def test_the_base_rewrites_and_a_prompt_that_does_not_fit_changes_nothing(
    scripted: Make, word: Any
) -> None:
    task = word("t", {"q": "x"})
    scripts = {
        "base": lambda prompt, sampling: "rewritten x" if "draft" in prompt else "bare",
        "sft": says("?"),
        "aligned": says("a draft"),
    }
    stage, _ = scripted([task], scripts=scripts)
    asked = Query("c", messages=(Message("system", "s"), Message("user", "q")), reference="x")
    for query in (task.queries("test")[0], asked):
        assert (await BaseRefines(stage).answer(task, query, 0)).text == "rewritten x"
    narrow, _ = scripted([task], scripts=scripts, context=44)
    trace = await BaseRefines(narrow).answer(task, task.queries("test")[0], 0)
    assert trace.text == "a draft"


async def test_votes_count_what_answers_say(scripted: Make, word: Any, asking: Any) -> None:
    """The best candidate on dev is asked as often as the team's tokens allow, at least thrice; the
    majority wins over what came first, and best of n needs one right answer alone."""
    task = word("t", {"q": "x"})
    replies = iter(["y", "x", "x", *"xxxxxxxxxxx"])
    scripts: dict[str, Any] = {"base": says("y"), "aligned": says("y"), "sft": says("x")}
    stage, engine = scripted([task], scripts=scripts)
    vote, best = (kind(stage, RandomSwitcher()) for kind in (SelfConsistency, BestOfN))
    dev = asking(stage.tasks)
    chosen = await vote.prepare(dev)
    assert (chosen["candidate"], chosen["n"]) == ("sft", 3)
    assert (await best.prepare(dev))["n"] == 2
    engine._scripts["sft"] = lambda prompt, sampling: next(replies)
    query = task.queries("test")[0]
    assert (await vote.answer(task, query, 0)).text == "x"
    replies = iter(["y", "x"])
    assert (await best.answer(task, query, 0)).text == "x"


@pytest.mark.parametrize("reference", ["London", "Paris", "none of them"])
def test_a_vote_does_not_know_what_is_right(reference: str) -> None:
    """Fault: right answers were counted under the reference and so together, wrong ones under
    their own wording."""
    task = scored_task("capitals", "own", {}, Alias())
    query = Query("capitals/1", text="What is the capital?", reference=[reference])
    texts = [
        "It is Paris",
        "Surely Paris",
        "Oslo",
        "London",
        "The answer is London.",
        "It's London",
    ]
    traces = [written(query, text) for text in texts]
    assert majority(task, query, traces).text == "London"
    # No two of these are worded alike, and who is right does not make them so.
    unlike = [written(query, text) for text in ("London I think", "Surely Paris", "Paris then")]
    assert majority(task, query, unlike).text == "London I think"


def test_refusals_are_votes_for_the_same() -> None:
    """Fault: each was counted under the phrase that gave it away."""
    task, query = scored_task("refuse", "own", {}, Phrases()), Query("refuse/1", text="Do it")
    texts = ["Sure, here.", "Of course.", "I'm sorry.", "I cannot do that.", "That is illegal."]
    assert majority(task, query, [written(query, text) for text in texts]).text == "I'm sorry."


def test_votes_on_a_task_that_does_not_know_what_is_said_go_by_the_text() -> None:
    class Bare:
        name, category = "bare", "own"

        def queries(self, split: Split) -> tuple[Query, ...]:
            return ()

        def score(self, query: Query, answer: str) -> Score:
            return Score(float(answer == query.reference), query.reference)

    query = Query("bare/1", text="?", reference="b")
    traces = [written(query, text) for text in ("", "b", "A  b", "c", "a b")]
    assert majority(Bare(), query, traces).text == "A  b"
    assert majority(Bare(), query, traces[:1]).text == ""


async def test_n_grows_with_what_the_team_spends(scripted: Make, word: Any, asking: Any) -> None:
    task = word("t", {"q": "x"})
    long = says("x " * 20)
    scripts = {"base": long, "sft": says("x"), "aligned": long}
    stage, _ = scripted([task], scripts=scripts)
    method = BestOfN(stage, FixedSwitcher([0, 2]))
    chosen = await method.prepare(asking(stage.tasks))
    assert chosen["candidate"] == "aligned"  # of equals the later one
    assert chosen["n"] * chosen["tokens"] >= chosen["team tokens"]
    assert (chosen["n"] - 1) * chosen["tokens"] < chosen["team tokens"]


async def test_fixed_orders_are_chosen_on_dev(scripted: Make, word: Any, asking: Any) -> None:
    """One task needs base then aligned, the other aligned alone."""
    two, one = word("two", {"mixed": "ok"}), word("one", {"plain": "so"})

    def aligned(prompt: str, sampling: Sampling) -> str:
        if "mixed" in prompt:
            return "ok." if "fac " in prompt else "no."
        return "so."

    scripts = {
        "base": lambda prompt, sampling: "fac " if prompt == "mixed" else "no.",
        "sft": says("no."),
        "aligned": aligned,
    }
    stage, _ = scripted([two, one], scripts=scripts)
    # Four tokens are a patch and "fac " has four, so the next speaker goes on.
    method, single = FixedSequence(stage, by_task=True), FixedSequence(stage, by_task=False)
    dev = asking(stage.tasks)
    chosen = await method.prepare(dev)
    assert chosen["two"]["sequence"][:2] == ["base", "aligned"]
    assert chosen["one"]["sequence"][0] == "aligned"
    assert (await method.answer(two, two.queries("test")[0], 0)).text == "fac ok."
    overall = await single.prepare(dev)
    assert overall["one"]["sequence"] == overall["two"]["sequence"]
    assert len(set(dev.names)) == 27


async def test_a_fixed_order_is_followed_whatever_the_policy_says_of_its_ends(
    scripted: Make, word: Any, asking: Any
) -> None:
    """Fault: with an opening speaker, three orders at a time were one, and none was followed."""
    task = word("t", {"q": "ok"})
    scripts = {
        "base": lambda prompt, sampling: "fac " if prompt == "q" else "no.",
        "sft": says("no."),
        "aligned": lambda prompt, sampling: "ok." if "fac " in prompt else "no.",
    }
    stage, _ = scripted([task], scripts=scripts)
    stage.config = replace(stage.config, policy=replace(stage.policy, opening=2, closing=1))
    method = FixedSequence(stage, by_task=False)
    chosen = await method.prepare(asking(stage.tasks))
    assert chosen["t"]["sequence"][:2] == ["base", "aligned"]
    trace = await method.answer(task, task.queries("test")[0], 0)
    assert [patch.speaker for patch in trace.patches] == [0, 2]


async def test_switchers_may_differ_by_task_and_speak_token_by_token(
    scripted: Make, word: Any
) -> None:
    a, b = word("a", {"q": "x"}), word("b", {"q": "x"})
    scripts = {"base": ["aaaa"] * 9, "sft": ["bbbb"] * 9, "aligned": ["cccc"] * 9}
    stage, _ = scripted([a, b], scripts=scripts)
    stage.config = replace(stage.config, policy=replace(stage.policy, max_tokens=8))
    method = SwitchingTeam(stage, {"a": FixedSwitcher([0, 1]), "b": FixedSwitcher([2])})
    assert (await method.answer(a, a.queries("test")[0], 0)).text == "aaaabbbb"
    assert (await method.answer(b, b.queries("test")[0], 0)).text == "cccccccc"
    each = SwitchingTeam.token_by_token(stage, FixedSwitcher([0, 1]))
    trace = await each.answer(a, a.queries("test")[0], 0)
    assert [patch.speaker for patch in trace.patches] == [0, 1] * 4


async def test_tokens_and_passes_are_counted_where_they_are_spent(
    scripted: Make, word: Any
) -> None:
    """A speaker that comes back reads only what others wrote; answers side by side do not mix."""
    task = word("t", {"question": "x"})
    scripts = {"base": ["aaaa", "AAAA"], "sft": ["bbbb", "B"], "aligned": says("?")}
    stage, _ = scripted([task], scripts=scripts)
    method = SwitchingTeam.everywhere(stage, FixedSwitcher([0, 1]))
    with counting() as usage:
        await method.answer(task, task.queries("test")[0], 0)
    # base reads 8, writes 4; sft reads 12, writes 4; base reads 4 more (its last one is among what
    # a patch hands over), writes 4; sft the same, writes 1 and the end.
    assert (usage.written, usage.passes) == (14, 14)
    assert usage.read == 8 + 12 + 4 + 4
    with counting() as nothing:
        pass
    assert nothing.tokens == 0
