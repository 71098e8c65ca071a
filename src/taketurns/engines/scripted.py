"""A fake engine for tests and examples: models that write what a script gives.

    engine = ScriptedEngine(
        {"pretrained": ["The sky "], "aligned": lambda prompt, sampling: "is blue."},
        scores={"switcher": [0.2, 0.8]},
    )

It implements the whole engine protocol: token ids, patch lengths, stop strings, streaming, scores
and forks. Its tokenizer has one token per byte, so a character beyond ASCII has several tokens.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from math import inf, isfinite, log
from typing import TYPE_CHECKING, Literal

from taketurns.checkpoints.text import StopFilter, TextCodec
from taketurns.engines.base import ALL_OPTIONS, Capability, ModelInfo, OnToken, Prompt
from taketurns.errors import ConfigError, NotANumberError
from taketurns.types import (
    Completion,
    NextToken,
    NextTokenCriterion,
    Sampling,
    StoppingCriterion,
    Token,
)

if TYPE_CHECKING:
    from torch import Tensor

_PLAIN: frozenset[Capability] = frozenset(
    ("token_ids", "score", "exact_score", "fork", "entropy", "next_token")
)
_DEEP: frozenset[Capability] = _PLAIN | {"hidden"}

ScriptedReply = str | Sequence[int | float]
Script = Callable[[str, Sampling], ScriptedReply] | Sequence[ScriptedReply]
ScriptedScores = Callable[[str, Sequence[int]], Sequence[float]] | Sequence[float]


@dataclass(frozen=True, slots=True)
class ScriptedCall:
    """One request to a scripted model; `text` is its prompt as text, without special tokens."""

    kind: Literal["generate", "score"]
    model: str
    prompt: Prompt
    text: str
    seed: int
    sampling: Sampling | None = None
    choices: tuple[int, ...] = ()


class ScriptedEngine:
    """Models by name, each with a script: the replies of its turns in an answer, or a function of
    the prompt's text and the sampling. After its last reply a model writes nothing.

    A reply with fewer tokens than its turn allows ends the answer; a longer one is cut. `scores`
    are probabilities, one per choice, as a sequence or as a function of the prompt's text and the
    choices. `suppressed_token_ids` apply to all models. `entropies` (of the next token, in nats)
    and `states` (numbers, the same in every layer) are functions of the prompt's text with the text
    written after it. A model without entropies has entropy 0; one without states has no capability
    "hidden". `confidences` are such functions for the probability of the most probable next token,
    which is the reply's own; a model without them has probability 1. `failures` maps the number of
    a call, from 0, to the error that it raises. `delay` is in seconds per token. `calls` lists all
    requests. NaN and infinity fail a call, as in any engine; so does `nan` in place of a reply's
    token. A reply is certain, so the only sampling options with an effect are those about end
    tokens: an end token that may not be written yet is left out."""

    def __init__(
        self,
        scripts: Mapping[str, Script],
        *,
        scores: Mapping[str, ScriptedScores] | None = None,
        entropies: Mapping[str, Callable[[str], float]] | None = None,
        states: Mapping[str, Callable[[str], Sequence[float]]] | None = None,
        confidences: Mapping[str, Callable[[str], float]] | None = None,
        context: int = 4096,
        suppressed_token_ids: Sequence[int] = (),
        failures: Mapping[int, Exception] | None = None,
        delay: float = 0.0,
    ) -> None:
        self.calls: list[ScriptedCall] = []
        self.closed = False
        self.open_sessions = 0
        self._scripts = {
            model: [script] if isinstance(script, str) else script
            for model, script in scripts.items()
        }
        self._scores = dict(scores or {})
        self._entropies = dict(entropies or {})
        self._states = dict(states or {})
        self._confidences = dict(confidences or {})
        self._context = context
        self._suppressed = frozenset(suppressed_token_ids)
        self._failures = dict(failures or {})
        self._delay = delay

    async def info(self, model: str) -> ModelInfo:
        if model not in self._scripts and model not in self._scores:
            known = ", ".join({**self._scripts, **self._scores})
            raise ConfigError(f"there is no model {model!r}; the models are {known}")
        codec = scripted_codec()
        return ModelInfo(
            name=model,
            context=self._context,
            codec=codec,
            end_token_ids=frozenset({codec.tokenizer.eos_token_id}),
            capabilities=_DEEP if model in self._states else _PLAIN,
            suppressed_token_ids=self._suppressed,
            options=ALL_OPTIONS,
        )

    async def load(self, model: str) -> None:
        await self.info(model)

    @asynccontextmanager
    async def session(self, seed: int, tokens: int | None = None) -> AsyncIterator[ScriptedSession]:
        async with self._open(ScriptedSession(self, seed)) as session:
            yield session

    async def close(self) -> None:
        self.closed = True

    @asynccontextmanager
    async def _open(self, session: ScriptedSession) -> AsyncIterator[ScriptedSession]:
        self.open_sessions += 1
        try:
            yield session
        finally:
            self.open_sessions -= 1

    def _record(self, call: ScriptedCall) -> None:
        number = len(self.calls)
        self.calls.append(call)
        if number in self._failures:
            raise self._failures[number]


@dataclass
class ScriptedSession:
    """One answer; `turns` counts each model's replies in it."""

    engine: ScriptedEngine
    seed: int
    turns: dict[str, int] = field(default_factory=dict)

    async def generate(
        self, model: str, prompt: Prompt, sampling: Sampling, on_token: OnToken | None = None
    ) -> Completion:
        ids, text = await self._read(model, prompt, sampling.max_tokens)
        self.engine._record(ScriptedCall("generate", model, prompt, text, self.seed, sampling))
        codec = scripted_codec()
        reply = self._reply(model, text, sampling)
        options = sampling.options
        stream = codec.stream(ids, special=not options.skip_special_tokens)
        stops = StopFilter(sampling.stop, sampling.written)
        written: list[int] = []
        criterion, cut = sampling.stopping, False
        end: Token | None = None
        for token in codec.encode(reply) if isinstance(reply, str) else reply:
            if len(written) == sampling.max_tokens or stops.stopped or cut:
                break
            if criterion is not None and criterion.should_stop(
                *self._shown(model, text, written, criterion)
            ):
                cut = True
                break
            if isinstance(token, float):
                raise NotANumberError(f"{model} gave {token} as the next token")
            if isinstance(criterion, NextTokenCriterion) and criterion.should_stop_before(
                self._next_token(model, text + codec.decode(written), token)
            ):
                cut = True
                break
            own = token == codec.tokenizer.eos_token_id or token in sampling.stop_token_ids
            early = len(written) < options.min_tokens
            if own or token in options.stop_token_ids:
                if early or (own and options.ignore_eos):
                    continue
                end = _certain(token, sampling.logprobs)
                break
            await asyncio.sleep(self.engine._delay)
            written.append(token)
            stops.push(stream.push(token), looking=len(written) > options.min_tokens)
            if on_token is not None:
                on_token(_certain(token, sampling.logprobs))
            cut = criterion is not None and criterion.on_token(Token(token)) and not stops.stopped
        whole = len(written) == sampling.max_tokens and not stops.stopped
        whole_text = text + codec.decode(written)
        return Completion(
            token_ids=tuple(written),
            finish=criterion.finish
            if criterion is not None and cut
            else "length"
            if whole
            else "stop",
            logprobs=None if sampling.logprobs is None else (0.0,) * len(written),
            prompt_tokens=len(ids),
            scores=self._scores(model, whole_text, sampling.choices, whole or cut),
            end=end,
        )

    async def score(self, model: str, prompt: Prompt, choices: Sequence[int]) -> list[float]:
        _, text = await self._read(model, prompt, 1)
        self.engine._record(
            ScriptedCall("score", model, prompt, text, self.seed, choices=tuple(choices))
        )
        return self._weigh(model, text, choices)

    async def hidden(self, model: str, prompt: Prompt, layers: Sequence[int]) -> Tensor:
        _, text = await self._read(model, prompt, 1)
        return self._state(model, text, layers)

    def _shown(
        self, model: str, text: str, written: Sequence[int], criterion: StoppingCriterion
    ) -> tuple[float | None, Tensor | None]:
        """The entropy and the states that the criterion needs before the next token."""
        text += scripted_codec().decode(written)
        entropy = self._entropy(model, text)
        shown = criterion.layers and (written or isinstance(criterion, NextTokenCriterion))
        return (
            entropy if criterion.entropy else None,
            self._state(model, text, criterion.layers) if shown else None,
        )

    def _next_token(self, model: str, text: str, token: int) -> NextToken:
        confidence = self.engine._confidences.get(model)
        probability = 1.0 if confidence is None else confidence(text)
        if not isfinite(probability):
            raise NotANumberError(f"{model} gave {probability} as a confidence")
        return NextToken(token, probability, self._entropy(model, text))

    def _entropy(self, model: str, text: str) -> float:
        entropy_of = self.engine._entropies.get(model)
        entropy = 0.0 if entropy_of is None else entropy_of(text)
        if not isfinite(entropy):
            raise NotANumberError(f"{model} gave {entropy} as an entropy")
        return entropy

    def _state(self, model: str, text: str, layers: Sequence[int]) -> Tensor:
        import torch

        state = list(self.engine._states[model](text))
        if not all(map(isfinite, state)):
            raise NotANumberError(f"{model} gave NaN or infinity in its hidden states")
        return torch.tensor([state] * len(layers), dtype=torch.float32)

    @asynccontextmanager
    async def fork(self, seed: int) -> AsyncIterator[ScriptedSession]:
        async with self.engine._open(ScriptedSession(self.engine, seed, dict(self.turns))) as child:
            yield child

    async def _read(self, model: str, prompt: Prompt, more: int) -> tuple[Sequence[int], str]:
        info = await self.engine.info(model)
        ids = info.codec.encode(prompt) if isinstance(prompt, str) else prompt
        info.check_length(len(ids), more)
        return ids, prompt if isinstance(prompt, str) else info.codec.decode(ids)

    def _scores(
        self, model: str, text: str, choices: Sequence[int], whole: bool
    ) -> tuple[float, ...] | None:
        return tuple(self._weigh(model, text, choices)) if choices and whole else None

    def _weigh(self, model: str, text: str, choices: Sequence[int]) -> list[float]:
        scores = self.engine._scores.get(model)
        if scores is None:
            raise ConfigError(f"there are no scores for {model!r}: give them in `scores`")
        probabilities = scores(text, choices) if callable(scores) else scores
        if wrong := [p for p in probabilities if not 0 <= p < inf]:
            raise NotANumberError(f"{model} gave {wrong[0]} as a probability")
        return [log(p) if p > 0 else -inf for _, p in zip(choices, probabilities, strict=True)]

    def _reply(self, model: str, text: str, sampling: Sampling) -> ScriptedReply:
        script = self.engine._scripts.get(model, ())
        if callable(script):
            return script(text, sampling)
        turn = self.turns.get(model, 0)
        self.turns[model] = turn + 1
        return script[turn] if turn < len(script) else ""


def _certain(token: int, logprobs: int | None) -> Token:
    """A token with the probability 1."""
    if logprobs is None:
        return Token(token)
    return Token(token, logprob=0.0, top=((token, 0.0),) if logprobs else ())


@cache
def scripted_codec() -> TextCodec:
    """The scripted models' tokenizer: one token per byte, and `<|end|>` as the end token."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken("<|end|>", special=True)])
    return TextCodec(PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>"))
