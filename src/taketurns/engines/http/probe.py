"""What a server can do, found out by asking it."""

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

PROBE_SECONDS = 60.0  # a first request may have to wait for kernels to be compiled
_TEXT = "1 + 1 = 2"
_BARELY = 0.01  # more than what is equal, for rounding
_TOPS = (1000, 20, 5, 1)  # how many log-probabilities servers give, by habit


@dataclass(frozen=True, slots=True)
class _Server:
    """A server that is asked what it can do."""

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

    Raises RetryableError when it does not answer as a server should, ConfigError when it serves
    something else than the candidate."""
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
    """The first body that the server takes, and its reply. Raises RetryableError if it takes
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
        why = "it counts another number of prompt tokens than it was given"
    raise RetryableError(why)


async def _most(server: _Server, body: dict[str, Any], codec: TextCodec) -> int:
    """How many log-probabilities the server gives where it was asked for many."""
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
    """Raise ConfigError where no token is likelier than it is by chance: what a model computes
    whose weights are all zero. vLLM 0.32 serves one so if its checkpoint names its embeddings
    otherwise than vLLM looks for them, and every answer is empty."""
    logprobs = {token.logprob for token in likely}
    if (
        len(likely) > 1
        and len(logprobs) == 1
        and logprobs.pop() <= _BARELY - log(len(codec.tokenizer))
    ):
        raise ConfigError(
            "it gives every token the same probability, so it has not read the model's weights: "
            "its log may say which it left out"
        )


ModelEntry = Mapping[str, Any]


def _entry(listed: Any, candidate: Candidate) -> tuple[ModelEntry, Sequence[ModelEntry]]:
    """What the server lists of the candidate's model, and all that it lists. A server that has one
    model needs no name for it, unless the candidate is an adapter, which would be another."""
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
    """What a server's reply lists at `/v1/models`; nothing where it is no such list."""
    data = listed.get("data") if isinstance(listed, dict) else None
    return [
        entry
        for entry in (data if isinstance(data, list) else ())
        if isinstance(entry, dict) and isinstance(entry.get("id"), str)
    ]


def names_of(candidate: Candidate) -> tuple[str, ...]:
    """What servers may call a candidate's model."""
    if candidate.endpoint is not None and candidate.endpoint.served_as is not None:
        return (candidate.endpoint.served_as,)
    spec = candidate.spec
    name = candidate.name.strip("()")
    if spec.adapter is not None:
        return (name, spec.adapter)
    return (name, spec.model)


def _context(entry: ModelEntry, entries: Sequence[ModelEntry]) -> int | None:
    """An adapter has the context of its parent."""
    parents = [other for other in entries if other["id"] == entry.get("parent")]
    lengths = [model.get("max_model_len") for model in (entry, *parents)]
    lengths += [_meta(entry, "n_ctx"), _meta(entry, "n_ctx_train")]
    return next((value for value in lengths if type(value) is int and value > 0), None)


def _meta(entry: ModelEntry, name: str) -> int | None:
    """A number that llama.cpp lists of its model."""
    meta = entry.get("meta")
    value = meta.get(name) if isinstance(meta, dict) else None
    return value if type(value) is int and value > 0 else None


async def _slot(server: _Server) -> int | None:
    """The context of one answer on llama.cpp, which shares what it has among several."""
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
    """Where the server shows its tokenizer, it must be ours. Raises ConfigError."""
    body = {"model": served_as, "prompt": _TEXT, "content": _TEXT, "add_special_tokens": False}
    try:
        reply = await server.post("/tokenize", body)
    except (EngineError, RetryableError):
        return
    theirs = reply.get("tokens") if isinstance(reply, dict) else None
    ours = codec.encode(_TEXT)
    if isinstance(theirs, list) and all(type(t) is int for t in theirs) and theirs != ours:
        raise ConfigError(
            f"it reads {_TEXT!r} as {theirs} and the tokenizer of {candidate.name} as {ours}: "
            "it serves another model, or the candidate needs another tokenizer"
        )
