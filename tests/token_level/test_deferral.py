"""A base that defers by a head: real models held against plain forwards, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp
from pathlib import Path
from typing import Any

import pytest
import torch

from taketurns import Candidate, ConfigError, ModelSpec, Query, ScriptedEngine, Team
from taketurns.config.pair_rules import DeferralRule
from taketurns.switchers.deferral import DeferralSwitcher
from taketurns.switchers.head import Head, HeadConfig, Scale
from tests.token_level.reference import deferred, plain
from tests.token_level.teams import TOKENS, made, tokens

QUESTIONS = ("the street", "at noon, ", "it is her", "red house. ", "a", "no one.")
SIZE = 64


def head(
    names: Sequence[str] = ("base", "aligned"), size: int = SIZE, mode: Any = "candidate"
) -> Head:
    """Any head that reads the last layer of the first; of last speakers only the start counts."""
    torch.manual_seed(7)
    scale = Scale(torch.randn(size), torch.rand(size) + 0.5, torch.randn(2, size) / 8)
    bias = torch.tensor([[0.0, 0.0], [0.0, 0.0], [0.5, 0.0]])
    layers = dict.fromkeys(names, (-1,)) if mode == "speaker" else {names[0]: (-1,)}
    return Head(HeadConfig(mode, tuple(names), names[0], layers), {names[0]: scale}, bias)


@pytest.mark.parametrize("threshold", [0.5, 0.7])
def test_an_answer_is_that_of_plain_forwards(
    pair: dict[str, str], letters: Any, threshold: float
) -> None:
    """Token by token, who wrote which, with the head's probability by hand; and in a batch."""
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(pair["base"]).eval()
    models, reads = (plain(pair["base"]), plain(pair["aligned"])), head()
    scale = reads.scales["base"]

    @torch.inference_mode()
    def defers(ids: Sequence[int], start: int) -> bool:
        last = base(torch.tensor([list(ids)]), output_hidden_states=True).hidden_states[-1][0, -1]
        own, other = scale.weight @ ((last - scale.mean) / scale.deviation)
        own += 0.5 if len(ids) == start else 0.0
        return 1 / (1 + exp(float(own - other))) > threshold

    with made(pair, DeferralSwitcher(reads, DeferralRule(threshold))) as team:
        queries = [Query(str(i), text=text) for i, text in enumerate(QUESTIONS)]
        speakers: set[int] = set()
        for query, trace in zip(queries, team.generate(queries), strict=True):
            prompt = letters.encode(query.text, add_special_tokens=False)
            start = len(prompt)
            expected = deferred(
                models, lambda ids, n=start: defers(ids, n), prompt, TOKENS, letters.eos_token_id
            )
            assert tokens(trace) == expected
            speakers.update(speaker for speaker, _ in expected)
            assert tokens(team.generate(query)) == expected
        assert speakers == {0, 1}


def test_the_head_knows_its_candidates_by_name(pair: dict[str, str]) -> None:
    """In another order they write the same."""
    with (
        made(pair, DeferralSwitcher(head())) as team,
        made(dict(reversed(pair.items())), DeferralSwitcher(head())) as other,
    ):
        for text in QUESTIONS:
            swapped = [
                (1 - (speaker or 0), token) for speaker, token in tokens(other.generate(text))
            ]
            assert swapped == tokens(team.generate(text))


def test_words_are_handed_over_whole_between_two_tokenizers(unlike_pair: dict[str, str]) -> None:
    with made(unlike_pair, DeferralSwitcher(head()), temperature=1.0, speaker_top_p=1.0) as team:
        queries = [Query(str(i), text=text) for i, text in enumerate(QUESTIONS)]
        traces = team.generate(queries)
        assert {patch.speaker for trace in traces for patch in trace.patches} == {0, 1}
        for query, trace in zip(queries, traces, strict=True):
            assert "".join(patch.text for patch in trace.patches) == trace.text
            assert tokens(team.generate(query)) == tokens(trace)


@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_the_threshold_goes_from_one_model_alone_to_the_other(
    pair: dict[str, str], threshold: float
) -> None:
    alone = "base" if threshold else "aligned"
    with made(pair, DeferralSwitcher(head(), DeferralRule(threshold))) as team:
        for text in QUESTIONS[:3]:
            trace = team.generate(text)
            assert trace.text == team.alone(alone).generate(text).text
            assert {patch.name for patch in trace.patches} == {alone}


def test_a_decision_costs_no_forward(pair: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The base's states come from the forwards that read the other one's tokens."""
    from taketurns.engines.local.engine import LocalSession

    async def no_more(self: Any, *arguments: Any) -> Any:
        raise AssertionError("states are asked for")

    monkeypatch.setattr(LocalSession, "hidden", no_more)
    with made(pair, DeferralSwitcher(head())) as team:
        turns = [turn for text in QUESTIONS for turn in tokens(team.generate(text))]
        assert {speaker for speaker, _ in turns} == {0, 1}


def scripted(switcher: DeferralSwitcher, names: Sequence[str]) -> tuple[Team, ScriptedEngine]:
    engine = ScriptedEngine(dict.fromkeys(names, "It is."), states={names[0]: lambda text: [0.0]})
    candidates = [Candidate(name, ModelSpec(name, prompt="{text}")) for name in names]
    return Team(candidates, engine, switcher), engine


def test_what_cannot_be_is_refused_before_anything_runs(tmp_path: Path) -> None:
    head(size=1).save(tmp_path)
    known = DeferralSwitcher(str(tmp_path))
    for names, switcher, message in (
        (("base", "aligned", "c"), known, r"two candidates, not 3 \(base, aligned, c\)"),
        (("base", "other"), known, "the head was trained for base, aligned, not for base, other"),
        (("aligned", "base"), known, "the engine of base does not give: use engine"),
        (("base", "aligned"), DeferralSwitcher(head(mode="speaker")), "always reads itself: train"),
        (("base", "aligned"), DeferralSwitcher(str(tmp_path / "no")), "cannot load the head"),
    ):
        team, engine = scripted(switcher, names)
        with pytest.raises(ConfigError, match=message):
            team.generate("?")
        assert engine.calls == []
    with pytest.raises(ConfigError, match="threshold, a probability, must be from 0 to 1"):
        DeferralRule(1.5)


def test_a_head_for_models_of_another_size_writes_nothing(pair: dict[str, str]) -> None:
    switcher = DeferralSwitcher(head(size=32))
    with made(pair, switcher) as team, pytest.raises(ConfigError, match="expects 32 state values"):
        team.generate("the")
