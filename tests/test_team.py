"""The loop: who speaks when, how an answer ends, and that the record is true."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taketurns import (
    Candidate,
    Delta,
    EngineError,
    ModelSpec,
    Patch,
    Policy,
    PromptError,
    Query,
    ScriptedEngine,
    Team,
    Trace,
)
from taketurns.checkpoints.text import TextCodec
from taketurns.engines.local.engine import LocalEngine
from taketurns.engines.scripted import scripted_codec
from taketurns.errors import UnavailableError
from taketurns.switchers.base import Switcher
from taketurns.switchers.lm import LMSwitcher
from taketurns.switchers.simple import FixedSwitcher, RandomSwitcher
from taketurns.types import Message


def team(
    scripts: dict[str, Any], switcher: Switcher, policy: Policy | None = None, **options: Any
) -> tuple[Team, ScriptedEngine]:
    engine = ScriptedEngine(scripts, **options)
    candidates = [Candidate(name, ModelSpec(name, prompt="{text}")) for name in scripts]
    return Team(candidates, engine, switcher, policy or Policy(patch_size=4, max_tokens=20)), engine


def speakers(trace: Trace) -> list[int | None]:
    return [patch.speaker for patch in trace.patches]


def reasons(trace: Trace) -> list[str]:
    return [patch.reason for patch in trace.patches]


def forever(letter: str) -> Callable[..., str]:
    return lambda prompt, sampling: letter * sampling.max_tokens


def test_patches_join_to_the_text_and_each_speaker_continues_it() -> None:
    """Fault: patches joined with spaces, the answer given back as the user's turn."""
    pair, engine = team({"a": ["The ", "!"], "b": ["long"]}, FixedSwitcher([0, 1, 0]))
    trace = pair.generate("Q? ")
    assert trace.text == "The long!"
    prompts = [call.text for call in engine.calls]
    assert prompts == ["Q? ", "Q? The ", "Q? The long"]
    assert "".join(patch.text for patch in trace.patches) == trace.text
    assert trace.exact


def test_an_answer_ends_when_its_speaker_ends_it() -> None:
    """Fault: rounds go on to the budget, or an end is guessed from a patch's length."""
    on = [" on."] * 9  # what they would say if they were asked on, up to the budget
    pair, engine = team({"a": ["Yes.", *on], "b": ["No.", *on]}, FixedSwitcher([0, 1]))
    # "Yes." fills its patch of four tokens, so the answer goes on; "No." is short and ends it.
    trace = pair.generate("Q?")
    assert trace.text == "Yes.No."
    assert [patch.finish for patch in trace.patches] == ["length", "stop"]
    assert trace.finish == "stop"
    assert len(engine.calls) == 2


def test_an_answer_ends_at_its_budget_to_the_token() -> None:
    pair, _ = team({"a": forever("a"), "b": forever("b")}, FixedSwitcher([0, 1]))
    trace = pair.generate("Q?", policy=Policy(patch_size=4, max_tokens=10))
    assert trace.text == "aaaabbbbaa"
    assert trace.tokens == 10
    assert trace.finish == "length"


@pytest.mark.parametrize("pool", [2, 3, 4])
def test_opening_and_closing_speakers_in_a_pool_of_any_size(pool: int) -> None:
    """Fault: the first and last patch are the last model's only when there are exactly three."""
    scripts = {f"m{i}": forever(str(i)) for i in range(pool)}
    policy = Policy(patch_size=4, max_tokens=18, opening=pool - 1, closing=0)
    pair, _ = team(scripts, FixedSwitcher([1]), policy)
    trace = pair.generate("Q?")
    assert speakers(trace) == [pool - 1, 1, 1, 1, 0]
    assert reasons(trace) == ["opening", "chosen", "chosen", "chosen", "closing"]
    assert len(trace.patches[-1].token_ids) == 2
    assert trace.patches[0].probabilities is None
    assert trace.patches[1].probabilities == tuple(float(i == 1) for i in range(pool))


def test_closing_on_end_takes_the_end_away_once() -> None:
    policy = Policy(patch_size=8, max_tokens=40, closing=1, closing_on_end=True)
    pair, engine = team({"a": ["done"], "b": [" indeed"]}, FixedSwitcher([0]), policy)
    trace = pair.generate("Q?")
    assert trace.text == "done indeed"
    assert reasons(trace) == ["chosen", "closing"]
    assert len(engine.calls) == 2
    # The closing speaker's own end stands, and when it wrote the end itself nothing follows.
    pair, _ = team({"a": ["x"], "b": ["y"]}, FixedSwitcher([1]), policy)
    assert pair.generate("Q?").text == "y"


def test_closing_on_end_gives_one_patch_however_long_it_might_go_on() -> None:
    """Fault: a closing patch as long as a patch may be was followed by another, to the budget."""
    policy = Policy(
        patch_size=8, max_tokens=60, closing=1, closing_on_end=True, closing_cue=" So:",
        stop=("bc",),
    )  # fmt: skip
    pair, engine = team({"a": ["done"], "b": forever("b")}, FixedSwitcher([0]), policy)
    trace = pair.generate("Q?")
    assert trace.text == "done So:bbbbbbbb"  # the last b, which might begin a stop string, too
    assert reasons(trace) == ["chosen", "forced", "closing"]
    assert trace.finish == "length"
    assert len(engine.calls) == 2


def test_whoever_stands_in_for_the_closing_speaker_has_the_last_word() -> None:
    """Fault: the end of a stand-in is removed in its turn, and the closing speaker asked again."""
    policy = Policy(patch_size=8, max_tokens=40, closing=1, closing_on_end=True)
    pair, engine = team(
        {"a": ["done", " again", " and again"], "b": [" indeed"]},
        FixedSwitcher([0]),
        policy,
        failures={1: UnavailableError("nobody there")},
    )
    trace = pair.generate("Q?")
    assert trace.text == "done again"
    assert reasons(trace) == ["chosen", "fallback"]
    assert [call.model for call in engine.calls] == ["a", "b", "a"]


def test_a_forced_cue_is_recorded_as_forced() -> None:
    """Fault: " The final answer is" glued onto another model's patch."""
    policy = Policy(patch_size=4, max_tokens=8, closing=1, closing_cue=" So:")
    pair, engine = team({"a": forever("a"), "b": forever("b")}, FixedSwitcher([0]), policy)
    trace = pair.generate("Q?")
    assert trace.text == "aaaa So:bbbb"
    assert speakers(trace) == [0, None, 1]
    assert reasons(trace) == ["chosen", "forced", "closing"]
    assert engine.calls[-1].text == "Q?aaaa So:"


def test_a_forced_cue_is_handed_over_as_it_is_shown(
    make_model: Callable[..., Path], spacing_tokenizer: Any
) -> None:
    """Fault: a tokenizer that begins every text with a space puts one more before the cue."""
    specs = {n: ModelSpec(str(make_model(i, spacing_tokenizer))) for i, n in enumerate("ab")}
    policy = Policy(patch_size=4, max_tokens=8, closing=1, closing_cue=" So:")
    candidates = [Candidate(name, spec) for name, spec in specs.items()]
    with Team(candidates, LocalEngine(specs), RandomSwitcher(), policy) as pair:
        trace = pair.generate("where?")
    cue = next(patch for patch in trace.patches if patch.reason == "forced")
    codec = TextCodec(spacing_tokenizer)
    assert trace.exact
    assert codec.decode([*codec.encode("where?"), *cue.token_ids]) == "where?" + cue.text


def test_a_speaker_that_writes_nothing_cannot_make_it_spin() -> None:
    spins = EngineError("asked over and over")
    pair, engine = team({"a": [""], "b": [""]}, FixedSwitcher([0, 1]), failures={9: spins})
    trace = pair.generate("Q?")
    assert trace.text == ""
    assert trace.error is None
    assert trace.finish == "stop"
    assert len(engine.calls) == 1


@pytest.mark.parametrize("patch_size", [1, 2, 3, 5, 20])
def test_a_stop_string_ends_the_answer_wherever_the_patches_fall(patch_size: int) -> None:
    pair, _ = team(
        {"a": lambda prompt, sampling: "It is 4.\n\nQ: and"[len(prompt) - 2 :], "b": []},
        FixedSwitcher([0]),
    )
    policy = Policy(patch_size=patch_size, max_tokens=40, stop=("\n\nQ:",))
    trace = pair.generate("Q?", policy=policy)
    assert trace.text == "It is 4."
    assert trace.finish == "stop"


def test_a_stop_string_is_seen_where_its_first_character_is_spread_over_two_patches() -> None:
    """Fault: its second half showed nothing, so the engine wrote on, and it counted."""
    ids = scripted_codec().encode("aébcd")
    pair, _ = team({"a": [ids[:2], ids[2:]], "b": []}, FixedSwitcher([0]))
    trace = pair.generate("Q?", policy=Policy(patch_size=2, max_tokens=20, stop=("é",)))
    assert (trace.text, trace.finish) == ("a", "stop")
    assert [patch.token_ids for patch in trace.patches] == [tuple(ids[:2]), tuple(ids[2:3])]


def test_a_context_that_is_full_ends_the_answer() -> None:
    pair, _ = team({"a": forever("a"), "b": forever("b")}, FixedSwitcher([0, 1]), context=12)
    trace = pair.generate("Question")
    assert trace.text == "aaaa"
    assert trace.finish in ("context", "length")
    assert trace.patches[-1].finish == "context"
    with pytest.raises(PromptError, match="the prompt has 12 tokens for a, but its context has 12"):
        pair.generate("A question??")


@pytest.mark.parametrize("patch_size", [1, 2, 3, 4, 5, 7])
def test_a_patch_may_end_inside_a_character(patch_size: int) -> None:
    text = "é€😀 fin"

    ids = scripted_codec().encode(text)
    state = {"at": 0}

    def next_ids(prompt: str, sampling: Any) -> list[int]:
        at = state["at"]
        state["at"] += sampling.max_tokens
        return ids[at : at + sampling.max_tokens]

    pair, _ = team({"a": next_ids, "b": next_ids}, FixedSwitcher([0, 1]))
    trace = pair.generate("Q?", policy=Policy(patch_size=patch_size, max_tokens=60))
    assert trace.text == text
    assert all("\N{REPLACEMENT CHARACTER}" not in patch.text for patch in trace.patches)
    assert [i for patch in trace.patches for i in patch.token_ids] == ids


def test_an_engine_that_fails_keeps_what_was_written() -> None:
    pair, _ = team(
        {"a": forever("a"), "b": forever("b")},
        FixedSwitcher([0, 1]),
        failures={2: EngineError("the server is gone")},
    )
    trace = pair.generate("Q?")
    assert trace.text == "aaaabbbb"
    assert trace.error == "the server is gone"


async def test_streaming_shows_every_piece_once_and_in_order() -> None:
    policy = Policy(patch_size=3, max_tokens=12, closing=1, closing_cue=" So:", stop=("zz",))
    pair, engine = team({"a": forever("é"), "b": forever("z")}, FixedSwitcher([0, 0, 1]), policy)
    events = [event async for event in pair.stream("Q?")]
    trace = events[-1]
    assert isinstance(trace, Trace)
    assert "".join(event.text for event in events if isinstance(event, Delta)) == trace.text
    assert tuple(event for event in events if isinstance(event, Patch)) == trace.patches
    pending = ""
    for event in events[:-1]:
        if isinstance(event, Delta):
            pending += event.text
        elif isinstance(event, Patch):
            assert pending == event.text
            pending = ""
    assert engine.open_sessions == 0


@pytest.mark.parametrize("patch_size", [1, 3, 7])
async def test_every_token_comes_once_with_the_text_it_made_appear(patch_size: int) -> None:
    policy = Policy(patch_size=patch_size, max_tokens=30, stop=("zzz",))
    pair, _ = team({"a": forever("é"), "b": forever("zéz")}, FixedSwitcher([0, 1]), policy)
    told: list[int] = []
    async for event in pair.stream("Q?"):
        if isinstance(event, Delta):
            told += [token.id for token in event.tokens]
        elif isinstance(event, Patch):
            assert tuple(told) == event.token_ids
            told = []
    assert told == []


async def test_leaving_a_stream_closes_its_session() -> None:
    pair, engine = team({"a": forever("a"), "b": forever("b")}, FixedSwitcher([0, 1]), delay=0.01)
    stream = pair.stream("Q?")
    async for _ in stream:
        break
    assert engine.open_sessions == 1
    await stream.aclose()
    assert engine.open_sessions == 0


def test_the_same_seed_gives_the_same_trace_and_another_another() -> None:
    pair, _ = team({"a": forever("a"), "b": forever("b"), "c": forever("c")}, RandomSwitcher())
    policy = Policy(patch_size=1, max_tokens=20)
    first = pair.generate("Q?", policy=policy)
    assert speakers(pair.generate("Q?", policy=policy)) == speakers(first)
    assert speakers(pair.generate("Q?", policy=policy, seed=1)) != speakers(first)
    others = pair.generate(["Q?", "Q?"], policy=policy)  # two queries, two ids, two draws
    assert speakers(others[0]) != speakers(others[1])


def test_the_switcher_reads_the_tagged_trace_and_is_obeyed() -> None:
    def prefer(prompt: str, choices: Any) -> list[float]:
        return [0.9, 0.1] if "<model 0 begins>" not in prompt else [0.1, 0.9]

    engine = ScriptedEngine({"a": forever("a"), "b": forever("b")}, scores={"s": prefer})
    candidates = [Candidate(name, ModelSpec(name)) for name in "ab"]
    pair = Team(candidates, engine, LMSwitcher("s"), Policy(patch_size=4, max_tokens=12))
    trace = pair.generate("Q?")
    assert trace.text == "aaaabbbbbbbb"
    assert trace.patches[0].probabilities == pytest.approx((0.9, 0.1))
    asked = [call.text for call in engine.calls if call.kind == "score"]
    assert asked[1].startswith("Q? <model 0 begins> aaaa <model 0 ends> Which model")


def test_greedy_speakers_still_draw_who_speaks() -> None:
    pair, engine = team({"a": forever("a"), "b": forever("b")}, RandomSwitcher())
    trace = pair.generate("Q?", policy=Policy(patch_size=1, max_tokens=20, temperature=0))
    assert all(call.sampling and call.sampling.temperature == 0 for call in engine.calls)
    assert set(speakers(trace)) == {0, 1}


def test_one_candidate_alone_writes_in_one_patch() -> None:
    policy = Policy(patch_size=4, max_tokens=20, opening=1, closing=1)
    pair, engine = team({"a": ["all of it"], "b": ["no"]}, FixedSwitcher([1]), policy)
    trace = pair.alone("a").generate("Q?")
    assert trace.text == "all of it"
    assert len(engine.calls) == len(trace.patches) == 1
    with pytest.raises(Exception, match="the candidates are a, b"):
        pair.alone("c")


async def test_generate_works_where_a_loop_is_already_running() -> None:
    pair, _ = team({"a": ["hi"], "b": []}, FixedSwitcher([0]))
    assert pair.generate("Q?").text == "hi"


def test_two_tokenizers_hand_over_exact_text(
    make_model: Callable[..., Path], other_tokenizer: Any
) -> None:
    """Random models write all sorts of bytes: each speaker must read whole characters, exactly as
    they are shown."""
    one, two = make_model(1), make_model(2, tokenizer=other_tokenizer)
    specs = {"one": ModelSpec(str(one)), "two": ModelSpec(str(two))}
    engine = LocalEngine(specs)
    read: list[tuple[str, str]] = []
    pair = Team(
        [Candidate(name, spec) for name, spec in specs.items()],
        engine,
        RandomSwitcher(),
        Policy(patch_size=3, max_tokens=40, temperature=1.0, speaker_top_p=1.0),
    )

    async def run() -> list[Trace]:
        original = engine.session

        def spying(seed: int, tokens: int | None = None) -> Any:
            return _Spy(original(seed, tokens), engine, read)

        engine.session = spying  # type: ignore[method-assign]
        return [await pair.agenerate(Query(str(i), text="Où est-il?")) for i in range(6)]

    traces = asyncio.run(run())
    pair.close()
    assert not any(trace.exact for trace in traces)
    assert {len(set(speakers(trace))) for trace in traces} >= {2}
    assert max(trace.tokens for trace in traces) == 40  # a budget is not overrun by its last patch
    for trace in traces:
        assert trace.error is None
        written = ""
        for patch in trace.patches:
            assert ("Où est-il?" + written) in [text for _, text in read]
            written += patch.text
        assert written == trace.text


class _Spy:
    """Notes the text of every prompt."""

    def __init__(self, context: Any, engine: LocalEngine, read: list[tuple[str, str]]) -> None:
        self._context, self._engine, self._read = context, engine, read

    async def __aenter__(self) -> _Spy:
        self._session = await self._context.__aenter__()
        return self

    async def __aexit__(self, *exception: Any) -> Any:
        return await self._context.__aexit__(*exception)

    async def generate(self, model: str, prompt: Any, *rest: Any) -> Any:
        info = await self._engine.info(model)
        self._read.append((model, info.codec.decode(prompt)))
        return await self._session.generate(model, prompt, *rest)


def test_conversations_of_several_turns_reach_every_speaker() -> None:
    pair, engine = team({"a": ["four"], "b": ["."]}, FixedSwitcher([0, 1]))
    turns = (Message("user", "2+2?"), Message("assistant", "4"), Message("user", "Again"))
    pair.generate(Query("t", messages=turns))
    transcript = "User: 2+2?\nAssistant: 4\nUser: Again\nAssistant:"
    assert [call.text for call in engine.calls] == [transcript, transcript + "four"]
