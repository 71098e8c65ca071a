"""Ask a server what it can do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import log
from typing import Any

from taketurns.checkpoints.text import TextCodec
from taketurns.engines.http.client import Client, Key
from taketurns.engines.http.faults import RetryableError
from taketurns.engines.http.formats import PROBE
from taketurns.engines.http.protocol import Likely, only_choice, read_usage, top_logprobs
from taketurns.engines.http.requests import VERBOSE, ServerCapabilities, forced
from taketurns.errors import ConfigError, EngineError
from taketurns.types import Candidate

PROBE_SECONDS = 60.0  # a first request may wait until kernels are compiled
_TEXT = "1 + 1 = 2"
_BARELY = 0.01  # tolerance for rounding
_TOPS = (1000, 20, 5, 1)  # usual limits for the number of log-probabilities


@dataclass(frozen=True, slots=True)
class _Server:
    """A server to ask."""

    client: Client
    url: str
    key: Key

    async def get(self, path: str) -> Any:
        return await self.client.get(self.url + path, self.key, PROBE_SECONDS)

    async def post(self, path: str, body: Mapping[str, Any]) -> Any:
        return await self.client.post(self.url + path, body, self.key, PROBE_SECONDS)


async def probe(
    client: Client, url: str, key: Key, candidate: Candidate, codec: TextCodec
) -> ServerCapabilities:
    """Ask the server at `url` what it can do for a candidate.

    Raises RetryableError if it gives no valid answer, ConfigError if it serves another model than
    the candidate's."""
    server = _Server(client, url, key)
    listed = await server.get("/v1/models")
    entry, entries = _entry(listed, candidate)
    await _compare_tokenizers(server, entry["id"], candidate, codec)
    ids = codec.encode(_TEXT, special=True)
    plain = ServerCapabilities(
        software=await _software(server, entry),
        served_as=entry["id"],
        context=await _slot(server) or _context(entry, entries),
        prompt_ids=True,
        token_ids=False,
        exact_scores=False,
        top_logprobs=0,
        vocabulary=_meta(entry, "n_vocab"),
        only=entry["id"] not in names_of(candidate),
    )
    asked = {
        "model": plain.served_as,
        "prompt": ids,
        "max_tokens": 1,
        "temperature": 0.0,
    }
    wanted = sorted(set(ids))[:2]
    extras = {
        "logprobs": 0,
        "logprob_token_ids": wanted,
        "return_token_ids": True,
        "return_tokens_as_token_ids": True,
        **VERBOSE,
    }
    attempts = [
        asked | extras,
        asked,
        asked | {"prompt": codec.spell(ids)},
    ]
    body, reply = await _first(server, attempts, len(ids))
    choice = only_choice(reply)
    _check_unequal(top_logprobs(choice), codec)
    about = reply.get("__verbose")
    verbose = isinstance(about, dict) and isinstance(about.get("tokens"), list)
    able = replace(
        plain,
        prompt_ids=body["prompt"] is ids,
        token_ids=verbose or isinstance(choice.get("token_ids"), list),
        exact_scores={token.id for token in top_logprobs(choice)} >= set(wanted),
        verbose=verbose,
    )
    if able.exact_scores:
        return replace(able, formats=await _keeps_formats(server, asked))
    bare = {name: value for name, value in body.items() if name not in extras}
    if verbose:
        bare |= forced(wanted[0])
    return replace(able, top_logprobs=await _most(server, bare, codec))


async def _keeps_formats(server: _Server, asked: Mapping[str, Any]) -> bool:
    """Does the server write what vLLM's `structured_outputs` says, and nothing else? Others take
    the field, and leave it out of account."""
    body = {**asked, "structured_outputs": {"choice": list(PROBE)}}
    try:
        choice = only_choice(await server.post("/v1/completions", body))
    except (EngineError, RetryableError):
        return False
    return choice.get("text") in PROBE


async def _first(
    server: _Server, bodies: Sequence[dict[str, Any]], tokens: int
) -> tuple[dict[str, Any], Any]:
    """The first body that the server accepts, and its reply. Raises RetryableError if it accepts
    none."""
    why = ""
    for body in bodies:
        try:
            reply = await server.post("/v1/completions", body)
        except EngineError as error:
            why = str(error)
            continue
        usage = read_usage(reply)
        if isinstance(body["prompt"], str) or usage is None or usage.prompt == tokens:
            return body, reply
        why = f"it counts {usage.prompt} prompt tokens, but the prompt has {tokens}"
    raise RetryableError(why)


async def _most(server: _Server, body: dict[str, Any], codec: TextCodec) -> int:
    """The largest number of log-probabilities that the server gives."""
    for count in _TOPS:
        try:
            reply = await server.post("/v1/completions", body | {"logprobs": count})
        except (EngineError, RetryableError):
            continue
        likely = top_logprobs(only_choice(reply))
        _check_unequal(likely, codec)
        return min(count, len(likely))
    return 0


def _check_unequal(likely: Sequence[Likely], codec: TextCodec) -> None:
    """Raise ConfigError if all tokens are equally probable, as in a model with only zeros as
    weights. vLLM 0.32 serves such a model if the checkpoint's embeddings have other names than vLLM
    expects, and every answer is empty."""
    logprobs = {token.logprob for token in likely}
    if (
        len(likely) > 1
        and len(logprobs) == 1
        and logprobs.pop() <= _BARELY - log(len(codec.tokenizer))
    ):
        raise ConfigError(
            "it gives every token the same probability, so it has not loaded the model's weights: "
            "see in its log which weights it left out"
        )


ModelEntry = Mapping[str, Any]


def _entry(listed: Any, candidate: Candidate) -> tuple[ModelEntry, Sequence[ModelEntry]]:
    """The server's entry for the candidate's model, and all its entries. If the server has only one
    model, its name need not match, unless the candidate is an adapter."""
    entries = models(listed)
    if not entries:
        raise RetryableError("it lists no models at /v1/models")
    names = [entry["id"] for entry in entries]
    for name in names_of(candidate):
        if name in names:
            return entries[names.index(name)], entries
    unnamed = candidate.endpoint is None or candidate.endpoint.served_as is None
    if len(entries) == 1 and unnamed and candidate.spec.adapter is None:
        return entries[0], entries
    wanted = " or ".join(map(repr, names_of(candidate)))
    raise ConfigError(
        f"it serves {', '.join(names)}, not {wanted}: set served_as of {candidate.name}"
    )


def models(listed: Any) -> list[ModelEntry]:
    """The entries of a reply from `/v1/models`; empty if it is not such a list."""
    data = listed.get("data") if isinstance(listed, dict) else None
    return [
        entry
        for entry in (data if isinstance(data, list) else ())
        if isinstance(entry, dict) and isinstance(entry.get("id"), str)
    ]


def names_of(candidate: Candidate) -> tuple[str, ...]:
    """The names that a server may use for a candidate's model."""
    if candidate.endpoint is not None and candidate.endpoint.served_as is not None:
        return (candidate.endpoint.served_as,)
    spec = candidate.spec
    name = candidate.name.strip("()")
    if spec.adapter is not None:
        return (name, spec.adapter)
    return (name, spec.model)


def _context(entry: ModelEntry, entries: Sequence[ModelEntry]) -> int | None:
    """The context in tokens; an adapter has the context of its parent."""
    parents = [other for other in entries if other["id"] == entry.get("parent")]
    lengths = [model.get("max_model_len") for model in (entry, *parents)]
    lengths += [_meta(entry, "n_ctx"), _meta(entry, "n_ctx_train")]
    return next((value for value in lengths if type(value) is int and value > 0), None)


def _meta(entry: ModelEntry, name: str) -> int | None:
    """A number in llama.cpp's description of its model."""
    meta = entry.get("meta")
    value = meta.get(name) if isinstance(meta, dict) else None
    return value if type(value) is int and value > 0 else None


async def _slot(server: _Server) -> int | None:
    """The context of one answer on llama.cpp, which divides its context among several answers."""
    try:
        properties = await server.get("/props")
        value = properties["default_generation_settings"]["n_ctx"]
    except (EngineError, RetryableError, KeyError, TypeError):
        return None
    return value if type(value) is int and value > 0 else None


async def _software(server: _Server, entry: Mapping[str, Any]) -> str:
    owner = entry.get("owned_by")
    name = owner if isinstance(owner, str) and owner else "unknown"
    try:
        reply = await server.get("/version")
    except (EngineError, RetryableError):
        return name
    version = reply.get("version") if isinstance(reply, dict) else None
    return f"{name} {version}" if isinstance(version, str) else name


async def _compare_tokenizers(
    server: _Server, served_as: str, candidate: Candidate, codec: TextCodec
) -> None:
    """Compare the server's tokenizer with the candidate's, if the server has an API for it. Raises
    ConfigError if they differ."""
    body = {"model": served_as, "prompt": _TEXT, "content": _TEXT, "add_special_tokens": False}
    try:
        reply = await server.post("/tokenize", body)
    except (EngineError, RetryableError):
        return
    theirs = reply.get("tokens") if isinstance(reply, dict) else None
    ours = codec.encode(_TEXT)
    if isinstance(theirs, list) and all(type(t) is int for t in theirs) and theirs != ours:
        raise ConfigError(
            f"it reads {_TEXT!r} as the tokens {theirs}, but the tokenizer of {candidate.name} "
            f"gives {ours}: serve that model, or set the candidate's key tokenizer"
        )
