"""Models without lanes: their turns share forwards and go on from the last turn's cache, and each
answer is what it would be alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from math import inf, nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, BloomConfig, DynamicCache, GPTNeoConfig, MptConfig

from taketurns.engines.local import reencode
from taketurns.engines.local.continuation import continued_bytes
from taketurns.engines.local.engine import LocalEngine
from taketurns.engines.local.equivalence import Truth, Turn, differs
from taketurns.engines.local.parked import Parked
from taketurns.engines.local.plain_forward import PlainForward
from taketurns.engines.local.reencode import ReencodeRunner, Reencoding
from taketurns.engines.local.requests import (
    UNNAMED,
    GenerateRequest,
    PromptScoreRequest,
    ScoreRequest,
)
from taketurns.engines.local.small_copy import FIRST_ID, VOCABULARY, small_config, small_model
from taketurns.errors import EngineError, FormatError, NotANumberError
from taketurns.types import ModelSpec, Sampling, Token

IDS = range(FIRST_ID, VOCABULARY)
PROMPTS = ([*range(40, 63)], [*range(70, 75)], [*range(60, 91)], [*range(50, 61)])
CONFIGS = {"bloom": BloomConfig, "mpt": MptConfig, "gpt_neo": GPTNeoConfig}
BLOOM: dict[str, Any] = {"config_class": BloomConfig, "n_layer": 2, "n_head": 4}
BATCHED = "re-encoded, in batches"


@cache
def small(kind: str) -> Any:
    """A small model with weights that show what each layer reads."""
    config = small_config(CONFIGS[kind]())
    return small_model(
        AutoModelForCausalLM._model_mapping[type(config)], config, None, torch.float32
    )


def runner_of(model: Any, rows: int = 8, **how: Any) -> ReencodeRunner:
    plain = PlainForward(model)
    how.setdefault("continued_bytes", continued_bytes(plain))
    return ReencodeRunner(plain, how=Reencoding(rows, **how))


class Results:
    """What a runner's jobs came to, by number."""

    def __init__(self, runner: ReencodeRunner) -> None:
        self.runner = runner
        self.done: dict[int, Any] = {}
        self.failed: dict[int, Exception] = {}

    def callbacks(self, number: int) -> tuple[Callable[[Any], None], Callable[[Exception], None]]:
        def keep(value: Any) -> None:
            assert number not in {**self.done, **self.failed}, "called once"
            self.done[number] = value

        def fail(error: Exception) -> None:
            assert number not in {**self.done, **self.failed}, "called once"
            self.failed[number] = error

        return keep, fail

    def write(
        self, number: int, prompt: Sequence[int], tokens: int = 6, parked: Parked | None = None,
        **sampling: Any,
    ) -> GenerateRequest:  # fmt: skip
        job = GenerateRequest(
            prompt,
            parked or Parked(),
            *self.callbacks(number),
            sampling=Sampling(tokens, temperature=0.0, **sampling),
            codec=None,  # type: ignore[arg-type]
            end_token_ids=frozenset(),
            random=np.random.default_rng(number),
        )
        self.runner.submit(job)
        return job

    def run(self, rounds: int = 100) -> None:
        for _ in range(rounds):
            if not self.runner.busy:
                return
            self.runner.step()


def greedy(model: Any, prompt: Sequence[int], tokens: int = 6) -> tuple[int, ...]:
    """What a model writes by a whole forward a token."""
    ids = list(prompt)
    for _ in range(tokens):
        ids.append(int(PlainForward(model)(ids).logits[0, -1].argmax()))
    return tuple(ids[len(prompt) :])


# In a batch


@st.composite
def rounds_of_turns(draw: st.DrawFn) -> list[list[Turn]]:
    """Answers of unlike lengths: some go on, some are taken back, some end earlier than others."""
    answers = draw(st.integers(1, 5))
    keep = st.none() | st.integers(0, 30)

    def turn(first: bool) -> Turn:
        more = draw(st.integers(1, 24))
        return Turn(None if first else draw(keep), more, draw(st.integers(1, 5)))

    count = draw(st.integers(1, 3))
    return [[turn(number == 0) for _ in range(answers)] for number in range(count)]


@pytest.fixture(params=["texts are cut out", "rows are selected", "rows stay"])
def leaving(request: pytest.FixtureRequest) -> Iterator[str]:
    """What a cache allows when a row ends."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param != "texts are cut out":
            patch.setattr(reencode, "keys_and_values", lambda *arguments: None)
        if request.param == "rows stay":
            patch.delattr("transformers.cache_utils.Cache.batch_select_indices")
        yield request.param


@pytest.mark.parametrize("kind", CONFIGS)
def test_turns_in_a_batch_give_the_logits_of_each_alone(kind: str, leaving: str) -> None:
    model = small(kind)
    truth = Truth(PlainForward(model), causal=True)

    @settings(max_examples=12, deadline=None, derandomize=True)
    @given(rounds_of_turns(), st.integers(1, 6))
    def tried(rounds: list[list[Turn]], rows: int) -> None:
        runner = runner_of(model, rows)
        assert differs(runner, {UNNAMED: truth}, rounds, IDS) is None
        assert not runner.busy

    tried()


def test_answers_share_forwards_and_those_that_come_later_join() -> None:
    runner = runner_of(small("bloom"))
    results = Results(runner)
    for number, prompt in enumerate(PROMPTS[:2]):
        results.write(number, prompt, 8)
    results.run(3)
    for number, prompt in enumerate(PROMPTS[2:], 2):
        results.write(number, prompt, 5)
    results.run(1)
    before = runner.counters.forwards
    results.run(1)
    assert runner.counters.forwards == before + 1, "all four are in one batch"
    results.run()
    written = [results.done[number].token_ids for number in range(4)]
    assert written == [
        greedy(small("bloom"), prompt, 8 if number < 2 else 5)
        for number, prompt in enumerate(PROMPTS)
    ]


def test_a_batch_has_no_more_padding_than_text() -> None:
    runner = runner_of(small("bloom"))
    results = Results(runner)
    results.write(0, [IDS[place % 90] for place in range(400)], 3)
    for number in range(1, 4):
        results.write(number, PROMPTS[1], 3)
    results.run(1)
    token = 2 * 2 * 64 * 4  # bytes: keys and values of two layers
    assert runner.lane_bytes <= (400 + 3 * 5 + 8) * token
    results.run()
    assert len(results.done) == 4
    assert runner.lane_bytes == 0


# What a batch must bear


def test_an_answer_that_is_cancelled_leaves_the_batch(leaving: str) -> None:
    model = small("bloom")
    results = Results(runner_of(model))
    jobs = [results.write(number, prompt) for number, prompt in enumerate(PROMPTS)]
    results.run(3)
    jobs[2].cancel()
    results.run()
    assert not results.failed
    assert {number: done.token_ids for number, done in results.done.items()} == {
        number: greedy(model, PROMPTS[number]) for number in (0, 1, 3)
    }
    assert jobs[2].parked.cache is None


@pytest.mark.parametrize("late", [False, True])
def test_an_answer_at_which_the_model_fails_fails_alone(
    late: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While prompts are encoded, and while tokens are written."""
    model = small("bloom")
    wanted = [greedy(model, prompt) for prompt in PROMPTS]
    bad = wanted[1][2] if late else PROMPTS[1][-1]
    inner = type(model).forward
    sound = [
        number for number, tokens in enumerate(wanted) if bad not in (*tokens, *PROMPTS[number])
    ]
    assert 1 not in sound
    assert len(sound) >= 2

    def forward(self: Any, input_ids: Any, **more: Any) -> Any:
        if bool((input_ids == bad).any()):
            raise IndexError("out of its range")
        return inner(self, input_ids, **more)

    monkeypatch.setattr(type(model), "forward", forward)
    results = Results(runner_of(model, continued_bytes=None))
    for number, prompt in enumerate(PROMPTS):
        results.write(number, prompt)
    results.run()
    assert str(results.failed[1]) == "out of its range"
    for number in sound:
        assert results.done[number].token_ids == wanted[number]


def test_an_answer_for_which_the_model_gives_nan_fails_alone(leaving: str) -> None:
    config = small_config(BloomConfig())
    model = small_model(
        AutoModelForCausalLM._model_mapping[type(config)], config, None, torch.float32
    )
    wanted = [greedy(model, prompt) for prompt in PROMPTS]
    others = {token for text in (*PROMPTS[:2], PROMPTS[3], *wanted) for token in text}
    ill = next(token for token in PROMPTS[2] if token not in others)
    with torch.no_grad():
        model.transformer.word_embeddings.weight[ill] = nan
    # The head is tied to the embedding, so the token has no logit that is a number.
    runner = ReencodeRunner(PlainForward(model), [ill], Reencoding(8, continued_bytes=1))
    model.lm_head.weight = torch.nn.Parameter(
        torch.nan_to_num(model.lm_head.weight.detach().clone()), requires_grad=False
    )
    results = Results(runner)
    jobs = [results.write(number, prompt) for number, prompt in enumerate(PROMPTS)]
    results.run()
    assert isinstance(results.failed.pop(2), NotANumberError)
    assert not results.failed
    for number in (0, 1, 3):
        assert results.done[number].token_ids == wanted[number]
    assert jobs[2].parked.cache is None


class Watch:
    """A criterion that ends a patch at its fourth token."""

    finish, entropy, layers = "uncertainty", True, (1, 2)

    def __init__(self) -> None:
        self.seen: list[tuple[float, Any]] = []

    def on_token(self, token: Token) -> bool:
        return False

    def should_stop(self, entropy: float, states: Any) -> bool:
        self.seen.append((entropy, states))
        return len(self.seen) == 4


def test_criteria_in_a_batch_see_what_their_own_answer_gives() -> None:
    model = small("bloom")
    results = Results(runner_of(model))
    watches = {number: Watch() for number in (0, 2)}
    for number, prompt in enumerate(PROMPTS):
        results.write(number, prompt, stopping=watches.get(number))
    results.run()
    for number, prompt in enumerate(PROMPTS):
        done, wanted = results.done[number], greedy(model, prompt)
        assert done.token_ids == (wanted[:3] if number in watches else wanted)
        assert done.finish == ("uncertainty" if number in watches else "length")
        for taken, (entropy, states) in enumerate(
            watches[number].seen if number in watches else ()
        ):
            seen = PlainForward(model)([*prompt, *wanted[:taken]], hidden=True)
            logprobs = torch.log_softmax(seen.logits[0, -1], -1)
            assert entropy == pytest.approx(-(logprobs.exp() * logprobs).sum().item(), abs=1e-4)
            assert (states is None) == (taken == 0)
            if taken:
                own = torch.stack([seen.hidden[layer][0] for layer in (1, 2)])
                torch.testing.assert_close(states, own, atol=1e-4, rtol=1e-4)


class Even:
    """A format of even tokens, which fails after so many."""

    def __init__(self, fails: str = "", after: int = 3) -> None:
        self._fails, self._left = fails, after

    def _check(self, what: str) -> None:
        if what == self._fails and self._left <= 0:
            raise FormatError("no such format")

    def allowed(self) -> np.ndarray:
        self._check("allowed")
        return np.packbits(np.arange(VOCABULARY) % 2 == 0, bitorder="little")

    def may_end(self) -> bool:
        return False

    def leads_on(self, token: int) -> bool:
        self._check("leads_on")
        return True

    def advance(self, token: int) -> bool:
        self._left -= 1
        self._check("advance")
        return False


@pytest.mark.parametrize("fails", ["allowed", "leads_on", "advance"])
def test_formats_bind_their_own_answer_and_fail_it_alone(fails: str) -> None:
    model = small("bloom")
    results = Results(runner_of(model))
    formats = {1: Even(), 2: Even(fails)}
    for number, prompt in enumerate(PROMPTS):
        results.write(number, prompt, constraint=formats.get(number))
    results.run()
    assert isinstance(results.failed.pop(2), FormatError)
    assert not results.failed
    for number in (0, 3):
        assert results.done[number].token_ids == greedy(model, PROMPTS[number])
    ids = list(PROMPTS[1])
    for token in results.done[1].token_ids:
        logits = PlainForward(model)(ids).logits[0, -1].clone()
        logits[1::2] = -inf
        assert token == int(logits.argmax())
        ids.append(token)


def test_an_error_outside_the_model_fails_what_runs_and_nothing_that_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    results = Results(runner_of(small("bloom"), rows=3))
    for number, prompt in enumerate(PROMPTS):
        results.write(number, prompt)
    results.run(2)

    def full(*arguments: Any) -> Any:
        raise torch.OutOfMemoryError("full")

    with monkeypatch.context() as patch:
        patch.setattr(reencode, "draw_tokens", full)
        results.run(1)
    assert sorted(results.failed) == [0, 1, 2]
    results.run()
    assert results.done[3].token_ids == greedy(small("bloom"), PROMPTS[3])


# What is not encoded twice


def test_what_was_just_encoded_is_not_encoded_again() -> None:
    model = small("bloom")
    runner = runner_of(model)
    results, parked = Results(runner), Parked()
    prompt = PROMPTS[0]

    def encoded(job: Any) -> int:
        before = runner.counters.encoded_tokens
        if not isinstance(job, GenerateRequest):
            runner.submit(job)
        results.run()
        assert not results.failed
        return runner.counters.encoded_tokens - before

    score = ScoreRequest(prompt, parked, *results.callbacks(0), want="logprobs", choices=[3, 5])
    assert encoded(score) == len(prompt)
    hidden = ScoreRequest(prompt, parked, *results.callbacks(1), want="hidden", layers=(0, -1))
    assert encoded(hidden) == 1
    truth = PlainForward(model)(prompt, hidden=True)
    torch.testing.assert_close(
        results.done[1], torch.stack([truth.hidden[layer][0] for layer in (0, -1)]),
        atol=1e-4, rtol=1e-4,
    )  # fmt: skip
    first = results.write(2, prompt, 4, parked)
    assert encoded(first) == 1 + 3, (
        "the prompt's last token, and all but the last of what it writes"
    )
    done = results.done[2]
    assert done.cached_tokens == len(prompt) - 1
    assert done.token_ids == greedy(model, prompt, 4)
    longer = [*prompt, *done.token_ids, 60, 61]
    assert encoded(results.write(3, longer, 1, parked)) == 3
    assert encoded(results.write(4, longer[:10], 1, parked)) == 1, "what was written is dropped"
    assert results.done[4].token_ids == greedy(model, longer[:10], 1)
    other = [*longer[:6], 50, 51, 52]
    assert encoded(results.write(5, other, 1, parked)) == 3
    assert results.done[5].token_ids == greedy(model, other, 1)


def test_forks_go_on_from_the_same_text_each_in_its_own_way() -> None:
    model = small("bloom")
    runner = runner_of(model)
    results, parked = Results(runner), Parked()
    results.write(0, PROMPTS[0], 3, parked)
    results.run()
    text = [*PROMPTS[0], *results.done[0].token_ids]
    forks = [parked.fork() for _ in range(3)]
    before = runner.counters.encoded_tokens
    for number, fork in enumerate(forks, 1):
        results.write(number, [*text, 40 + number], 4, fork)
    results.write(4, [*text, 60], 4, parked)
    results.run()
    for number, last in ((1, 41), (2, 42), (3, 43), (4, 60)):
        assert results.done[number].token_ids == greedy(model, [*text, last], 4)
    assert runner.counters.encoded_tokens - before == 4 * (2 + 3)


def test_what_a_failed_or_cancelled_turn_encoded_is_not_gone_on_from() -> None:
    model = small("bloom")
    results, parked = Results(runner_of(model)), Parked()
    results.write(0, PROMPTS[0], 3, parked, constraint=Even("allowed", 1))
    results.run()
    assert isinstance(results.failed[0], FormatError)
    assert parked.cache is None
    results.write(1, PROMPTS[0], 3, parked)
    results.run()
    assert results.done[1].token_ids == greedy(model, PROMPTS[0], 3)


def test_a_scored_prompt_is_read_whole() -> None:
    model = small("bloom")
    results = Results(runner := runner_of(model))
    runner.submit(PromptScoreRequest(PROMPTS[0], Parked(), *results.callbacks(0), top=2))
    results.write(1, PROMPTS[1])
    results.run()
    logprobs = torch.log_softmax(PlainForward(model)(PROMPTS[0]).logits[0], -1)
    for place, token in enumerate(results.done[0][1:], 1):
        assert token.logprob == pytest.approx(float(logprobs[place - 1, token.id]), abs=1e-4)
    assert results.done[1].token_ids == greedy(model, PROMPTS[1])


def test_what_cannot_be_gone_on_from_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that reads a block only at the beginning of a text."""
    model = small("bloom")
    assert continued_bytes(PlainForward(model)) == 2 * 2 * 64 * 4
    inner = type(model).forward

    def forward(self: Any, input_ids: Any, past_key_values: Any = None, **more: Any) -> Any:
        if past_key_values is not None and input_ids.shape[1] > 1:
            past_key_values = DynamicCache()
        return inner(self, input_ids, past_key_values=past_key_values, **more)

    monkeypatch.setattr(type(model), "forward", forward)
    assert continued_bytes(PlainForward(model)) is None


# In the engine


@pytest.mark.parametrize(
    ("deterministic", "way"), [(None, BATCHED), (False, BATCHED), (True, "re-encoded")]
)
async def test_answers_of_an_engine_share_forwards_unless_they_must_be_exact(
    make_model: Callable[..., Path], deterministic: bool | None, way: str
) -> None:
    path = make_model(3, **BLOOM)
    model: Any = AutoModelForCausalLM.from_pretrained(path).eval()
    engine = LocalEngine({"m": ModelSpec(str(path))}, deterministic=deterministic)

    async def answer(number: int) -> tuple[int, ...]:
        async with engine.session(number, 100) as session:
            prompt = [40 + number] * (4 + 3 * number)
            return (await session.generate("m", prompt, Sampling(5, temperature=0))).token_ids

    await engine.load("m")
    written = await asyncio.gather(*map(answer, range(8)))
    assert str(engine.running("m").way) == way
    assert engine.running("m").cache.of(100) > 0, "admission counts what is kept"
    forwards = engine.counters("m").forwards
    assert forwards <= 8 + 5 if way == BATCHED else forwards >= 8 * 4
    for number, tokens in enumerate(written):
        wanted = greedy(model, [40 + number] * (4 + 3 * number), 5)
        assert tokens == wanted[: len(tokens)]
    await engine.close()


async def test_a_model_that_fails_with_one_prompt_names_itself(
    make_model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = LocalEngine({"mine": ModelSpec(str(make_model(3, **BLOOM)))})
    await engine.load("mine")
    inner = reencode.PaddedForward.__call__

    def forward(self: Any, rows: Any, *arguments: Any, **more: Any) -> Any:
        if any(99 in row for row in rows):
            raise IndexError("out of its range")
        return inner(self, rows, *arguments, **more)

    monkeypatch.setattr(reencode.PaddedForward, "__call__", forward)

    async def answer(first: int) -> Any:
        async with engine.session(0, 100) as session:
            return await session.generate("mine", [first, 41, 42], Sampling(3, temperature=0))

    *found, failed = await asyncio.gather(*map(answer, (40, 50, 99)), return_exceptions=True)
    assert isinstance(failed, EngineError)
    assert str(failed) == "mine failed while it computed: IndexError: out of its range"
    assert all(done.token_ids for done in found)
    await engine.close()
