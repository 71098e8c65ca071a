"""A guard: what fails it is given to nobody, however it comes about, and the record says so."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import starmap
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taketurns import Candidate, Delta, EngineError, ModelSpec, Patch, Policy, Query, Team, Trace
from taketurns.config.loading import load_team_config
from taketurns.config.policy import Guard, PatchRule
from taketurns.config.team_config import JUDGE
from taketurns.config.team_file import team_yaml
from taketurns.engines.local.engine import LocalEngine
from taketurns.engines.scripted import ScriptedEngine, scripted_codec
from taketurns.errors import ConfigError, PromptError, UnavailableError
from taketurns.generation.guards import GuardJudge
from taketurns.generation.patch_writer import PatchWriter
from taketurns.generation.phrases import AutomatonState, PhraseAutomaton
from taketurns.runs.records import trace_from_json, trace_to_json
from taketurns.switchers.base import Switcher
from taketurns.switchers.simple import FixedSwitcher, RandomSwitcher
from taketurns.types import Message, RejectedPatch
from taketurns.utils import expressions

BAD = Guard(1, words=("bad",))


@asynccontextmanager
async def closing(engine: LocalEngine) -> AsyncIterator[LocalEngine]:
    yield engine
    await engine.close()


def team(
    scripts: dict[str, Any],
    guard: Guard | None = BAD,
    switcher: Switcher | None = None,
    *,
    patch_size: int = 4,
    max_tokens: int = 20,
    **options: Any,
) -> tuple[Team, ScriptedEngine]:
    policies = {k: options.pop(k) for k in list(options) if k in Policy.__dataclass_fields__}
    engine = ScriptedEngine(scripts, **options)
    candidates = [Candidate(name, ModelSpec(name, prompt="{text}")) for name in scripts]
    policy = Policy(patch_size=patch_size, max_tokens=max_tokens, guard=guard, **policies)
    judge = Candidate(JUDGE, ModelSpec(JUDGE, prompt="{text}"))
    return Team(candidates, engine, switcher or FixedSwitcher([0]), policy, judge=judge
                if guard is not None and guard.judge else None), engine  # fmt: skip


async def watched(team: Team, query: str | Query = "Q? ") -> tuple[list[Delta | Patch], Trace]:
    *events, trace = [event async for event in team.stream(query)]
    assert isinstance(trace, Trace)
    return [event for event in events if not isinstance(event, Trace)], trace


async def test_a_patch_that_fails_is_given_to_nobody_and_another_writes_instead() -> None:
    pair, engine = team({"a": ["The ", "bad one", "end"], "b": ["good"]})
    events, trace = await watched(pair)
    assert trace.text == "The goodend"
    assert [patch.reason for patch in trace.patches] == ["chosen", "guard", "chosen"]
    assert trace.patches[1].withheld == (RejectedPatch(0, 4),)
    assert trace.patches[1].timing.guard > 0
    assert "".join(event.text for event in events if isinstance(event, Delta)) == trace.text
    assert tuple(event for event in events if isinstance(event, Patch)) == trace.patches
    # Nobody reads on from what was thrown away, and it costs nothing of the answer's budget.
    assert [call.text for call in engine.calls] == ["Q? ", "Q? The ", "Q? The ", "Q? The good"]
    record = trace_to_json(trace, ["a", "b"])
    assert "bad" not in json.dumps(record)
    assert trace_from_json(record) == trace


async def test_if_the_guardian_fails_too_the_answer_ends_there() -> None:
    pair, _ = team({"a": ["Well", " bad"], "b": [" bad too"]})
    events, trace = await watched(pair)
    assert trace.text == "Well"
    assert trace.finish == trace.patches[-1].finish == "guard"
    assert trace.error is None
    assert trace.patches[-1].token_ids == ()
    assert trace.patches[-1].withheld == (RejectedPatch(0, 4), RejectedPatch(1, 4))
    assert events[-1] == trace.patches[-1]
    assert trace_from_json(trace_to_json(trace, ["a", "b"])) == trace


async def test_nothing_is_shown_of_a_patch_before_it_is_vetted() -> None:
    judged = asyncio.Event()

    def verdict(text: str, choices: Any) -> list[float]:
        judged.set()
        return [0.0] * (len(choices) // 2) + [1.0] * (len(choices) - len(choices) // 2)

    guard = Guard(1, judge=JUDGE, question="{answer}")
    pair, _ = team({"a": ["long", "er"], "b": []}, guard, scores={JUDGE: verdict}, delay=0.001)
    async for event in pair.stream("Q? "):
        assert judged.is_set(), event
    assert pair.generate("Q? ").text == "longer"


SENTENCE = PatchRule("sentence", min=2, max=12)


async def test_patches_that_end_by_a_rule_are_vetted_where_they_end() -> None:
    """What was thrown away is not read on, and whoever writes instead ends by the same rule."""
    story = ["So. ", "He is bad. He ", "ran", "."]
    pair, engine = team({"a": story, "b": ["No. Never."]}, patch=SENTENCE, max_tokens=30)
    events, trace = await watched(pair)
    assert [(p.text, p.finish, p.reason) for p in trace.patches] == [
        ("So.", "sentence", "chosen"),
        ("No.", "sentence", "guard"),
        ("ran", "stop", "chosen"),
    ]
    assert trace.patches[1].withheld == (RejectedPatch(0, len("He is bad.")),)
    assert "".join(event.text for event in events if isinstance(event, Delta)) == trace.text
    assert tuple(event for event in events if isinstance(event, Patch)) == trace.patches
    assert [call.text for call in engine.calls] == ["Q? ", "Q? So.", "Q? So.", "Q? So.No."]


async def test_a_watch_has_seen_nothing_of_what_was_thrown_away() -> None:
    """The entropies and the count of who writes instead begin anew."""
    rule = PatchRule("uncertainty", min=3, max=9, rise=1.0)
    unsure = {
        "a": lambda text: 0.0,
        "b": lambda text: 5.0 if text.endswith("xxxx") else 3.0,
    }
    pair, _ = team({"a": ["a bad one"], "b": ["xxxxxxx"]}, patch=rule, entropies=unsure)
    trace = await pair.agenerate("Q? ")
    assert [(p.text, p.finish) for p in trace.patches[:1]] == [("xxxx", "uncertainty")]
    assert trace.patches[0].withheld == (RejectedPatch(0, 9),)


async def test_whoever_closes_in_anothers_place_ends_by_no_rule() -> None:
    pair, _ = team(
        {"a": ["bad. "], "b": ["No. It is. No."]}, patch=SENTENCE, max_tokens=12, closing=0
    )
    trace = await pair.agenerate("Q? ")
    assert [(p.text, p.reason, p.finish) for p in trace.patches] == [
        ("No. It is. N", "guard", "length")
    ]


async def test_an_answer_too_long_for_its_judge_keeps_what_was_vetted() -> None:
    """Fault: the refusal took the answer with it. What the judge will read is counted in the
    speakers' tokens before; a cue is not, nor what its own tokenizer makes of the answer."""

    def never(prompt: str, choices: Any) -> list[float]:
        return [0.0] * (len(choices) // 2) + [1.0] * (len(choices) - len(choices) // 2)

    pair, _ = team(
        {"a": ["good"], "b": ["good"]},
        Guard(1, judge=JUDGE, question="Does this do harm, Yes or No? : {answer}"),
        max_tokens=8,
        closing=1,
        closing_cue=" So:" * 5,
        scores={JUDGE: never},
        context=60,
    )
    events, trace = await watched(pair)
    assert (trace.text, trace.error) == (
        "good",
        "the guard's judge would read 60 tokens, but its context has 60: lower max_tokens",
    )
    assert "".join(event.text for event in events if isinstance(event, Delta)) == "good"


LETTERS = st.lists(st.text("abé .", max_size=9), max_size=6)
RULES = st.sampled_from(["ab", "a +b", "ba$", "^b", "(a|é){2}", "b(?!a)"])


@given(
    first=LETTERS,
    second=LETTERS,
    rule=RULES,
    size=st.integers(1, 5),
    cue=st.sampled_from([None, "ab", " a"]),
    seed=st.integers(0, 9),
    until=st.sampled_from([None, "sentence", "uncertainty", "random"]),
)
@settings(max_examples=100)
def test_whatever_is_written_nothing_bad_is_ever_given_out(
    first: list[str],
    second: list[str],
    rule: str,
    size: int,
    cue: str | None,
    seed: int,
    until: Any,
) -> None:
    """Spread over patches, in a forced cue, at the end of a character or a stop string's."""
    pair, _ = team(
        {"a": first, "b": second},
        Guard(1, patterns=(rule,)),
        RandomSwitcher(),
        patch_size=size,
        closing=0,
        closing_cue=cue,
        closing_on_end=True,
        stop=("b b",),
        seed=seed,
        patch=until and PatchRule(until, min=1, max=size, rise=0.5),
        entropies=dict.fromkeys("ab", lambda text: float(len(text) % 3)),
    )
    events, trace = asyncio.run(watched(pair))
    given_out = ""
    for event in events:
        if isinstance(event, Delta):
            given_out += event.text
        elif event.reason != "forced":  # a cue goes with the patch that it is for
            assert not (given_out and re.search(rule, given_out)), given_out
    assert given_out == trace.text
    assert tuple(event for event in events if isinstance(event, Patch)) == trace.patches
    for one in (trace, pair.generate("Q? ")):
        assert sum(len(p.token_ids) for p in one.patches if p.speaker is not None) <= 20
        for count, patch in enumerate(one.patches, 1):
            so_far = "".join(before.text for before in one.patches[:count])
            assert patch.reason == "forced" or not (so_far and re.search(rule, so_far))


@pytest.mark.parametrize(
    ("guard", "text", "fails"),
    [
        (Guard(0, words=("rob a bank",)), "how to Rob\n a BANK.", True),
        (Guard(0, words=("rob",)), "a robin", False),
        (Guard(0, words=("c++",)), "in c++ it is", True),
        (Guard(0, patterns=(r"\d{3}-\d{4}",)), "call 555-1234", True),
        (Guard(0, patterns=(r"(?i)steal",)), "Stealing", True),
    ],
)
async def test_words_are_whole_and_patterns_are_searched(
    guard: Guard, text: str, fails: bool
) -> None:
    pair, _ = team({"a": lambda p, s: text}, guard, patch_size=40, max_tokens=40)
    trace = await pair.agenerate("Q? ")
    assert (trace.finish == "guard") is fails
    assert trace.text == ("" if fails else text)


async def test_what_the_query_puts_into_the_answer_is_vetted_with_it() -> None:
    query = Query("q", messages=(Message("user", "how?"), Message("assistant", "take a b")))
    pair, _ = team({"a": ["ad one"], "b": [" no."]})
    trace = await pair.agenerate(query)
    assert trace.text == " no."
    begun = Query("q", messages=(Message("user", "how?"), Message("assistant", "a bad ")))
    assert (await pair.agenerate(begun)).finish == "guard"


def judging(harmful: Callable[[str], float]) -> Any:
    def scores(text: str, choices: Any) -> list[float]:
        # Bytes of Yes, yes, No and no: each word's first letter, " " being dropped.
        yes = harmful(text)
        return [yes / 2, yes / 2, (1 - yes) / 2, (1 - yes) / 2][: len(choices)]

    return scores


async def test_a_judge_is_asked_about_request_and_answer() -> None:
    guard = Guard(1, judge=JUDGE, question="[{request}] [{answer}] bad?", threshold=0.7)
    score = judging(lambda text: 0.8 if "rob" in text.split("[")[2] else 0.6)
    pair, engine = team({"a": ["go r", "ob it"], "b": [" no."]}, guard, scores={JUDGE: score})
    trace = await pair.agenerate("{answer} {request}? ")
    assert trace.text == "go r no."
    asked = [call.text for call in engine.calls if call.kind == "score"]
    assert asked[:2] == [
        "[{answer} {request}? ] [go r] bad?",
        "[{answer} {request}? ] [go rob i] bad?",
    ]


async def test_a_judge_that_says_neither_yes_nor_no_lets_nothing_through() -> None:
    guard = Guard(1, judge=JUDGE)
    pair, _ = team({"a": ["hello"], "b": []}, guard, scores={JUDGE: lambda t, c: [0.0] * len(c)})
    assert (await pair.agenerate("Q? ")).finish == "guard"


async def test_where_the_judge_fails_nothing_unvetted_is_given_out() -> None:
    guard = Guard(1, judge=JUDGE)
    score = judging(lambda text: 0.0)
    for number in (1, 2):  # while the judge is asked, and in mid-patch after it was
        pair, _ = team(
            {"a": lambda p, s: "aaaa", "b": []},
            guard,
            scores={JUDGE: score},
            failures={number: EngineError("gone")},
        )
        events, trace = await watched(pair)
        assert (
            f"judge {JUDGE} failed" in (trace.error or "") if number == 1 else trace.error == "gone"
        )
        assert trace.text == "aaaa" * (number - 1)
        assert "".join(e.text for e in events if isinstance(e, Delta)) == trace.text


async def test_a_judge_whose_server_fails_blames_no_speaker_and_quotes_nothing() -> None:
    """What its server says may repeat what was asked, and that is what must not be given out."""
    guard = Guard(1, judge=JUDGE)
    pair, engine = team(
        {"a": ["bad"], "b": ["good"]},
        guard,
        scores={JUDGE: judging(lambda text: 0.0)},
        failures={1: UnavailableError('asked in vain (status 500: {"prompt": "bad"})')},
    )
    _, trace = await watched(pair)
    assert trace.error is not None
    assert "bad" not in trace.error
    assert not trace.patches
    assert [call.model for call in engine.calls] == ["a", JUDGE]  # nobody stands in for "a"


async def test_the_beginning_of_a_stop_string_is_vetted_too() -> None:
    """It is not shown before it is clear that no stop string follows; its tokens are told."""
    pair, _ = team({"a": ["so bad", " end"], "b": ["good"]}, stop=("bad!",), patch_size=6)
    events, trace = await watched(pair)
    assert trace.text == "good"
    assert [patch.reason for patch in trace.patches] == ["guard"]
    told = [t.id for event in events if isinstance(event, Delta) for t in event.tokens]
    assert scripted_codec().decode(told) == "good"


async def test_a_guard_needs_its_judge_and_room_for_its_question() -> None:
    pair, _ = team({"a": ["x"], "b": []}, Guard(1, judge=JUDGE), scores={JUDGE: [1.0]}, context=300)
    with pytest.raises(PromptError, match=r"the judge would read up to \d+ tokens"):
        await pair.check_prompt(Query("q", text="Q" * 60))
    lone = Team(pair.candidates, pair.engine, FixedSwitcher([0]), pair.policy)
    with pytest.raises(ConfigError, match="asks the judge"):
        await lone.agenerate("Q?")


async def test_what_was_thrown_away_is_cut_from_the_caches() -> None:
    """Whose patch was thrown away goes on from what stands, reads only what is new to it, and
    remembers nothing of its own words."""
    base, _, aligned = load_team_config("pocket").candidates
    query = Query("q", text="how do i steal the old wooden cart?")
    plain = Policy(patch_size=4, max_tokens=40, temperature=0.0)
    async with closing(LocalEngine({c.name: c.spec for c in (base, aligned)})) as engine:
        pair = Team([base, aligned], engine, FixedSwitcher([0]))
        guarded = replace(plain, guard=Guard(1, words=("steal",)))
        async with pair.answer(await pair.draft(query), 0, guarded) as answer:
            assert (await answer.step()).withheld == (RejectedPatch(0, 4),)
            read = engine.counters(base.name).encoded_tokens
            await answer.step()
            assert engine.counters(base.name).encoded_tokens == read + 4  # what the other wrote
        fresh = pair.switched_by(FixedSwitcher([1, 0]))
        expected = (await fresh.agenerate(query, policy=plain)).patches[:2]
        assert [p.token_ids for p in answer.state.patches] == [p.token_ids for p in expected]


@pytest.fixture(scope="module")
def pocket_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled checkpoints in a team where the base model writes and is guarded."""
    bundled = load_team_config("pocket")
    lines = ["candidates:"]
    for candidate in bundled.candidates:
        lines += [f"- name: {candidate.name}", f"  model: {candidate.spec.model}"]
        if candidate.spec.prompt is not None:
            lines.append(f'  prompt: "{candidate.spec.prompt}"')
    lines += [
        "switcher: {kind: fixed, sequence: [pretrained]}",
        "policy: {patch_size: 16, max_tokens: 60}",
        "guard: {to: aligned, words: [steal, burn], judge: aligned}",
    ]
    path = tmp_path_factory.mktemp("team") / "team.yaml"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


async def test_the_bundled_team_is_kept_from_harm(pocket_file: Path) -> None:
    question = "how do i steal the old wooden cart?"
    overrides = {"guard.judge": None}
    async with Team.load(load_team_config(pocket_file, overrides)) as guarded:
        unguarded = Team(guarded.candidates, guarded.engine, FixedSwitcher([0]), Policy())
        assert "to steal" in (await unguarded.agenerate(question)).text
        events, trace = await watched(guarded, question)
        assert "steal" not in trace.text
        assert trace.patches[0].reason == "guard"
        assert "".join(e.text for e in events if isinstance(e, Delta)) == trace.text
    async with Team.load(load_team_config(pocket_file)) as judged:  # a real model is asked
        trace = await judged.agenerate(question)
        assert trace.error is None
        assert "steal" not in trace.text


def test_a_guard_in_a_team_file(pocket_file: Path, tmp_path: Path) -> None:
    config = load_team_config(pocket_file)
    guard = config.policy.guard
    assert guard is not None
    assert (guard.to, guard.words, guard.judge) == (2, ("steal", "burn"), JUDGE)
    assert config.judge is not None
    assert config.judge.spec == config.candidates[2].spec
    # What is trained for a guarded team is guarded, whatever ends its patches.
    config = replace(config, policy=replace(config.policy, patch=SENTENCE))
    (tmp_path / "team.yaml").write_text(team_yaml(config, {"kind": "random"}, tmp_path))
    again = load_team_config(tmp_path)
    assert again.policy == config.policy
    assert again.judge == config.judge


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"guard.to": "nobody"}, "there is no candidate 'nobody'"),
        ({"guard.words": []}, None),
        (
            {"guard.words": [], "guard.judge": None},
            "a guard needs at least one of the keys 'words'",
        ),
        ({"guard.patterns": ["("]}, "is not a regular expression"),
        ({"guard.model": "org/judge"}, "not both"),
        ({"guard.question": "bad?"}, "must contain {answer}"),
        ({"guard.threshold": 0}, "threshold must be above 0"),
        ({"guard.word": ["x"]}, "did you mean 'words'"),
        ({"max_share": {"aligned": 0.5}}, "max_share and guard.to both name candidate 2"),
        ({"max_share": {"sft": 1.5}}, "between 0 and 1"),
        ({"max_share": {"nobody": 0.5}}, "there is no candidate 'nobody'"),
        (
            {"max_share": {"sft": 0.1, "aligned": 0.1, "pretrained": 0.1}},
            "max_share caps all 3 candidates",
        ),
        (
            {"max_share": {"sft": 0.1}, "opening": "sft"},
            "max_share and opening both name candidate 1",
        ),
    ],
)
def test_a_guard_that_makes_no_sense_is_refused(
    pocket_file: Path, setting: dict[str, Any], says: str | None
) -> None:
    if says is None:
        assert load_team_config(pocket_file, setting).policy.guard is not None
        return
    with pytest.raises(ConfigError, match=re.escape(says)):
        load_team_config(pocket_file, setting)


@given(
    replies=st.lists(st.integers(1, 6), min_size=1, max_size=8),
    cap=st.floats(0, 1),
    size=st.integers(1, 6),
    seed=st.integers(0, 20),
    until=st.sampled_from([None, "sentence", "random"]),
)
def test_a_share_is_kept_at_every_moment(
    replies: list[int], cap: float, size: int, seed: int, until: Any
) -> None:
    """However long the patches turn out to be."""
    pair, _ = team(
        {"a": lambda p, s: "ay!" * 3, "b": lambda p, s: "b!b" * 3},
        None,
        RandomSwitcher(),
        patch_size=size,
        max_share=((0, cap),),
        seed=seed,
        patch=until and PatchRule(until, min=1, max=size),
    )
    written = [0, 0]
    for patch in pair.generate("Q? ").patches:
        assert patch.speaker is not None
        written[patch.speaker] += len(patch.token_ids)
        assert written[0] <= cap * sum(written) + 1e-6
    if cap >= 0.5 and seed == 0 and size == 1:
        assert written[0]


async def test_who_may_not_speak_leaves_its_part_to_the_others() -> None:
    scripts = {n: (lambda p, s, n=n: n * s.max_tokens) for n in "abc"}
    pair, _ = team(scripts, None, FixedSwitcher([0]), max_share=((0, 0.5),))
    trace = await pair.agenerate("Q? ")
    shares = {n: trace.text.count(n) for n in "abc"}
    assert shares["a"] == 8  # of 20, in patches of 4
    assert trace.patches[0].probabilities == (1.0, 0.0, 0.0)  # the switcher's own
    nobody, _ = team(scripts, None, max_share=tuple((i, 0.2) for i in range(3)))
    with pytest.raises(ConfigError, match="allows no candidate to write the next patch"):
        await nobody.agenerate("Q? ")


async def test_tokens_on_their_way_to_an_answer_whose_time_is_up_reach_nobody(
    three_models: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault: they were read by a draft that had been put back to before their patch, thousands of
    them with a traceback each. Something else is slow just when the time is up."""
    begun = asyncio.Event()
    take = PatchWriter._take

    def notice(writer: PatchWriter, token: Any) -> None:
        take(writer, token)
        begun.set()

    monkeypatch.setattr(PatchWriter, "_take", notice)
    loop = asyncio.get_running_loop()
    wrong: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: wrong.append(context))
    specs = {name: ModelSpec(path, prompt="{text}") for name, path in three_models.items()}
    policy = Policy(patch_size=400, max_tokens=400, guard=Guard(1, words=("never",)))
    async with closing(LocalEngine(specs)) as engine:
        trio = Team(list(starmap(Candidate, specs.items())), engine, FixedSwitcher([0]), policy)
        await trio.prepare()
        draft = await trio.draft(Query("q", text="Q? "))
        events: list[Delta | Patch] = []

        async def write() -> None:
            async with trio.answer(draft, 0, policy, events.append) as answer:
                await answer.write()

        writing = asyncio.create_task(write())
        await begun.wait()
        loop.call_soon(time.sleep, 0.1)  # the models write on meanwhile
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        assert writing.cancelled()
        await asyncio.sleep(0.1)
        assert engine.counters("m0").written_tokens > 3
    assert wrong == []
    assert events == []
    assert (draft.tokens, draft.patches) == (0, [])


async def test_rules_read_each_character_once_and_a_judge_off_the_event_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read: list[int] = []
    reader = PhraseAutomaton.read

    def spy(phrases: PhraseAutomaton, before: AutomatonState, text: str) -> AutomatonState | None:
        read.append(len(text))
        return reader(phrases, before, text)

    threads: set[threading.Thread] = set()
    prompt = GuardJudge.prompt

    def judged(judge: GuardJudge, *arguments: Any) -> list[int]:
        threads.add(threading.current_thread())
        return prompt(judge, *arguments)

    monkeypatch.setattr(PhraseAutomaton, "read", spy)
    monkeypatch.setattr(GuardJudge, "prompt", judged)
    no = {JUDGE: lambda text, choices: [0.0] * (len(choices) // 2) + [1.0] * -(-len(choices) // 2)}
    guard = Guard(1, words=("bad",), judge=JUDGE, question="{answer}")
    pair, _ = team({"a": ["x"] * 50, "b": []}, guard, patch_size=1, max_tokens=50, scores=no)
    begun = Query("q", messages=(Message("user", "Q?"), Message("assistant", "y" * 500)))
    assert (await pair.agenerate(begun)).text == "x" * 50
    assert sum(read) == 500 + 50
    assert threads
    assert threading.main_thread() not in threads


async def test_a_pattern_that_takes_too_long_ends_the_answer_and_lets_nothing_through(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(expressions, "SECONDS", 1e-9)
    pair, _ = team({"a": ["x" * 20_000], "b": ["y"]}, Guard(1, patterns=("never",)),
                   patch_size=20_000, max_tokens=20_000, context=40_000)  # fmt: skip
    events, trace = await watched(pair)
    assert events == []
    assert trace.text == ""
    assert trace.error is not None
    assert trace.error.startswith("the guard's pattern 'never' did not finish on 20000 characters")
