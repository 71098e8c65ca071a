"""Sampling options shape the distribution as transformers' processors and vLLM's sampler do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    LogitsProcessorList,
    MistralConfig,
)
from transformers.generation.logits_process import (
    MinNewTokensLengthLogitsProcessor,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from taketurns.engines.local.engine import LocalEngine
from taketurns.engines.local.logits import LogitsShaper, shaped
from taketurns.engines.local.next_token import draw_tokens
from taketurns.engines.local.sampling import TokenDraw, sample
from taketurns.errors import ConfigError
from taketurns.types import Completion, ModelSpec, Sampling, SamplingOptions, Token
from taketurns.utils.seeds import generator

WORDS = 50
END, STOP = 48, 49
PROMPT = (3, 4, 4, 5, 9, 9, 9, 11)  # the answer begins at the fifth
START = 4
COOLER = TemperatureLogitsWarper(0.8)
BIAS = {(9,): 2.0, (20,): -3.0}
OPTIONS: dict[str, dict[str, Any]] = {
    "top_k": {"top_k": 5},
    "min_p": {"min_p": 0.2},
    "presence": {"presence_penalty": 1.5},
    "frequency": {"frequency_penalty": 0.7},
    "negative": {"frequency_penalty": -0.7, "presence_penalty": -1.1},
    "repetition": {"repetition_penalty": 1.3},
    "encouraged": {"repetition_penalty": 0.6},
    "bias": {"logit_bias": ((7, 4.0), (9, -3.0), (20, 100.0))},
    "min_tokens": {"min_tokens": 2, "stop_token_ids": (STOP,)},
    "ignore_eos": {"ignore_eos": True, "stop_token_ids": (STOP,)},
    "everything": {
        "top_k": 9,
        "min_p": 0.02,
        "presence_penalty": 0.4,
        "frequency_penalty": 0.2,
        "repetition_penalty": 1.2,
        "logit_bias": ((9, 2.0), (30, 5.0)),
        "min_tokens": 1,
        "stop_token_ids": (STOP,),
    },
}


def sampling(temperature: float = 0.8, **options: Any) -> Sampling:
    return Sampling(
        9, temperature, top_p=0.9, answer_start=START, options=SamplingOptions(**options)
    )


def shaper(asked: Sampling, written: Sequence[int] = ()) -> LogitsShaper | None:
    made = LogitsShaper.of(asked, PROMPT, frozenset((END,)))
    for token in written if made is not None else ():
        made.wrote(token)
    return made


def reference(logits: Tensor, asked: Sampling, written: Sequence[int] = ()) -> Tensor:
    """vLLM's sampler, for one row: what is left before top-p, in its order (v1/sample/sampler.py):
    min tokens, biases, repetition, frequency, presence, temperature, min-p, top-k."""
    options, row = asked.options, logits.clone().double()
    answer = [*PROMPT[START:], *written]
    ends = [END, *options.stop_token_ids]
    if len(written) < options.min_tokens:
        row[ends] = -inf
    if options.ignore_eos:
        row[END] = -inf
    for token, bias in options.logit_bias:
        row[token] += bias
    for token in {*PROMPT, *answer}:
        seen = row[token]
        penalty = options.repetition_penalty
        row[token] = seen / penalty if seen > 0 else seen * penalty
    for token in answer:
        row[token] -= options.frequency_penalty
    for token in set(answer):
        row[token] -= options.presence_penalty
    if asked.temperature == 0:
        return row
    row = row / asked.temperature
    if options.min_p:
        probabilities = row.softmax(-1)
        row[probabilities < options.min_p * probabilities.max()] = -inf
    if options.top_k:
        row[row < row.topk(options.top_k).values[-1]] = -inf
    return row


def logits_of(seed: int, rows: int = 1) -> Tensor:
    return torch.randn((rows, WORDS), generator=torch.Generator().manual_seed(seed)) * 3


def same(found: Tensor, expected: Tensor) -> None:
    """The same tokens can be drawn, with the same probabilities."""
    assert (found == -inf).tolist() == (expected == -inf).tolist()
    torch.testing.assert_close(
        found.softmax(-1), expected.softmax(-1).float(), atol=1e-6, rtol=1e-5
    )


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("temperature", [0.0, 0.8, 1.7])
@pytest.mark.parametrize("written", [(), (9, 30, 3)])
def test_a_row_is_what_vllm_makes_of_it(
    name: str, temperature: float, written: tuple[int, ...]
) -> None:
    asked = sampling(temperature, **OPTIONS[name])
    for seed in range(20):
        logits = logits_of(seed)
        found = shaped(logits, [shaper(asked, written)])[0]
        same(found / (temperature or 1.0), reference(logits[0], asked, written))


def warped(
    logits: Tensor, processors: list[Any], ids: Sequence[int] = (*PROMPT, 9, 30, 3)
) -> Tensor:
    return LogitsProcessorList(processors)(torch.tensor([list(ids)]), logits.clone())[0]


@pytest.mark.parametrize(
    ("options", "processors"),
    [
        ({"repetition_penalty": 1.3}, [RepetitionPenaltyLogitsProcessor(1.3), COOLER]),
        ({"repetition_penalty": 0.5}, [RepetitionPenaltyLogitsProcessor(0.5), COOLER]),
        ({"top_k": 5}, [COOLER, TopKLogitsWarper(5)]),
        ({"logit_bias": ((9, 2.0), (20, -3.0))}, [SequenceBiasLogitsProcessor(BIAS), COOLER]),
        ({"min_tokens": 4}, [MinNewTokensLengthLogitsProcessor(len(PROMPT), 4, [END]), COOLER]),
        ({"min_p": 0.1}, [COOLER, MinPLogitsWarper(0.1)]),
        (
            {"repetition_penalty": 1.3, "top_k": 7},
            [RepetitionPenaltyLogitsProcessor(1.3), COOLER, TopKLogitsWarper(7)],
        ),
    ],
)
def test_a_row_is_what_transformers_makes_of_it(
    options: dict[str, Any], processors: list[Any]
) -> None:
    """Where it has the option: temperature after the penalties, and before what leaves tokens
    out."""
    asked = sampling(0.8, **options)
    for seed in range(20):
        logits = logits_of(seed)
        found = shaped(logits, [shaper(asked, (9, 30, 3))])[0]
        same(found / 0.8, warped(logits, processors))


def test_top_p_follows_top_k_as_in_transformers() -> None:
    """The nucleus is that of the tokens that top-k left, renormalised."""
    logits = logits_of(4)
    kept = warped(logits, [TopKLogitsWarper(6), TopPLogitsWarper(0.8)])
    expected = kept.softmax(-1)
    assert 1 < int((expected > 0).sum()) < 6  # top-p leaves some of them out
    count = 20_000
    asked = Sampling(1, 1.0, 0.8, options=SamplingOptions(top_k=6))
    row = shaped(logits, [LogitsShaper.of(asked, (), frozenset())])
    uniform = generator(5).random((count, 2))
    draws = [TokenDraw(1.0, 0.8, first, second) for first, second in uniform]
    chosen = sample(row.expand(count, -1), draws)
    found = torch.bincount(chosen, minlength=WORDS) / count
    torch.testing.assert_close(found, expected, atol=0.012, rtol=0)


def test_a_row_that_asks_for_nothing_is_not_touched() -> None:
    plain = [shaper(Sampling(9)), shaper(sampling(stop_token_ids=(STOP,)))]
    assert plain == [None, None]
    logits = logits_of(1, rows=2)
    assert shaped(logits, plain) is logits
    beside = shaped(logits, [None, shaper(sampling(top_k=1))])
    assert torch.equal(beside[0], logits[0])
    assert int((beside[1] > -inf).sum()) == 1
    assert torch.equal(logits, logits_of(1, rows=2))  # which stay as they are


@given(st.lists(st.sampled_from([None, *OPTIONS]), min_size=1, max_size=9), st.integers(0, 99))
def test_no_row_depends_on_the_others(names: list[str | None], seed: int) -> None:
    """Bit for bit, whatever the others ask for."""
    logits = logits_of(seed, rows=len(names))

    def made() -> list[LogitsShaper | None]:
        asked = [sampling(**OPTIONS[name]) if name else Sampling(9) for name in names]
        return [shaper(one, (9, 3)[: row % 3]) for row, one in enumerate(asked)]

    together = shaped(logits, made())
    alone = [shaped(logits[row : row + 1], [one])[0] for row, one in enumerate(made())]
    assert torch.equal(together, torch.stack(alone))


def test_ids_that_the_logits_do_not_have_are_left_out() -> None:
    """Another model's end token, in a vocabulary that is longer."""
    asked = Sampling(9, stop_token_ids=(999,), options=SamplingOptions(ignore_eos=True))
    made = LogitsShaper.of(asked, (), frozenset((END, 1000)))
    row = shaped(logits_of(1), [made])[0]
    assert (row == -inf).nonzero().flatten().tolist() == [END]
    far = Sampling(9, options=SamplingOptions(logit_bias=((999, 5.0), (2, 1.0))))
    changed = shaped(logits_of(1), [LogitsShaper.of(far, (), frozenset())]) - logits_of(1)
    assert changed.nonzero()[:, 1].tolist() == [2]


def test_outcomes_may_stand_elsewhere_than_their_ids() -> None:
    """As where several models write together: ordinary tokens, and last the end."""
    columns = np.full(WORDS, -1, dtype=np.int64)
    columns[[3, 9, 30]] = [0, 1, 2]
    columns[END] = 3
    asked = sampling(0.0, presence_penalty=1.0, logit_bias=((30, 2.0), (7, 5.0)), min_tokens=1)
    made = shaper(asked)
    row = torch.zeros((1, 4))
    assert shaped(row, [made], columns).tolist() == [[0.0, -1.0, 2.0, -inf]]
    made.wrote(3)
    assert shaped(row, [made], columns).tolist() == [[-1.0, -1.0, 2.0, 0.0]]


# Beside a format


class Only:
    """A constraint that allows some tokens, and after which nothing may follow some of them."""

    def __init__(self, allowed: Sequence[int], ends: bool, dead: Sequence[int] = ()) -> None:
        self.bits = np.packbits(np.isin(np.arange(WORDS), allowed), bitorder="little")
        self.ends = ends
        self.dead = dead

    def may_end(self) -> bool:
        return self.ends

    def leads_on(self, token: int) -> bool:
        return token not in self.dead


def drawn(logits: Tensor, asked: Sampling, constraint: Only) -> int:
    job = SimpleNamespace(
        draw=lambda: TokenDraw(asked.temperature, asked.top_p, 0.5, 0.5),
        shaper=LogitsShaper.of(asked, (), frozenset((END,))),
        allowed=constraint.bits,
        constraint=constraint,
        ends=frozenset((END,)),
    )
    (token,) = draw_tokens(logits, [job], ())  # type: ignore[list-item]
    return token


def test_top_k_is_of_what_a_format_allows() -> None:
    """Also where the most probable of that leads nowhere, which is found out by drawing it."""
    logits = torch.zeros((1, WORDS))
    logits[0, [5, 6, 7]] = torch.tensor([9.0, 8.0, 7.0])
    asked = Sampling(1, 1.0, options=SamplingOptions(top_k=1))
    assert drawn(logits, asked, Only([6, 7], ends=False)) == 6
    assert drawn(logits, asked, Only([5, 6, 7], ends=False, dead=[5, 6])) == 7


def test_an_answer_whose_format_is_complete_ends_before_its_minimal_length() -> None:
    """Fault: no token was left, and one was drawn from NaN."""
    logits = logits_of(1)
    for options in (SamplingOptions(min_tokens=9), SamplingOptions(ignore_eos=True)):
        for temperature in (0.0, 1.0):
            asked = Sampling(9, temperature, options=options)
            assert drawn(logits, asked, Only([], ends=True)) == END
            assert drawn(logits, asked, Only([8], ends=True)) == 8


# In the engine


async def write(
    engine: LocalEngine, asked: Sampling, prompt: Sequence[int], seed: int = 0, model: str = "m"
) -> Completion:
    async with engine.session(seed, 200) as session:
        return await session.generate(model, prompt, asked)


def greedy(model: Any, prompt: Sequence[int], asked: Sampling, end: int, tokens: int) -> list[int]:
    """What the reference would write, from transformers' own forwards."""
    options = asked.options
    start = len(prompt) if asked.answer_start is None else asked.answer_start
    written: list[int] = []
    with torch.inference_mode():
        while len(written) < tokens:
            row = model(torch.tensor([[*prompt, *written]])).logits[0, -1].double()
            if len(written) < options.min_tokens:
                row[[end, *options.stop_token_ids]] = -inf
            if options.ignore_eos:
                row[end] = -inf
            for token, bias in options.logit_bias:
                row[token] += bias
            answer = [*prompt[start:], *written]
            for token in {*prompt, *answer}:
                penalty = options.repetition_penalty
                row[token] = row[token] / penalty if row[token] > 0 else row[token] * penalty
            for token in answer:
                row[token] -= options.frequency_penalty
            for token in set(answer):
                row[token] -= options.presence_penalty
            token = int(row.argmax())
            if token in (end, *options.stop_token_ids):
                break
            written.append(token)
    return written


PENALISED = {
    "presence": {"presence_penalty": 2.0},
    "frequency": {"frequency_penalty": 2.0},
    "repetition": {"repetition_penalty": 1.8},
    "bias": {"logit_bias": ((70, 6.0), (71, 5.5)), "frequency_penalty": 1.0},
}


@pytest.mark.parametrize("name", PENALISED)
async def test_the_engine_writes_what_the_reference_does(
    make_model: Callable[..., Path], name: str
) -> None:
    path = make_model(3)
    model = AutoModelForCausalLM.from_pretrained(path).eval()
    engine = LocalEngine({"m": ModelSpec(str(path))})
    end = next(iter((await engine.info("m")).end_token_ids))
    prompt = tuple(range(60, 80))
    asked = Sampling(24, 0.0, answer_start=12, options=SamplingOptions(**PENALISED[name]))
    plain = await write(engine, Sampling(24, 0.0), prompt)
    found = await write(engine, asked, prompt)
    await engine.close()
    assert list(found.token_ids) == greedy(model, prompt, asked, end, 24)
    assert found.token_ids != plain.token_ids  # the option did something


@pytest.mark.parametrize("config", [None, MistralConfig])
async def test_answers_do_not_depend_on_what_others_ask_for(
    make_model: Callable[..., Path], config: Any
) -> None:
    """In lanes bit for bit, and where each turn is encoded anew."""
    more = {} if config is None else {"config_class": config, "sliding_window": 8}
    path = make_model(1, **more)
    engine = LocalEngine({"m": ModelSpec(str(path))}, deterministic=True if not more else None)
    prompts = [tuple(range(40 + n, 50 + 2 * n)) for n in range(12)]
    names = [*OPTIONS, None]
    asked = [
        replace(sampling(1.0, **(OPTIONS[name] if name else {})), max_tokens=8 + n % 5)
        for n, name in enumerate(names)
    ]
    apart = [
        await write(engine, one, prompt, seed)
        for seed, (one, prompt) in enumerate(zip(asked, prompts, strict=True))
    ]
    together = await asyncio.gather(
        *(
            write(engine, one, prompt, seed)
            for seed, (one, prompt) in enumerate(zip(asked, prompts, strict=True))
        )
    )
    await engine.close()
    assert [one.token_ids for one in together] == [one.token_ids for one in apart]


async def test_ends_wait_for_min_tokens_and_others_are_stops(
    make_model: Callable[..., Path],
) -> None:
    path = make_model(2)
    engine = LocalEngine({"m": ModelSpec(str(path))})
    end = next(iter((await engine.info("m")).end_token_ids))
    prompt = tuple(range(60, 80))

    async def ended(**options: Any) -> Completion:
        biased = ((end, 100.0), *options.pop("also", ()))
        asked = SamplingOptions(logit_bias=biased, **options)
        return await write(engine, Sampling(6, 0.0, logprobs=1, options=asked), prompt)

    at_once = await ended()
    assert (at_once.token_ids, at_once.finish) == ((), "stop")
    assert at_once.end is not None
    assert at_once.end.id == end
    assert at_once.end.logprob < 0
    later = await ended(min_tokens=3)
    assert (len(later.token_ids), later.finish) == (3, "stop")
    never = await ended(ignore_eos=True)
    assert (len(never.token_ids), never.finish, never.end) == (6, "length", None)
    other = await ended(ignore_eos=True, stop_token_ids=(70,), also=((70, 100.0),))
    assert (other.token_ids, other.finish, other.end.id) == ((), "stop", 70)
    held = await ended(min_tokens=2, stop_token_ids=(70,), also=((70, 100.0),))
    assert len(held.token_ids) == 2
    assert 70 not in held.token_ids
    await engine.close()


async def test_a_stop_string_ends_nothing_before_min_tokens(
    make_model: Callable[..., Path],
) -> None:
    """As in vLLM: one that is complete by then is none."""
    engine = LocalEngine({"m": ModelSpec(str(make_model(2)))})
    codec = (await engine.info("m")).codec
    (letter,) = codec.encode("a")
    only = SamplingOptions(logit_bias=((letter, 100.0),))
    asked = Sampling(9, 0.0, stop=("aa",), options=only)
    assert len((await write(engine, asked, (60, 61))).token_ids) == 2
    waiting = replace(asked, options=replace(only, min_tokens=4))
    assert len((await write(engine, waiting, (60, 61))).token_ids) == 5
    await engine.close()


@pytest.mark.parametrize("kind", ["lanes", "exact", "anew"])
async def test_a_prompt_s_own_tokens_have_the_log_probabilities_of_a_forward(
    make_model: Callable[..., Path], kind: str
) -> None:
    more = {"config_class": MistralConfig, "sliding_window": 8} if kind == "anew" else {}
    path = make_model(5, **more)
    model = AutoModelForCausalLM.from_pretrained(path).eval()
    engine = LocalEngine({"m": ModelSpec(str(path))}, deterministic=kind == "exact" or None)
    for length in (1, 2, 31, 32, 33, 300):
        prompt = [30 + 7 * n % 180 for n in range(length)]
        with torch.inference_mode():
            logprobs = model(torch.tensor([prompt])).logits[0].log_softmax(-1)
        async with engine.session(0, 400) as session:
            first, *rest = await session.prompt_logprobs("m", prompt, 3)
            assert first == Token(prompt[0])
            assert [token.id for token in rest] == prompt[1:]
            for place, token in enumerate(rest):
                assert token.logprob == pytest.approx(float(logprobs[place, token.id]), abs=1e-4)
                values, ids = logprobs[place].topk(3)
                assert [other for other, _ in token.top] == ids.tolist()
                assert [p for _, p in token.top] == pytest.approx(values.tolist(), abs=1e-4)
            # What was read for it is kept, and what follows is what follows anyway.
            after = await session.generate("m", prompt, Sampling(6, 0.0))
            again = await session.prompt_logprobs("m", prompt, 0)
        fresh = await write(engine, Sampling(6, 0.0), prompt)
        assert after.token_ids == fresh.token_ids
        assert all(token.top == () for token in again)
        assert [t.logprob for t in again] == [None, *(t.logprob for t in rest)]
    await engine.close()


async def test_prompts_are_scored_alike_in_any_company(make_model: Callable[..., Path]) -> None:
    engine = LocalEngine({"m": ModelSpec(str(make_model(5)))}, deterministic=True)
    prompts = [[30 + n + 3 * k % 150 for k in range(10 + 23 * n)] for n in range(6)]

    async def scored(prompt: list[int]) -> tuple[Token, ...]:
        async with engine.session(0, 200) as session:
            return await session.prompt_logprobs("m", prompt, 2)

    alone = [await scored(prompt) for prompt in prompts]
    beside = [write(engine, Sampling(9), tuple(prompt), n) for n, prompt in enumerate(prompts)]
    together = await asyncio.gather(*map(scored, prompts), *beside)
    await engine.close()
    assert list(together[: len(prompts)]) == alone


def average(logprobs: Tensor) -> Tensor:
    return logprobs.mean(1)


async def test_models_that_write_together_follow_the_options(
    three_models: dict[str, str],
) -> None:
    engine = LocalEngine({name: ModelSpec(path) for name, path in three_models.items()})
    names, prompts = list(three_models), [(50, 51), (60,), (70, 71, 72)]
    end = next(iter((await engine.info("m0")).end_token_ids))

    async def together(**options: Any) -> Completion:
        async with engine.session(0, 100) as session:
            asked = Sampling(8, 0.0, options=SamplingOptions(**options))
            return await session.generate_together(names, prompts, asked, average)

    pushed = await together(logit_bias=((80, 50.0), (81, 49.0)), presence_penalty=2.0)
    assert pushed.token_ids[:2] == (80, 81)
    counted = await together(logit_bias=((80, 50.0),), frequency_penalty=2.0)
    assert set(counted.token_ids) == {80}
    long = await together(logit_bias=((end, 100.0),), ignore_eos=True)
    assert len(long.token_ids) == 8
    stopped = await together(logit_bias=((80, 50.0),), stop_token_ids=(80,), min_tokens=2)
    assert len(stopped.token_ids) == 2
    with pytest.raises(ConfigError, match="repetition_penalty divides the logits of one model"):
        await together(repetition_penalty=1.2)
    await engine.close()
