"""Replies of servers: OpenAI's completions as JSON, with the fields of vLLM or of llama.cpp.

Replies are checked: one that does not fit the request is a RetryableError, never an answer.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, Literal

from taketurns.engines.base import ModelInfo
from taketurns.engines.http.faults import RetryableError
from taketurns.engines.http.requests import ServerCapabilities
from taketurns.errors import EngineError, UnavailableError
from taketurns.types import Sampling, Token

_TOKEN_ID = "token_id:"
# A log-probability up to this number means -inf, which JSON cannot write: vLLM and OpenAI write
# this number instead, llama.cpp the lowest float.
_NEVER = -9999.0
_MOST_COUNTED = 1 << 40  # tokens of a prompt: far above any real number
_LONGEST = 8 << 20  # bytes of one event
_SHOWN = 300  # characters of a reply that a message quotes
_WRONG = (ArithmeticError, LookupError, TypeError, ValueError, AttributeError)
_SURE = 0.1  # the highest log-probability accepted: 0, and a tolerance for rounding
_GOES_ON = (None, "")
_STOPPED = ("stop", "eos_token", "stop_sequence")


@dataclass(frozen=True, slots=True)
class PromptUsage:
    """The number of tokens of a prompt, and of those that the server had cached."""

    prompt: int = 0
    cached: int = 0


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a reply: tokens, or `text` from a server without ids. `finish` is why the reply
    ended, None if it continues. `scores` has, if requested, the log-probabilities of
    `Sampling.choices` at the position of each token. `written` is the server's count of tokens in
    the reply so far, None if it reports none."""

    tokens: tuple[Token, ...] = ()
    scores: tuple[tuple[float, ...], ...] = ()
    text: str = ""
    finish: Literal["stop", "length"] | None = None
    usage: PromptUsage | None = None
    written: int | None = None


@dataclass(frozen=True, slots=True)
class Likely:
    """One of the most probable tokens at a position, with its natural-log probability; `id` is None
    if the server reports only its text."""

    text: str
    logprob: float
    id: int | None = None


def read_scores(
    reply: Any, abilities: ServerCapabilities, info: ModelInfo, choices: Sequence[int]
) -> list[float]:
    """The natural-log probabilities of `choices`. If the server reports only the most probable
    tokens, a choice that is not among them has `-inf`. Raises RetryableError, and EngineError if
    none of the choices is among them."""
    likely = top_logprobs(only_choice(reply))
    if not likely:
        raise _unweighed()
    by_id = {top.id: top.logprob for top in likely if top.id is not None}
    if abilities.exact_scores:
        if not by_id.keys() >= set(choices):
            raise _unweighed()
        scores = [by_id[token] for token in choices]
        if max(scores) == -inf:
            raise _impossible()
        return scores
    if max(top.logprob for top in likely) == -inf:
        raise _impossible()
    texts = [info.codec.decode([token]) for token in choices]
    scores = [by_id.get(token, -inf) for token in choices] if by_id else _by_text(likely, texts)
    if max(scores) == -inf:
        raise EngineError(
            f"none of {', '.join(map(repr, texts))} is among the {len(likely)} most probable "
            f"tokens that the server of {info.name} reports: serve it with vLLM, which reports any"
        )
    return scores


def _by_text(likely: Sequence[Likely], texts: Sequence[str]) -> list[float]:
    """The log-probabilities of tokens identified by their text, which a server may write without
    the leading space."""
    exact: dict[str, float] = {}
    stripped: dict[str, float] = {}
    for token in likely:
        exact[token.text] = token.logprob
        stripped[token.text.strip()] = max(token.logprob, stripped.get(token.text.strip(), -inf))
    return [exact.get(text, stripped.get(text.strip(), -inf)) for text in texts]


def top_logprobs(choice: Mapping[str, Any]) -> tuple[Likely, ...]:
    """The log-probabilities at a completion's first token: in OpenAI's old format, or in the format
    of its chat completions, as from llama.cpp; empty if there are none. Raises RetryableError for
    an invalid one."""
    logprobs: Any = choice.get("logprobs")
    try:
        if logprobs.get("content"):
            return _listed(logprobs["content"][0]["top_logprobs"])
        return _mapped(logprobs["top_logprobs"][0])
    except _WRONG:
        return ()


def _listed(entries: Any) -> tuple[Likely, ...]:
    return tuple(
        Likely(str(entry["token"]), _logprob(entry["logprob"]), _id(entry.get("id")))
        for entry in entries
    )


def _mapped(logprobs: Any) -> tuple[Likely, ...]:
    return tuple(
        Likely(
            key, _logprob(value), _id(key.removeprefix(_TOKEN_ID)) if key[:9] == _TOKEN_ID else None
        )
        for key, value in logprobs.items()
    )


def _id(value: Any) -> int | None:
    return None if value is None else int(value)


def _logprob(value: Any) -> float:
    """A log-probability. Raises RetryableError for an invalid one."""
    number = float(value)
    if not number <= _SURE:  # NaN, infinity, or a logit
        raise RetryableError(f"the reply has {number} as a log-probability, which is at most 0")
    return number if number > _NEVER else -inf


def read_piece(
    data: Any, abilities: ServerCapabilities, vocabulary: int, sampling: Sampling
) -> Piece:
    """Read a reply, or a chunk of one, with the requested log-probabilities. Raises RetryableError
    for an invalid reply, and UnavailableError if the server withholds the model's text."""
    if isinstance(data, dict) and data.get("error") is not None:
        raise RetryableError(f"the server reports an error: {_shown(data['error'])}")
    usage = read_usage(data)
    if isinstance(data, dict) and data.get("choices") == []:
        return Piece(usage=usage)  # the first or the last chunk of a stream
    choice = only_choice(data)
    finish = _finish(choice.get("finish_reason"))
    text = choice.get("text")
    if not abilities.token_ids:
        if not isinstance(text, str):
            raise RetryableError("the reply has no text")
        if not _encodes(text):
            raise RetryableError("the reply's text has half of a surrogate pair")
        return Piece(text=text, finish=finish, usage=usage)
    ids, written = _ids(data, choice, abilities)
    if ids is None:
        if text:
            raise RetryableError(
                "the reply has text without token ids, which this server reported before"
            )
        ids = []
    if not isinstance(ids, list) or not all(
        type(token) is int and 0 <= token < vocabulary for token in ids
    ):
        raise RetryableError(f"the reply has token ids outside the model's {vocabulary} ids")
    if sampling.logprobs is not None:
        if abilities.verbose:
            tokens = _listed_by_token(choice, ids, sampling.logprobs)
        else:
            least = min(sampling.logprobs, vocabulary) if abilities.exact_scores else 0
            tokens = _weighed(choice, ids, sampling.logprobs, least)
        return Piece(tuple(tokens), finish=finish, usage=usage, written=written)
    scores = _scored(choice, len(ids), sampling.choices)
    return Piece(tuple(map(Token, ids)), scores, finish=finish, usage=usage, written=written)


def _finish(reason: Any) -> Literal["stop", "length"] | None:
    """Why a reply ended, from the reasons of many servers; None if it continues. Raises
    RetryableError if the server aborted it, and UnavailableError if a content filter withheld it,
    as every server would."""
    if reason in _GOES_ON:
        return None
    if reason in _STOPPED:
        return "stop"
    if reason == "length":
        return "length"
    if reason == "content_filter":
        raise UnavailableError(
            "the server's content filter withheld what the model wrote (finish_reason "
            "content_filter); switch the filter off on the server, or name another"
        )
    raise RetryableError(f"the server ended the reply with {_shown(reason)}")


def _ids(
    data: Any, choice: Mapping[str, Any], abilities: ServerCapabilities
) -> tuple[Any, int | None]:
    """The ids of a reply, None if it has none, and the number of tokens that the server has
    written, None if unknown."""
    if not abilities.verbose:
        return choice.get("token_ids"), None
    about = data.get("__verbose")
    if not isinstance(about, dict):
        return None, None
    written = about.get("tokens_predicted")
    return about.get("tokens"), written if type(written) is int else None


async def events(chunks: AsyncIterable[bytes]) -> AsyncIterator[Any]:
    """The JSON values of a stream of server-sent events, up to its `[DONE]`. Raises RetryableError
    if an event is not JSON or the stream ends early."""
    rest, done = b"", False
    async for chunk in chunks:  # to the end, so that the connection can be reused
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) > _LONGEST:
            raise RetryableError(f"an event of the stream is longer than {_LONGEST:,} bytes")
        for line in lines:
            if done or not line.startswith(b"data:"):
                continue  # a comment, another field, or the end of an event
            data = line[5:].strip()
            done = data == b"[DONE]"
            if not done:
                yield parse(data)
    if not done:
        raise RetryableError("the stream ended before its [DONE]")


def parse(data: bytes) -> Any:
    """Parse JSON. Raises RetryableError for anything else."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise RetryableError(f"the reply is not JSON: {data[:80]!r}") from error


def only_choice(reply: Any) -> Mapping[str, Any]:
    """The requested completion, which must be the only one. Raises RetryableError otherwise."""
    choices = reply.get("choices") if isinstance(reply, dict) else None
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
        raise RetryableError(f"the reply is not one completion: {_shown(reply)[:80]}")
    return choices[0]


def read_usage(data: Any) -> PromptUsage | None:
    """The usage that a reply reports for its prompt; None if it reports none."""
    usage = data.get("usage") if isinstance(data, dict) else None
    if not isinstance(usage, dict):
        return None
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    return PromptUsage(_count(usage.get("prompt_tokens")), _count(cached))


def _count(value: Any) -> int:
    """A number of tokens; 0 for an invalid value."""
    return value if type(value) is int and 0 <= value <= _MOST_COUNTED else 0


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(value: Any) -> str:
    """The beginning of a value from a reply, for a message."""
    try:
        return json.dumps(value)[:_SHOWN]
    except RecursionError:
        return "JSON that is nested too deeply"


def _weighed(choice: Mapping[str, Any], ids: Sequence[int], wanted: int, least: int) -> list[Token]:
    """Tokens with their log-probabilities and with the `wanted` most probable tokens at their
    positions. Raises RetryableError if fewer than `least` are listed."""
    if not ids:
        return []
    tokens = []
    try:
        logprobs = choice["logprobs"]
        chosen, tops = logprobs["token_logprobs"], logprobs["top_logprobs"]
        for token, logprob, top in zip(ids, chosen, tops, strict=True):
            likely = _mapped(top)
            _check_listed(likely, least)
            tokens.append(Token(token, logprob=_logprob(logprob), top=_ranked(likely, wanted)))
    except _WRONG as error:
        raise _unweighed() from error
    return tokens


def _listed_by_token(choice: Mapping[str, Any], ids: Sequence[int], wanted: int) -> list[Token]:
    """`_weighed` in llama.cpp's format, which has no log-probabilities for a token that ends inside
    a character."""
    if not ids:
        return []
    tokens = []
    try:
        entries = list((choice.get("logprobs") or {}).get("content") or ())
        for token in reversed(ids):  # only the last token of a character is reported
            if entries and entries[-1]["id"] == token:
                entry = entries.pop()
                top = _ranked(_listed(entry["top_logprobs"]), wanted)
                tokens.append(Token(token, logprob=_logprob(entry["logprob"]), top=top))
            else:
                tokens.append(Token(token))
    except _WRONG as error:
        raise _unweighed() from error
    if entries or len(tokens) != len(ids):
        raise _unweighed()
    return tokens[::-1]


def _check_listed(likely: Sequence[Likely], least: int) -> None:
    """Raise RetryableError if fewer than `least` most probable tokens are listed."""
    if least and (len(likely) < least or any(token.logprob == -inf for token in likely)):
        raise RetryableError(
            "the reply lacks the most probable tokens, as vLLM 0.32 replies to a request in one "
            "batch with another client's for given tokens: give each client a server"
        )


def _ranked(likely: Sequence[Likely], wanted: int) -> tuple[tuple[int, float], ...]:
    """The `wanted` most probable tokens. Raises TypeError if their ids are unknown."""
    ranked = sorted(likely, key=lambda token: -token.logprob)[:wanted]
    if any(token.id is None for token in ranked):
        raise TypeError("no ids")
    return tuple((token.id, token.logprob) for token in ranked if token.id is not None)


def _scored(
    choice: Mapping[str, Any], count: int, choices: Sequence[int]
) -> tuple[tuple[float, ...], ...]:
    """The log-probabilities of `choices` at the positions of `count` tokens."""
    if not choices or not count:
        return ()
    try:
        tops = choice["logprobs"]["top_logprobs"]
        scores = [tuple(_logprob(top[f"{_TOKEN_ID}{token}"]) for token in choices) for top in tops]
    except _WRONG as error:
        raise _unweighed() from error
    if len(scores) != count:
        raise _unweighed()
    return tuple(scores)


def _impossible() -> RetryableError:
    return RetryableError("the reply gives each requested token the probability 0")


def _unweighed() -> RetryableError:
    return RetryableError("the reply lacks the requested log-probabilities")
