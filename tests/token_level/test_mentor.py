"""MentorCollab: real models held against plain forwards, scripted ones for who is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

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
    UnavailableError,
)
from taketurns.config.pair_rules import MentorRule
from taketurns.config.policy import Guard, PatchRule
from taketurns.engines.local.engine import LocalEngine
from taketurns.switchers.mentor import OPTIONS, QUESTION, MentorSwitcher
from taketurns.utils.seeds import derive
from tests.token_level import teams
from tests.token_level.reference import mentored, plain
from tests.token_level.teams import tokens

QUESTIONS = ("the street", "at noon, ", "it is her", "red house. ")
TOKENS, LOOKAHEAD, RATE = 24, 3, 0.5


@pytest.fixture(scope="module")
def mentored_pair(
    make_model: Callable[..., Path], printable: Any, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """A model, and the same one with a little noise, so that their next tokens often agree."""
    from transformers import AutoModelForCausalLM

    writer = make_model(12, tokenizer=printable, vocab_size=len(printable))
    model = AutoModelForCausalLM.from_pretrained(writer)
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.02 * torch.randn_like(weight)
    mentor = tmp_path_factory.mktemp("mentor")
    model.save_pretrained(mentor)
    printable.save_pretrained(mentor)
    return {"writer": str(writer), "mentor": str(mentor)}


def made(models: Mapping[str, str], rule: MentorRule, **changes: Any) -> Team:
    settings = {"max_tokens": TOKENS, "patch_size": TOKENS, **changes}
    return teams.made(models, MentorSwitcher(rule), **settings)


def test_an_answer_is_that_of_plain_forwards(mentored_pair: dict[str, str], printable: Any) -> None:
    """Token by token, who wrote which, as the writer judges; and the same in a batch and alone."""
    models = (plain(mentored_pair["writer"]), plain(mentored_pair["mentor"]))
    options = [printable.encode(option, add_special_tokens=False)[0] for option in OPTIONS]
    judged: list[bool] = []

    def prefers_mentor(text: Any, own: list[int], mentors: list[int]) -> bool:
        patches = [printable.decode(patch, skip_special_tokens=True) for patch in (own, mentors)]
        asked = printable.encode(QUESTION.format(*patches), add_special_tokens=False)
        likely = models[0]([*text, *asked])
        judged.append(bool(likely[options[1]] > likely[options[0]]))
        return judged[-1]

    with made(mentored_pair, MentorRule(RATE, LOOKAHEAD)) as team:
        queries = [Query(str(i), text=text) for i, text in enumerate(QUESTIONS)]
        for query, trace in zip(queries, team.generate(queries), strict=True):
            prompt = printable.encode(query.text, add_special_tokens=False)

            def sampled(written: int, identifier: str = query.id) -> bool:
                return derive(0, identifier, "mentor", written) < RATE * 2**63

            expected = mentored(
                models, prompt, sampled, prefers_mentor, LOOKAHEAD, TOKENS,
                printable.eos_token_id,
            )  # fmt: skip
            assert tokens(trace) == expected
            assert tokens(team.generate(query)) == expected
    assert {True, False} == set(judged), "a judge with one answer shows nothing"
    assert len(judged) < RATE * TOKENS * len(QUESTIONS), "somewhere they agreed"


@pytest.fixture(scope="module")
def unlike_models(make_model: Callable[..., Path], other_tokenizer: Any) -> dict[str, str]:
    mentor = make_model(6, tokenizer=other_tokenizer)
    return {"writer": str(make_model(5)), "mentor": str(mentor)}


def test_words_are_compared_and_handed_over_between_two_tokenizers(
    unlike_models: dict[str, str],
) -> None:
    rule = MentorRule(1.0, LOOKAHEAD)
    with made(unlike_models, rule, temperature=1.0, speaker_top_p=1.0) as team:
        queries = [Query(str(i), text=text) for i, text in enumerate(QUESTIONS)]
        traces = team.generate(queries, seed=3)
        assert {patch.speaker for trace in traces for patch in trace.patches} == {0, 1}
        for query, trace in zip(queries, traces, strict=True):
            assert not trace.exact
            assert "".join(patch.text for patch in trace.patches) == trace.text
            assert tokens(team.generate(query, seed=3)) == tokens(trace)


# Scripted models

OWN, MENTORS = "it was in 1810, I say.", "it was in 1815, I say."


def scripted(
    prefer: Callable[[str], float] = lambda text: 0.9,
    rule: MentorRule | None = None,
    names: tuple[str, ...] = ("writer", "mentor"),
    engine: Mapping[str, Any] | None = None,
    **policy: Any,
) -> tuple[Team, ScriptedEngine]:
    """Two who differ in one letter; `prefer` is the probability of the mentor's patch."""

    def saying(answer: str) -> Callable[[str, Any], str]:
        return lambda prompt, sampling: answer[len(prompt) - 1 :]

    answers = {names[0]: OWN, **dict.fromkeys(names[1:], MENTORS)}
    made = ScriptedEngine(
        {name: saying(answer) for name, answer in answers.items()},
        scores={names[0]: lambda text, choices: [1 - prefer(text), prefer(text)]},
        **engine or {},
    )
    rules = Policy(**{"patch_size": 60, "max_tokens": 60} | policy)
    candidates = [Candidate(name, ModelSpec(name, prompt="{text}")) for name in names]
    return Team(candidates, made, MentorSwitcher(rule or MentorRule(1.0, 5)), rules), made


def turns(trace: Trace) -> list[tuple[str, str]]:
    assert trace.error is None
    return [(patch.name, patch.text) for patch in trace.patches]


def joined(trace: Trace) -> list[tuple[str, str]]:
    """Neighbouring patches of one speaker as one."""
    runs: list[tuple[str, str]] = []
    for name, text in turns(trace):
        if runs and runs[-1][0] == name:
            text = runs.pop()[1] + text
        runs.append((name, text))
    return runs


def test_both_write_where_they_differ_and_the_writer_judges() -> None:
    team, engine = scripted()
    trace = team.generate("?")
    assert joined(trace) == [
        ("writer", "it was in 181"), ("mentor", "5, I "), ("writer", "say."),
    ]  # fmt: skip
    (kept,) = (patch for patch in trace.patches if patch.name == "mentor")
    assert kept.probabilities == (pytest.approx(0.1), pytest.approx(0.9))
    assert kept.finish == "switcher"
    (asked,) = (call for call in engine.calls if call.kind == "score")
    assert asked.text == "?it was in 181" + QUESTION.format("0, I ", "5, I ")
    assert asked.model == "writer"


def test_a_judge_that_prefers_its_own_patch_keeps_it() -> None:
    team, _ = scripted(lambda text: 0.2)
    assert joined(team.generate("?")) == [("writer", OWN)]


def test_the_writer_may_be_either_candidate() -> None:
    team, _ = scripted()
    answer = team.generate("?").text
    candidates = (team.candidates[1], team.candidates[0])
    other = Team(candidates, team.engine, MentorSwitcher(MentorRule(1.0, 5, 1)), team.policy)
    trace = other.generate("?")
    assert trace.text == answer == "it was in 1815, I say."
    assert [p.probabilities for p in trace.patches if p.name == "mentor"] == [
        (pytest.approx(0.9), pytest.approx(0.1))
    ]


def test_a_rate_of_0_leaves_the_mentor_out_and_a_patch_of_length_goes_on() -> None:
    team, engine = scripted(rule=MentorRule(0.0))
    assert turns(team.generate("?")) == [("writer", OWN)]
    assert {call.model for call in engine.calls} == {"writer"}
    team, _ = scripted(patch_size=2)
    assert team.generate("?").text == "it was in 1815, I say."


def test_the_text_that_is_streamed_is_that_of_the_patch_that_is_kept() -> None:
    team, _ = scripted()

    async def read() -> list[Any]:
        return [event async for event in team.stream(Query("q", text="?"))]

    events = asyncio.run(read())
    text = "".join(event.text for event in events if isinstance(event, Delta))
    assert text == MENTORS
    assert "".join(event.text for event in events if isinstance(event, Patch)) == MENTORS


def test_a_guard_and_a_stop_string_hold_for_the_patch_that_is_kept() -> None:
    team, _ = scripted(guard=Guard(0, words=("1815",)))
    assert team.generate("?").text == OWN
    team, _ = scripted(stop=("5,",))
    trace = team.generate("?")
    assert (trace.text, trace.finish) == ("it was in 181", "stop")


def test_if_one_of_them_fails_the_other_writes_alone() -> None:
    """The writer says it is without its mentor, and the mentor without the writer."""

    class Down(ScriptedEngine):
        down = ""

        def _record(self, call: Any) -> None:
            if call.model == self.down:
                raise UnavailableError("no server")
            super()._record(call)

    for down, answer in (("mentor", OWN), ("writer", MENTORS)):
        team, engine = scripted()
        failing = Down(engine._scripts, scores=engine._scores)
        failing.down = down
        made = Team(team.candidates, failing, MentorSwitcher(MentorRule(1.0, 5)), team.policy)
        assert made.generate("?").text == answer


def test_a_rival_that_fails_in_its_trial_leaves_the_other_one_s_patch() -> None:
    """Fault: the mentor's next token is known, and then its server is gone."""
    team, engine = scripted()
    whole = team.generate("?").text
    assert whole == MENTORS
    place = next(
        number for number, call in enumerate(engine.calls)
        if call.model == "mentor" and call.sampling is not None and call.sampling.max_tokens > 1
    )  # fmt: skip
    team, _ = scripted(engine={"failures": {place: UnavailableError("gone")}})
    assert team.generate("?").text == OWN


def test_what_cannot_be_is_refused_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    team, engine = scripted(names=("writer", "b", "c"))
    with pytest.raises(ConfigError, match=r"two candidates, not 3 \(writer, b, c\): use two"):
        team.generate("?")
    team, _ = scripted(patch=PatchRule("sentence"))
    with pytest.raises(ConfigError, match=r"remove policy\.patch"):
        team.generate("?")
    with pytest.raises(ConfigError, match="rate, a share, must be from 0 to 1, not 2"):
        MentorRule(2)
    with pytest.raises(ConfigError, match="lookahead must be 1 or more, not 0"):
        MentorRule(lookahead=0)
    with pytest.raises(ConfigError, match="base must be the index of one of two candidates"):
        MentorRule(base=2)
    from taketurns.engines import scripted as engines

    for capability, message in (
        ("token_ids", "the server of writer gives no token ids"),
        ("score", "writer is to judge, but its server reports no log-probabilities"),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(engines, "_PLAIN", engines._PLAIN - {capability})
            team, _ = scripted()
            with pytest.raises(ConfigError, match=message):
                team.generate("?")
    assert engine.calls == []


def test_a_writer_whose_tokenizer_splits_the_options_is_refused(pair: dict[str, str]) -> None:
    """Its letters have no numbers."""
    with made(pair, MentorRule()) as team, pytest.raises(ConfigError, match="does not write 1 as"):
        team.generate("the")


def test_unlike_tokenizers_without_distributions_are_refused(
    unlike_models: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    info = LocalEngine.info

    async def blind(self: Any, model: str) -> Any:
        known = await info(self, model)
        return replace(known, capabilities=known.capabilities - {"next_token"})

    monkeypatch.setattr(LocalEngine, "info", blind)
    with (
        made(unlike_models, MentorRule()) as team,
        pytest.raises(ConfigError, match="between words"),
    ):
        team.generate("the")


def test_if_all_rivals_decline_the_chosen_speaker_writes() -> None:
    """A criterion of one's own may end every trial before its first token."""
    from taketurns.switchers.mentor import MentorDecide

    class Ends:
        finish, entropy, layers = "switcher", False, ()

        def on_token(self, token: Any) -> bool:
            return False

        def should_stop(self, entropy: Any, states: Any) -> bool:
            return True

    team, _ = scripted()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(MentorDecide, "trial", lambda self, speaker, state: Ends())
        trace = team.generate("?")
    assert joined(trace) == [("writer", OWN)]
