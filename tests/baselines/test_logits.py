"""Combining distributions: by hand on three tokens, then on real models."""

from __future__ import annotations

from collections.abc import Callable
from math import log
from pathlib import Path
from typing import Any

import pytest
import torch

from taketurns.errors import UsageError
from taketurns.evaluation.methods.base import MethodContext
from taketurns.evaluation.methods.logits import (
    Contrastive,
    Fusion,
    average_logprobs,
    average_probabilities,
    contrast,
)
from taketurns.evaluation.methods.metering import counting
from taketurns.types import SamplingOptions

ONE, TWO = (0.5, 0.3, 0.2), (0.1, 0.8, 0.1)
TABLE = torch.tensor([[ONE, TWO]]).log()


def test_averages_by_hand() -> None:
    mean = average_probabilities(TABLE)[0].exp()
    torch.testing.assert_close(mean, torch.tensor([0.3, 0.55, 0.15]))
    product = average_logprobs(TABLE)[0].exp()
    torch.testing.assert_close(product, torch.tensor([0.05, 0.24, 0.02]).sqrt())


def test_what_one_excludes_a_product_excludes_and_a_mean_does_not() -> None:
    table = torch.tensor([[(0.0, 1.0), (0.5, 0.5)]]).log()
    assert average_probabilities(table)[0].exp().tolist() == pytest.approx([0.25, 0.75])
    assert average_logprobs(table)[0].exp().tolist() == pytest.approx([0.0, 0.5**0.5])


def test_contrast_by_hand() -> None:
    """The expert's 0.5 / 0.3 / 0.2 / 0.004 against an amateur that likes the first: the second
    wins, and the last, though the amateur likes it least, is not plausible."""
    table = torch.tensor([[(0.5, 0.3, 0.196, 0.004), (0.9, 0.05, 0.0499, 0.0001)]]).log()
    scores = contrast(table)[0]
    by_hand = [1.5 * log(e) - 0.5 * log(a) for e, a in ((0.5, 0.9), (0.3, 0.05), (0.196, 0.0499))]
    assert scores[:3].tolist() == pytest.approx(by_hand, rel=1e-4)
    assert int(scores.argmax()) == 1
    assert scores[3] == float("-inf")


def test_what_the_amateur_excludes_is_not_infinitely_good() -> None:
    table = torch.tensor([[(0.6, 0.4), (1.0, 0.0)]]).log()
    assert torch.isfinite(contrast(table)).all()


async def test_an_answer_written_together_is_nobodys_patch(
    real: Callable[..., MethodContext], three_models: dict[str, str], word: Any
) -> None:
    task = word("t", {"what now?": "x"})
    stage = real(three_models, [task])
    method = Fusion(stage, average_probabilities)
    await method.check()
    query = task.queries("test")[0]
    with counting() as usage:
        trace = await method.answer(task, query, 3)
    (patch,) = trace.patches
    assert (patch.speaker, patch.reason) == (None, "together")
    assert 0 < trace.tokens <= 12
    assert trace.text
    assert usage.read == 3 * len("what now?")
    assert usage.passes == 3 * (trace.tokens + (patch.finish == "stop"))
    assert (await method.answer(task, query, 3)).text == trace.text
    assert (await method.answer(task, query, 4)).text != trace.text
    await stage.close()


async def test_the_policy_s_options_are_those_of_what_is_written_together(
    real: Callable[..., MethodContext], three_models: dict[str, str], word: Any
) -> None:
    task = word("t", {"what now?": "x"})
    pushed = real(three_models, [task], sampling=SamplingOptions(logit_bias=((70, 90.0),)))
    trace = await Fusion(pushed, average_logprobs).answer(task, task.queries("test")[0], 3)
    assert set(trace.patches[0].token_ids) == {70}
    await pushed.close()
    scaled = real(three_models, [task], sampling=SamplingOptions(repetition_penalty=1.5))
    with pytest.raises(UsageError, match="repetition_penalty divides the logits of one model"):
        await Fusion(scaled, average_logprobs).check()
    await scaled.close()


async def test_expert_and_amateur_are_the_best_and_the_worst_on_dev(
    real: Callable[..., MethodContext], three_models: dict[str, str], word: Any, asking: Any
) -> None:
    task = word("t", {"q": "x"})
    stage = real(three_models, [task])
    method = Contrastive(stage)
    assert await method.prepare(asking(stage.tasks)) == {"expert": "m2", "amateur": "m0"}
    assert (await method.answer(task, task.queries("test")[0], 0)).text
    await stage.close()


async def test_other_vocabularies_are_refused_before_anything_runs(
    real: Callable[..., MethodContext],
    three_models: dict[str, str],
    make_model: Callable[..., Path],
    other_tokenizer: Any,
    word: Any,
) -> None:
    foreign = {"m0": three_models["m0"], "foreign": make_model(1, other_tokenizer)}
    stage = real(foreign, [word("t", {"q": "x"})])
    with pytest.raises(UsageError, match="vocabularies of m0, foreign differ"):
        await Fusion(stage, average_logprobs).check()
    await stage.close()
