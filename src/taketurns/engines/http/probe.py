"""What a server can do, found out by asking it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from taketurns.engines.http.calls import Caller, Key
from taketurns.engines.http.faults import Fault
from taketurns.engines.http.wire import Abilities, only_choice, read_usage, top_logprobs
from taketurns.errors import ConfigError, EngineError
from taketurns.text import TextCodec
from taketurns.types import Candidate

PROBE_SECONDS = 60.0  # a first request may have to wait for kernels to be compiled
_TEXT = "1 + 1 = 2"
_TOPS = (20, 5, 1)  # how many log-probabilities servers give, by habit


async def probe(
    caller: Caller, url: str, key: Key, candidate: Candidate, codec: TextCodec
) -> Abilities:
    """Ask the server at `url` what it can do for a candidate.

    Raises Fault when it does not answer as a server should, ConfigError when it serves something
    else than the candidate.
    """
    listed = await caller.get(f"{url}/v1/models", key, PROBE_SECONDS)
    entry, entries = _entry(listed, candidate)
    await _compare_tokenizers(caller, url, key, entry["id"], candidate, codec)
    ids = codec.encode(_TEXT, special=True)
    plain = Abilities(
        software=await _software(caller, url, key, entry),
        served_as=entry["id"],
        context=_context(entry, entries),
        prompt_ids=True,
        token_ids=False,
        exact_scores=False,
        top_logprobs=0,
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
    }
    attempts = [
        asked | extras,
        asked,
        asked | {"prompt": codec.spell(ids)},
    ]
    body, reply = await _first(caller, url, key, attempts, len(ids))
    choice = only_choice(reply)
    able = replace(
        plain,
        prompt_ids=body["prompt"] is ids,
        token_ids=isinstance(choice.get("token_ids"), list),
        exact_scores=all(f"token_id:{token}" in top_logprobs(choice) for token in wanted),
    )
    if able.exact_scores:
        return able
    bare = {name: value for name, value in body.items() if name not in extras}
    return replace(able, top_logprobs=await _most(caller, url, key, bare))


async def _first(
    caller: Caller, url: str, key: Key, bodies: Sequence[dict[str, Any]], tokens: int
) -> tuple[dict[str, Any], Any]:
    """The first body that the server takes, and its reply. Raises Fault if it takes none."""
    why = ""
    for body in bodies:
        try:
            reply = await caller.post(f"{url}/v1/completions", body, key, PROBE_SECONDS)
        except EngineError as error:
            why = str(error)
            continue
        usage = read_usage(reply)
        if isinstance(body["prompt"], str) or usage is None or usage.prompt == tokens:
            return body, reply
        why = "it counts another number of prompt tokens than it was given"
    raise Fault(why)


async def _most(caller: Caller, url: str, key: Key, body: dict[str, Any]) -> int:
    """How many log-probabilities the server gives where it was asked for many."""
    for count in _TOPS:
        try:
            reply = await caller.post(
                f"{url}/v1/completions", body | {"logprobs": count}, key, PROBE_SECONDS
            )
        except (EngineError, Fault):
            continue
        return count if top_logprobs(only_choice(reply)) else 0
    return 0


Entry = Mapping[str, Any]


def _entry(listed: Any, candidate: Candidate) -> tuple[Entry, Sequence[Entry]]:
    """What the server lists of the candidate's model, and all that it lists."""
    entries = models(listed)
    if not entries:
        raise Fault("it lists no models at /v1/models")
    names = [entry["id"] for entry in entries]
    for name in names_of(candidate):
        if name in names:
            return entries[names.index(name)], entries
    wanted = " or ".join(map(repr, names_of(candidate)))
    raise ConfigError(
        f"it serves {', '.join(names)}, not {wanted}: set served_as of {candidate.name}"
    )


def models(listed: Any) -> list[Entry]:
    """What a server's reply lists at `/v1/models`; nothing where it is no such list."""
    data = listed.get("data") if isinstance(listed, dict) else None
    return [
        one
        for one in (data if isinstance(data, list) else ())
        if isinstance(one, dict) and isinstance(one.get("id"), str)
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


def _context(entry: Entry, entries: Sequence[Entry]) -> int | None:
    """An adapter has the context of its parent."""
    meta = entry.get("meta")
    parents = [one for one in entries if one["id"] == entry.get("parent")]
    found = [one.get("max_model_len") for one in (entry, *parents)]
    if isinstance(meta, dict):
        found += [meta.get("n_ctx"), meta.get("n_ctx_train")]
    return next((int(value) for value in found if isinstance(value, int) and value > 0), None)


async def _software(caller: Caller, url: str, key: Key, entry: Mapping[str, Any]) -> str:
    owner = entry.get("owned_by")
    name = owner if isinstance(owner, str) and owner else "unknown"
    try:
        said = await caller.get(f"{url}/version", key, PROBE_SECONDS)
    except (EngineError, Fault):
        return name
    version = said.get("version") if isinstance(said, dict) else None
    return f"{name} {version}" if isinstance(version, str) else name


async def _compare_tokenizers(
    caller: Caller, url: str, key: Key, served_as: str, candidate: Candidate, codec: TextCodec
) -> None:
    """Where the server shows its tokenizer, it must be ours. Raises ConfigError."""
    body = {"model": served_as, "prompt": _TEXT, "content": _TEXT, "add_special_tokens": False}
    try:
        said = await caller.post(f"{url}/tokenize", body, key, PROBE_SECONDS)
    except (EngineError, Fault):
        return
    theirs = said.get("tokens") if isinstance(said, dict) else None
    ours = codec.encode(_TEXT)
    if isinstance(theirs, list) and all(type(t) is int for t in theirs) and theirs != ours:
        raise ConfigError(
            f"it reads {_TEXT!r} as {theirs} and the tokenizer of {candidate.name} as {ours}: "
            "it serves another model, or the candidate needs another tokenizer"
        )
