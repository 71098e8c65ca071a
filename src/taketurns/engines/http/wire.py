"""OpenAI's completions as JSON, with vLLM's fields where a server knows them.

What a server says is checked: a reply that is not what was asked for is a Fault, never an answer.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from taketurns.engines.base import ModelInfo
from taketurns.engines.http.faults import Fault
from taketurns.errors import EngineError
from taketurns.types import Sampling, Token

_TOKEN_ID = "token_id:"
_SEED_BITS = (1 << 31) - 1  # what every server takes


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a server was found to do with the model it calls `served_as`.

    `context` is the most tokens a prompt and its continuation may have, None if it does not say.
    `prompt_ids`: prompts may be token ids; `token_ids`: it tells the ids of what it wrote;
    `exact_scores`: it reports log-probabilities of any given tokens, otherwise only those of the
    `top_logprobs` most probable.
    """

    software: str
    served_as: str
    context: int | None
    prompt_ids: bool
    token_ids: bool
    exact_scores: bool
    top_logprobs: int


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of a prompt, and how many of them the server had read before."""

    prompt: int = 0
    cached: int = 0


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a reply: tokens, or `text` from a server without ids. `finish` is the server's
    word for why it ended, None while it goes on. `scores` are, where they were asked for, the
    log-probabilities of `Sampling.choices` where each token stands."""

    tokens: tuple[Token, ...] = ()
    scores: tuple[tuple[float, ...], ...] = ()
    text: str = ""
    finish: str | None = None
    usage: Usage | None = None


def writing_request(
    abilities: Abilities,
    info: ModelInfo,
    prompt: Sequence[int],
    sampling: Sampling,
    seed: int,
    *,
    stream: bool,
) -> dict[str, Any]:
    """The body that asks for up to `sampling.max_tokens` tokens after `prompt`. Stop strings are
    not in it: they may have begun before the patch, so they are looked for here."""
    body: dict[str, Any] = {
        "model": abilities.served_as,
        "prompt": _prompt(abilities, info, prompt),
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
    }
    if sampling.temperature > 0:
        body["seed"] = seed & _SEED_BITS
    if sampling.logprobs is not None:
        body["logprobs"] = sampling.logprobs
    if sampling.choices:
        body |= {"logprobs": 0, "logprob_token_ids": list(sampling.choices)}
    if info.never:
        # The least bias that the API has; it does not change the log-probabilities vLLM tells.
        body["logit_bias"] = {str(token): -100 for token in sorted(info.never)}
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    if abilities.token_ids:
        # A server's own defaults (from generation_config.json) would change what is sampled.
        body |= {
            "top_k": 0,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "return_token_ids": True,
            "return_tokens_as_token_ids": True,
            "stop_token_ids": sorted(info.end_token_ids | set(sampling.stop_token_ids)),
        }
    return body


def scoring_request(
    abilities: Abilities, info: ModelInfo, prompt: Sequence[int], choices: Sequence[int]
) -> dict[str, Any]:
    """The body that asks how probable `choices` are as the token after `prompt`."""
    body: dict[str, Any] = {
        "model": abilities.served_as,
        "prompt": _prompt(abilities, info, prompt),
        "max_tokens": 1,
        "temperature": 0.0,
    }
    if abilities.exact_scores:
        return body | {
            "logprobs": 0,
            "logprob_token_ids": list(choices),
            "return_tokens_as_token_ids": True,
        }
    return body | {"logprobs": abilities.top_logprobs}


def read_scores(
    reply: Any, abilities: Abilities, info: ModelInfo, choices: Sequence[int]
) -> list[float]:
    """The natural-log probabilities of `choices`, `-inf` for one that is not among the most
    probable of a server that tells only those. Raises Fault, and EngineError where none of them is.
    """
    given = top_logprobs(only_choice(reply))
    if abilities.exact_scores:
        try:
            return [given[f"{_TOKEN_ID}{token}"] for token in choices]
        except KeyError as error:
            raise _unweighed() from error
    if not given:
        raise _unweighed()
    stripped: dict[str, float] = {}
    for text, value in given.items():
        stripped[text.strip()] = max(value, stripped.get(text.strip(), -inf))
    texts = [info.codec.decode([token]) for token in choices]
    scores = [given.get(text, stripped.get(text.strip(), -inf)) for text in texts]
    if max(scores) == -inf:
        raise EngineError(
            f"none of {', '.join(map(repr, texts))} is among the {abilities.top_logprobs} most "
            f"probable tokens that the server of {info.name} tells; serve it with vLLM, which "
            "tells any"
        )
    return scores


def top_logprobs(choice: Mapping[str, Any]) -> dict[str, float]:
    """The log-probabilities that a completion gives for its first token, by text or `token_id:N`:
    OpenAI's old shape, or that of its chat completions; none where it gives none."""
    logprobs: Any = choice.get("logprobs")
    try:
        if logprobs.get("content"):
            listed = logprobs["content"][0]["top_logprobs"]
            return {str(one["token"]): float(one["logprob"]) for one in listed}
        return {str(text): float(value) for text, value in logprobs["top_logprobs"][0].items()}
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        return {}


def read_piece(data: Any, abilities: Abilities, vocabulary: int, sampling: Sampling) -> Piece:
    """A reply, or a chunk of one, with the log-probabilities that were asked for. Raises Fault for
    anything else."""
    if isinstance(data, dict) and data.get("error") is not None:
        raise Fault(f"the server reports an error: {json.dumps(data['error'])[:300]}")
    usage = read_usage(data)
    if usage is not None and data.get("choices") == []:
        return Piece(usage=usage)  # the last chunk of a stream
    choice = only_choice(data)
    finish = choice.get("finish_reason")
    if finish not in (None, "stop", "length"):
        raise Fault(f"the server ended the reply with {finish!r}")
    if not abilities.token_ids:
        text = choice.get("text")
        if not isinstance(text, str):
            raise Fault("the reply has no text")
        return Piece(text=text, finish=finish, usage=usage)
    ids = choice.get("token_ids") or []
    if not isinstance(ids, list) or not all(
        type(token) is int and 0 <= token < vocabulary for token in ids
    ):
        raise Fault("the reply's token ids are none of the model's")
    if sampling.logprobs is not None:
        tokens = tuple(_weighed(choice, ids, sampling.logprobs))
        return Piece(tokens, finish=finish, usage=usage)
    scores = _scored(choice, len(ids), sampling.choices)
    return Piece(tuple(map(Token, ids)), scores, finish=finish, usage=usage)


async def events(chunks: AsyncIterable[bytes]) -> AsyncIterator[Any]:
    """The JSON values of a stream of server-sent events, up to its `[DONE]`. Raises Fault where an
    event is none, or the stream breaks off."""
    rest, done = b"", False
    async for chunk in chunks:  # to its end: the connection stays usable
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if done or not line.startswith(b"data:"):
                continue  # a comment, another field, or the end of an event
            data = line[5:].strip()
            done = data == b"[DONE]"
            if not done:
                yield parse(data)
    if not done:
        raise Fault("the stream broke off")


def parse(data: bytes) -> Any:
    """JSON. Raises Fault for anything else."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Fault(f"the reply is not JSON: {data[:80]!r}") from error


def _prompt(abilities: Abilities, info: ModelInfo, prompt: Sequence[int]) -> list[int] | str:
    """Ids, or the exact text without the beginning-of-text token that the server will add."""
    ids = list(prompt)
    if abilities.prompt_ids:
        return ids
    begin = info.codec.tokenizer.bos_token_id
    return info.codec.spell(ids[1:] if begin is not None and ids[:1] == [begin] else ids)


def only_choice(reply: Any) -> Mapping[str, Any]:
    """The one completion that was asked for. Raises Fault if there is none."""
    choices = reply.get("choices") if isinstance(reply, dict) else None
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
        raise Fault(f"the reply is no completion: {json.dumps(reply)[:80]}")
    return choices[0]


def read_usage(data: Any) -> Usage | None:
    """What a reply says of its prompt; None if nothing."""
    usage = data.get("usage") if isinstance(data, dict) else None
    if not isinstance(usage, dict):
        return None
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    prompt = usage.get("prompt_tokens")
    return Usage(prompt if isinstance(prompt, int) else 0, cached if isinstance(cached, int) else 0)


def _weighed(choice: Mapping[str, Any], ids: Sequence[int], wanted: int) -> list[Token]:
    """Tokens with their log-probabilities and those of the most probable."""
    if not ids:
        return []
    try:
        logprobs = choice["logprobs"]
        own, tops = logprobs["token_logprobs"], logprobs["top_logprobs"]
        tokens = []
        for token, logprob, top in zip(ids, own, tops, strict=True):
            ranked = sorted(
                ((int(key.removeprefix(_TOKEN_ID)), float(value)) for key, value in top.items()),
                key=lambda item: -item[1],
            )
            tokens.append(Token(token, logprob=float(logprob), top=tuple(ranked[:wanted])))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _unweighed() from error
    return tokens


def _scored(
    choice: Mapping[str, Any], count: int, choices: Sequence[int]
) -> tuple[tuple[float, ...], ...]:
    """The log-probabilities of `choices` where each of `count` tokens stands."""
    if not choices or not count:
        return ()
    try:
        tops = choice["logprobs"]["top_logprobs"]
        found = [tuple(float(top[f"{_TOKEN_ID}{token}"]) for token in choices) for top in tops]
    except (KeyError, TypeError, ValueError) as error:
        raise _unweighed() from error
    if len(found) != count:
        raise _unweighed()
    return tuple(found)


def _unweighed() -> Fault:
    return Fault("the reply lacks the log-probabilities that were asked for")
