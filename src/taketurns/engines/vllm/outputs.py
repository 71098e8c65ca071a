"""What vLLM gives back, read into records of this package."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from taketurns.errors import EngineError, NotANumberError
from taketurns.types import Token

_SURE = 0.1  # the highest log-probability accepted: 0, and a tolerance for rounding
_BROKEN = ("abort", "error")

Reported = tuple[Token, tuple[float, ...] | None]
"""A token, and the log-probabilities of the choices in its place."""


def read_tokens(
    output: Any, model: str, listed: int | None, choices: Sequence[int]
) -> Iterator[Reported]:
    """The tokens of one output of a request. Raises EngineError if vLLM gave the request up, and
    NotANumberError for a log-probability that is none."""
    completion = output.outputs[0]
    weighed = listed is not None or bool(choices)
    for index, token in enumerate(completion.token_ids):
        if not weighed:
            yield Token(token), None
            continue
        found = completion.logprobs[index]
        if choices:
            yield Token(token), tuple(_logprob(found[choice], model) for choice in choices)
        else:
            assert listed is not None
            top = _top(found, model, listed)
            yield Token(token, logprob=_logprob(found[token], model), top=top), None
    if completion.finish_reason in _BROKEN:
        raise EngineError(
            f"vLLM gave up a request of {model} ({completion.finish_reason}); its log says why: "
            "ask again"
        )


def read_prompt(
    prompt: Sequence[int], reported: Sequence[Mapping[int, Any] | None], model: str, top: int
) -> tuple[Token, ...]:
    """The prompt's tokens with their log-probabilities; the first has none."""
    tokens = [Token(prompt[0])]
    for token, found in zip(prompt[1:], reported[1:], strict=True):
        assert found is not None, "only the first token has no log-probability"
        tokens.append(
            Token(token, logprob=_logprob(found[token], model), top=_top(found, model, top))
        )
    return tuple(tokens)


def _top(found: Mapping[int, Any], model: str, count: int) -> tuple[tuple[int, float], ...]:
    """The `count` most probable tokens; the written one is reported beside them."""
    ranked = sorted(
        ((token, _logprob(entry, model)) for token, entry in found.items()), key=lambda e: -e[1]
    )
    return tuple(ranked[:count])


def _logprob(entry: Any, model: str) -> float:
    number = float(entry.logprob)
    if not number <= _SURE:
        raise NotANumberError(
            f"{model} gave {number} for a log-probability: its weights or its precision are at "
            "fault; try dtype: float32"
        )
    return number
