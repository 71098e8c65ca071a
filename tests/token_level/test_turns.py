"""Token-level turns of real models, held against plain forwards, and in a batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch

from taketurns import Query
from taketurns.config.pair_rules import BacoRule, NudgingRule
from taketurns.switchers.baco import FUNCTION_WORDS, BacoSwitcher
from taketurns.switchers.nudging import NudgingSwitcher
from taketurns.switchers.pair import PairSwitcher
from tests.token_level.reference import BaseWrites, plain, turns
from tests.token_level.teams import TOKENS, made, tokens

QUESTIONS = ("the street", "at noon, ", "it is her", "red house. ", "a", "no one.")


def entropy(probabilities: torch.Tensor) -> float:
    return float(torch.special.entr(probabilities).sum())


def marks(text: str | None) -> bool:
    return not any(map(str.isalnum, text or ""))


NUDGING: BaseWrites = lambda likely, text: text is not None and float(likely.max()) >= 0.3  # noqa: E731
RULES: Mapping[str, tuple[PairSwitcher, bool, BaseWrites]] = {
    "nudging": (NudgingSwitcher(NudgingRule(0.3)), True, NUDGING),
    "baco by probability": (
        BacoSwitcher(BacoRule(0.3, content=())),
        False,
        lambda likely, text: float(likely.max()) < 0.3,
    ),
    "baco by entropy": (
        BacoSwitcher(BacoRule(1.8, "entropy", content=())),
        False,
        lambda likely, text: entropy(likely) > 1.8,
    ),
    "baco by punctuation": (
        BacoSwitcher(BacoRule(uncertainty="none")),
        False,
        lambda likely, text: not marks(text),
    ),
    "baco by both": (
        BacoSwitcher(BacoRule(0.35)),
        False,
        lambda likely, text: not marks(text) and float(likely.max()) < 0.35,
    ),
    "baco by function words": (
        BacoSwitcher(BacoRule(0.9, content=("function_words",))),
        False,
        lambda likely, text: (
            (text or "").strip() not in FUNCTION_WORDS and float(likely.max()) < 0.9
        ),
    ),
}


@pytest.mark.parametrize("name", RULES)
def test_an_answer_is_that_of_plain_forwards(name: str, pair: dict[str, str], letters: Any) -> None:
    """Token by token, who wrote which; and the answers of a batch are those of each alone."""
    switcher, anywhere, base_writes = RULES[name]
    models = (plain(pair["base"]), plain(pair["aligned"]))
    with made(pair, switcher) as team:
        queries = [Query(str(i), text=text) for i, text in enumerate(QUESTIONS)]
        together = team.generate(queries)
        speakers: set[int] = set()
        for query, trace in zip(queries, together, strict=True):
            prompt = letters.encode(query.text, add_special_tokens=False)
            expected = turns(models, prompt, base_writes, TOKENS, letters, anywhere=anywhere)
            assert tokens(trace) == expected
            assert trace.text == letters.decode([token for _, token in expected])
            speakers.update(speaker for speaker, _ in expected)
            assert tokens(team.generate(query)) == expected
        assert speakers == {0, 1}, "a rule by which one of them writes all shows nothing"


@pytest.mark.parametrize("anywhere", [True, False])
def test_words_are_handed_over_whole_between_two_tokenizers(
    unlike_pair: dict[str, str], anywhere: bool
) -> None:
    """As text that each reads in its own tokens: nothing is lost, in a batch or alone."""
    switcher = NudgingSwitcher(NudgingRule(0.3)) if anywhere else BacoSwitcher(BacoRule(0.5))
    with made(unlike_pair, switcher, temperature=1.0) as team:
        queries = [Query(str(i), text=text) for i, text in enumerate(QUESTIONS)]
        traces = team.generate(queries)
        assert {patch.speaker for trace in traces for patch in trace.patches} == {0, 1}
        for query, trace in zip(queries, traces, strict=True):
            assert not trace.exact
            assert "".join(patch.text for patch in trace.patches) == trace.text
            assert tokens(team.generate(query)) == tokens(trace)
            for patch in trace.patches[:-1]:
                assert patch.finish == "switcher"
                assert patch.text.strip() or not anywhere or patch.speaker == 0


@pytest.mark.parametrize("gamma", [0.0, 1.0])
def test_the_knob_goes_from_one_model_alone_to_the_other(
    pair: dict[str, str], gamma: float, letters: Any
) -> None:
    """By probability alone, BACo's gamma 0 leaves the base nothing and 1 everything."""
    alone = "base" if gamma else "aligned"
    with made(pair, BacoSwitcher(BacoRule(gamma, content=()))) as team:
        for text in QUESTIONS[:4]:
            trace = team.generate(text)
            assert trace.text == team.alone(alone).generate(text).text
            assert {patch.name for patch in trace.patches} == {alone}


def test_the_base_reads_and_writes_in_one_forward_a_token(
    pair: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A decision costs no forward: the base has one for each word of the other one and for each of
    its own tokens but the first after that."""
    from taketurns.engines.local.engine import LocalSession

    calls: list[str] = []
    generate = LocalSession.generate

    async def counted(self: Any, model: str, *arguments: Any) -> Any:
        calls.append(model)
        return await generate(self, model, *arguments)

    monkeypatch.setattr(LocalSession, "generate", counted)
    with made(pair, NudgingSwitcher(NudgingRule(0.3))) as team:
        trace = team.generate(QUESTIONS[0])
    words = sum(patch.speaker == 1 for patch in trace.patches)
    assert calls.count("aligned") == words
    assert calls.count("base") <= 1 + words


def test_sampled_answers_are_the_same_in_a_batch(pair: dict[str, str]) -> None:
    for switcher in (NudgingSwitcher(NudgingRule(0.3)), BacoSwitcher(BacoRule(0.35))):
        with made(pair, switcher, temperature=1.0, speaker_top_p=1.0) as team:
            queries = [Query(str(i), text=text) for i, text in enumerate(QUESTIONS)]
            together = team.generate(queries, seed=5)
            alone = [team.generate(query, seed=5) for query in queries]
            assert [tokens(trace) for trace in alone] == [tokens(trace) for trace in together]
