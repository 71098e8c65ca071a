"""Patches that end by a rule: nothing is lost between them, and they are as long as they may be."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from taketurns import Candidate, ConfigError, ModelSpec, Policy, Query, ScriptedEngine, Team
from taketurns.config.loading import load_team_config
from taketurns.config.policy import PatchRule
from taketurns.engines.scripted import scripted_codec
from taketurns.generation.stopping import SentenceEnd
from taketurns.switchers.base import Switcher
from taketurns.switchers.head import Head, HeadConfig, HeadSwitcher, Scale
from taketurns.switchers.simple import FixedSwitcher, RandomSwitcher
from taketurns.types import Delta, Patch, Token, Trace

NAMES = ("a", "b", "c")
RULES = ("sentence", "uncertainty", "switcher", "random")
QUESTION = "Q?"


def number(text: str, *names: str) -> float:
    """Some number in [0, 1) that follows from a text."""
    found = blake2b("/".join((text, *names)).encode(), digest_size=4).digest()
    return int.from_bytes(found, "big") / (1 << 32)


def head(mode: Any = "speaker") -> Head:
    """Its logits are the states."""
    config = HeadConfig(mode, NAMES, "a", dict.fromkeys(NAMES, (1,)))
    scales = {name: Scale(torch.zeros(3), torch.ones(3), torch.eye(3)) for name in NAMES}
    return Head(config, scales, torch.zeros(4, 3))


def switched_by(folder: Path, states: Callable[[str], Sequence[float]]) -> dict[str, Any]:
    """A head, and the states it reads."""
    return {"switcher": HeadSwitcher(str(folder)), "states": dict.fromkeys(NAMES, states)}


def team(
    text: str,
    policy: Policy,
    switcher: Switcher | None = None,
    states: dict[str, Any] | None = None,
    entropies: dict[str, Any] | None = None,
) -> Team:
    """Whoever speaks continues the same text, so a word that is lost or said twice shows."""

    ids = scripted_codec().encode(text)
    written = {scripted_codec().decode(ids[:count]): count for count in range(len(ids) + 1)}

    def go_on(prompt: str, sampling: Any) -> list[int]:
        return ids[written[prompt.removeprefix(QUESTION)] :][: sampling.max_tokens]

    engine = ScriptedEngine(
        dict.fromkeys(NAMES, go_on), states=states, entropies=entropies, context=100_000
    )
    candidates = [Candidate(name, ModelSpec(name, prompt="{text}")) for name in NAMES]
    return Team(candidates, engine, switcher or RandomSwitcher(), policy)


def ask(team: Team) -> tuple[Trace, list[Delta | Patch | Trace]]:
    """The answer, and what a reader sees of it as it is written."""

    async def both() -> tuple[Trace, list[Any]]:
        query = Query("q", text=QUESTION)
        return await team.agenerate(query), [event async for event in team.stream(query)]

    return asyncio.run(both())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("head")
    head().save(found)
    return found


@settings(max_examples=40)
@given(data=st.data())
@pytest.mark.parametrize("until", RULES)
def test_nothing_is_lost_repeated_or_reordered(until: Any, folder: Path, data: Any) -> None:
    words = st.sampled_from(["so ", "No. ", "é", "3.5", "Eh?", "\n", "a.b", "!"])
    text = "".join(data.draw(st.lists(words, min_size=1, max_size=40)))
    least = data.draw(st.integers(1, 6))
    rule = PatchRule(
        until,
        min=least,
        max=least + data.draw(st.integers(0, 8)),
        rise=data.draw(st.sampled_from([0.1, 0.5])),
        margin=data.draw(st.sampled_from([0.0, 0.1, 0.3])),
        dwell=data.draw(st.integers(1, 3)),
    )
    budget = data.draw(st.integers(1, 120))
    policy = Policy(max_tokens=budget, patch=rule, seed=data.draw(st.integers(0, 99)))
    own = switched_by(folder, lambda seen: [3 * number(seen, n) for n in NAMES])
    if until != "switcher":
        own = {}
    sure = dict.fromkeys(NAMES, number)
    trace, events = ask(team(text, policy, entropies=sure, **own))
    ids = [token for patch in trace.patches for token in patch.token_ids]
    assert ids == scripted_codec().encode(text)[:budget]
    assert trace.error is None
    assert trace.text == scripted_codec().decode(ids).rstrip("\N{REPLACEMENT CHARACTER}")
    *handed_over, last = trace.patches
    assert all(rule.min <= len(patch.token_ids) <= rule.max for patch in handed_over)
    assert len(last.token_ids) <= rule.max
    assert {patch.finish for patch in handed_over} <= {"length", until}
    assert trace.finish in ("stop", "length")
    # Who watches sees the same, as it comes.
    streamed = events[-1]
    assert isinstance(streamed, Trace)
    assert [(p.token_ids, p.finish, p.speaker) for p in streamed.patches] == [
        (p.token_ids, p.finish, p.speaker) for p in trace.patches
    ]
    assert "".join(e.text for e in events if isinstance(e, Delta)) == trace.text


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("He came. She left", ["He came."]),
        ('"Go!" she said', ['"Go!', '"Go!"']),
        ("It is 3.5 m", []),
        ("in 1990. Then", []),  # the next token will tell, and this one is written
        ("that is, i.e. this", []),
        ("J. Smith", []),
        ("one 60 . two", ["one 60 ."]),
        ("a\nb", ["a\n"]),
        ("(Yes.) No", ["(Yes.", "(Yes.)"]),
        ("Really?! No", ["Really?", "Really?!"]),
        ("日本。次", ["日本。"]),
    ],
)
def test_where_a_sentence_ends(text: str, ends: list[str]) -> None:
    codec = scripted_codec()
    watch = SentenceEnd(PatchRule("sentence", min=1), codec.stream())
    ids = codec.encode(text)
    found = [i for i, token in enumerate(ids, start=1) if watch.on_token(Token(token))]
    said = [codec.decode(ids[:i]) for i in found]
    assert [one for one in said if one == one.rstrip() or one.endswith("\n")] == ends
    # A server that gives no ids is followed by its text.
    watch = SentenceEnd(PatchRule("sentence", min=1), codec.stream())
    assert [i for i, c in enumerate(text, 1) if watch.on_token(Token(None, c))] == [
        len(one) for one in said
    ]


def test_a_patch_ends_before_the_token_that_its_speaker_is_unsure_of() -> None:
    unsure = {"a": lambda text: 2.0 if text.endswith("e = ") else 0.5, "b": lambda text: 2.0}
    rule = PatchRule("uncertainty", min=2, max=40, rise=1.0)
    policy = Policy(max_tokens=30, patch=rule)
    pair = team("the age = 7, the age = 8", policy, FixedSwitcher([0, 1]), entropies=unsure)
    trace, _ = ask(pair)
    # Whoever is unsure all the time is not growing unsure.
    assert [(p.text, p.finish) for p in trace.patches] == [
        ("the age = ", "uncertainty"),
        ("7, the age = 8", "stop"),
    ]
    trace, _ = ask(team("e = e = e = ", policy, FixedSwitcher([0]), entropies=unsure))
    assert [p.text for p in trace.patches] == ["e = ", "e = ", "e = "]


@settings(max_examples=40)
@given(
    dwell=st.integers(1, 4),
    margin=st.floats(0, 0.6),
    least=st.integers(1, 9),
    salt=st.text("xyz", max_size=3),
)
@example(dwell=1, margin=0.5625, least=1, salt="zz")
def test_hysteresis_bounds_the_switches(
    dwell: int, margin: float, least: int, salt: str, folder: Path
) -> None:
    """Fault: speakers that chatter where the switcher cannot decide."""

    def states(seen: str) -> list[float]:
        return [2 * number(seen, salt, name) for name in NAMES]

    def lead(seen: str, speaker: int) -> float:
        p = torch.tensor(states(seen)).softmax(-1).tolist()
        return max(q for i, q in enumerate(p) if i != speaker) - p[speaker]

    rule = PatchRule("switcher", min=least, max=50, margin=margin, dwell=dwell)
    policy = Policy(max_tokens=90, patch=rule, greedy_switcher=True)
    trace, _ = ask(team("x" * 90, policy, **switched_by(folder, states)))
    switches = sum(one.speaker != other.speaker for one, other in pairwise(trace.patches))
    assert switches <= 90 / least
    written = QUESTION
    for patch in trace.patches:
        assert patch.speaker is not None
        after = [written + patch.text[: i + 1] for i in range(len(patch.text))]
        wanted = [lead(seen, patch.speaker) >= margin for seen in after]
        ready = [
            i + 1 >= least and i + 1 >= dwell and all(wanted[i + 1 - dwell : i + 1])
            for i in range(len(after))
        ]
        # It ends where it first may, and nowhere else; at its longest it ends by its length.
        assert not any(ready[:-1])
        longest = len(after) == rule.max or patch is trace.patches[-1]
        assert ready[-1] == (patch.finish == "switcher") or longest
        written += patch.text


def test_a_head_that_flips_at_every_token_changes_nobody(folder: Path) -> None:
    def flips(seen: str) -> list[float]:
        return [5.0 * (len(seen) % 2), 5.0 * (1 - len(seen) % 2), 0.0]

    rule = PatchRule("switcher", min=1, max=40, dwell=2)
    policy = Policy(max_tokens=40, patch=rule, greedy_switcher=True)
    calm, _ = ask(team("x" * 40, policy, **switched_by(folder, flips)))
    assert len(calm.patches) == 1
    eager = replace(policy, patch=replace(rule, dwell=1))
    chattering, _ = ask(team("x" * 40, eager, **switched_by(folder, flips)))
    assert len(chattering.patches) == 40


@pytest.mark.parametrize("until", ["sentence", "random"])
def test_a_closing_patch_is_as_long_as_it_may_be(until: Any) -> None:
    """Or its cue would be put before each of its sentences."""
    rule = PatchRule(until, min=1, max=8)
    policy = Policy(max_tokens=22, closing=2, closing_cue=" So: ", patch=rule)
    scripts = {n: lambda prompt, sampling: ("a. b. " * 20)[: sampling.max_tokens] for n in NAMES}
    candidates = [Candidate(name, ModelSpec(name)) for name in NAMES]
    trace, _ = ask(Team(candidates, ScriptedEngine(scripts), RandomSwitcher(), policy))
    assert [patch.reason for patch in trace.patches][-2:] == ["forced", "closing"]
    assert [patch.reason for patch in trace.patches].count("forced") == 1
    assert trace.tokens - len(trace.patches[-2].token_ids) == 22


def test_a_text_that_is_handed_over_as_text_is_whole(
    make_model: Callable[..., Path], other_tokenizer: Any
) -> None:
    """Tokenizers that differ: a patch that a rule ends inside a character is finished first."""
    names = {"m0": make_model(0), "m1": make_model(1, tokenizer=other_tokenizer)}
    from taketurns.engines.local.engine import LocalEngine

    specs = {name: ModelSpec(str(path)) for name, path in names.items()}
    rule = PatchRule("uncertainty", min=1, max=4, rise=0.01)
    policy = Policy(max_tokens=40, temperature=1.0, speaker_top_p=1.0, patch=rule)
    candidates = [Candidate(name, spec) for name, spec in specs.items()]
    with Team(candidates, LocalEngine(specs), RandomSwitcher(), policy) as pair:
        for seed in range(4):
            trace = pair.generate("Où ?", seed=seed)
            assert trace.error is None
            assert not trace.exact
            assert {"uncertainty"} <= {patch.finish for patch in trace.patches[:-1]}
            assert all(1 <= len(p.token_ids) <= 4 + 3 for p in trace.patches[:-1])


def test_who_cannot_end_patches_so_says_so(tmp_path: Path) -> None:
    policy = Policy(patch=PatchRule("switcher"))
    with pytest.raises(ConfigError, match="only a switcher of kind head supports") as caught:
        team("x", policy).generate("?")
    assert "\n" not in str(caught.value)
    head("candidate").save(tmp_path)
    other = team(
        "x", policy, HeadSwitcher(str(tmp_path)), states=dict.fromkeys(NAMES, lambda seen: [0.0])
    )
    with pytest.raises(ConfigError, match="the head always reads a, so"):
        other.generate("?")


# The bundled team


def pocket(rule: PatchRule | None, **changes: Any) -> Team:
    bundled = Path(str(load_team_config("pocket").source)).parent / "switchers" / "global"
    config = load_team_config(bundled, changes)
    return Team.load(replace(config, policy=replace(config.policy, patch=rule)))


QUESTIONS = ("what is 17 + 25 ?", "how old is rebol fonul?", "what is 81 - 69 + 4 ?")


@pytest.mark.parametrize("until", RULES)
def test_the_real_team_writes_the_same_in_a_batch_and_alone(until: Any) -> None:
    """And streaming: a rule costs neither batching nor exactness."""
    rule = PatchRule(until, min=3, max=24, rise=0.5)
    with pocket(rule) as team:
        queries = [Query(str(i), text=text) for i, text in enumerate(QUESTIONS)]
        together = team.generate(queries)
        alone = [team.generate(query) for query in queries]
        for one, other in zip(together, alone, strict=True):
            assert one.error is None
            assert [p.token_ids for p in one.patches] == [p.token_ids for p in other.patches]
            assert [p.finish for p in one.patches] == [p.finish for p in other.patches]
            assert all(3 <= len(p.token_ids) <= 24 for p in one.patches[:-1])
    if until != "random":
        assert until in {p.finish for trace in together for p in trace.patches}


async def test_the_rules_see_what_the_models_say() -> None:
    """The head that looks on reads the states that it would be asked with at a boundary, and the
    entropy is that of the next token."""
    rule = PatchRule("switcher", min=2, max=40, margin=0.0, dwell=1)
    team = pocket(rule)
    query = Query("0", text=QUESTIONS[1])
    trace = await team.agenerate(query)
    draft = await team.draft(query)
    decide = team._switcher.begin(query, team.policy)  # the one that wrote the trace
    names = [candidate.name for candidate in team.candidates]
    async with team.engine.session(0) as session:
        for patch in trace.patches:
            assert patch.speaker is not None
            for taken in range(1, len(patch.token_ids) + 1):
                inside = draft.copy()
                inside.replay(patch, taken)
                p = await decide(session, inside)
                ahead = max(q for i, q in enumerate(p) if i != patch.speaker) > p[patch.speaker]
                ended = taken == len(patch.token_ids) and patch.finish == "switcher"
                assert ended == (ahead and taken >= 2) or patch.finish == "stop"
            draft.replay(patch, len(patch.token_ids))
        assert "switcher" in {patch.finish for patch in trace.patches}
        seen: list[float] = []

        class Spy:
            finish, entropy, layers = "uncertainty", True, ()

            def on_token(self, token: Token) -> bool:
                return False

            def should_stop(self, entropy: float, states: Any) -> bool:
                seen.append(entropy)
                return len(seen) == 5

        from taketurns.types import Sampling

        prompt = (await team.draft(query)).prompt(0)
        done = await session.generate(names[0], prompt, Sampling(9, stopping=Spy()))  # type: ignore[arg-type]
        assert (len(done.token_ids), done.finish) == (4, "uncertainty")
        for taken, entropy in enumerate(seen):
            logprobs = await session.next_logprobs(names[0], [*prompt, *done.token_ids[:taken]])  # type: ignore[attr-defined]
            assert entropy == pytest.approx(-(logprobs.exp() * logprobs).sum().item(), abs=1e-4)
    await team.aclose()


async def test_a_watch_costs_no_reading() -> None:
    """The model that writes reads its own tokens once, whoever looks on."""
    read = {}
    for rule in (None, PatchRule("switcher", min=16, max=16)):
        team = pocket(rule, patch_size=16)
        await team.agenerate(Query("0", text=QUESTIONS[1]))
        names = [candidate.name for candidate in team.candidates]
        counters = [team.engine.counters(name) for name in names]  # type: ignore[attr-defined]
        read[rule] = [(one.encoded_tokens, one.written_tokens) for one in counters]
        await team.aclose()
    assert len(set(map(tuple, read.values()))) == 1
