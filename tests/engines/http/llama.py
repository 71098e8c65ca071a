"""A server that speaks as llama.cpp does, in the shapes that its build 11434 was seen to send."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

from taketurns.engines.base import ModelInfo, Session
from taketurns.types import Sampling, SamplingOptions

from .served import ModelServer, _ended, chunk, event, whole

_FORCED = 100.0  # of bias: no other token is written


@dataclass
class LlamaServer(ModelServer):
    """Serves the first of `models`, whatever a request calls it, and lists it as `called`. A token
    that ends inside a character is neither streamed nor weighed: the next one brings its text."""

    called: str = "/models/some.gguf"
    vocabulary: int | None = None

    async def _respond(
        self,
        writer: asyncio.StreamWriter,
        method: str,
        path: str,
        headers: dict[str, str],
        body: bytes,
    ) -> None:
        codec = (await self.engine.info(self.models[0])).codec
        if path == "/v1/models":
            meta = {
                "vocab_type": 2,
                "n_vocab": self.vocabulary or codec.size,
                "n_ctx": self.context,
                "n_ctx_train": 1 << 17,
            }
            listed = {"id": self.called, "aliases": [self.called], "object": "model",
                      "owned_by": "llamacpp", "meta": meta}  # fmt: skip
            return whole(writer, {"object": "list", "data": [listed]})
        if path == "/props":
            return whole(writer, {"default_generation_settings": {"n_ctx": self.context}})
        if path == "/tokenize":
            return whole(writer, {"tokens": codec.encode(json.loads(body)["content"])})
        if path != "/v1/completions":
            return refuse(writer, 404, "File Not Found")
        return await self._complete(writer, json.loads(body))

    async def _complete(self, writer: asyncio.StreamWriter, asked: dict[str, Any]) -> None:
        self.requests.append(asked)
        async with self.engine.session(asked.get("seed", 0)) as session:
            await self._write(writer, asked, session)

    async def _write(
        self, writer: asyncio.StreamWriter, asked: dict[str, Any], session: Session
    ) -> None:
        info = await self.engine.info(self.models[0])
        given = asked["prompt"]
        ids = info.codec.encode(given, special=True) if isinstance(given, str) else given
        if max(ids) >= (self.vocabulary or info.codec.size):
            return refuse(writer, 400, "Prompt contains invalid tokens")
        if self.context is not None and len(ids) >= self.context:
            return refuse(writer, 400, f"request ({len(ids)} tokens) exceeds the context")
        forced = [int(i) for i, bias in asked.get("logit_bias", {}).items() if bias > _FORCED]
        if forced:
            tokens, finish = forced, "length"
        else:
            sampling = Sampling(
                max(1, asked["max_tokens"]),
                asked.get("temperature", 0.8),
                asked.get("top_p", 0.95),
                options=_options(asked),
            )
            done = await session.generate(info.name, ids, sampling)
            tokens, finish = _ended(done, info), done.finish
        told = await self._told(session, info, ids, tokens, asked.get("logprobs", 0))
        usage = {"completion_tokens": len(tokens), "prompt_tokens": len(ids),
                 "prompt_tokens_details": {"cached_tokens": 0}}  # fmt: skip
        verbose = asked.get("verbose", False)

        def reply(
            text: str, finish: str | None, weighed: list[Any], tokens: list[int], predicted: int
        ) -> dict[str, Any]:
            logprobs = {"content": weighed} if weighed else None
            made: dict[str, Any] = {
                "choices": [
                    {"text": text, "index": 0, "logprobs": logprobs, "finish_reason": finish}
                ],
                "object": "text_completion",
            }
            if verbose:
                made["__verbose"] = {"content": text, "tokens": tokens,
                                     "tokens_predicted": predicted}  # fmt: skip
            return made

        if not asked.get("stream"):
            returned = tokens if asked.get("return_tokens") else []
            weighed = [one for _, _, one in told if one is not None]
            text = "".join(text for _, text, _ in told)
            return whole(
                writer, reply(text, finish, weighed, returned, len(tokens)) | {"usage": usage}
            )
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
            b"transfer-encoding: chunked\r\n\r\n"
        )
        for place, text, one in told:
            event(writer, reply(text, None, [one] if one else [], [tokens[place]], place + 1))
        event(writer, reply("", finish, [], [], len(tokens)) | {"usage": usage})
        chunk(writer, b"data: [DONE]\n\n")
        return chunk(writer, b"")

    async def _told(
        self, session: Session, info: ModelInfo, ids: list[int], tokens: list[int], count: int
    ) -> list[tuple[int, str, dict[str, Any] | None]]:
        """Place, text and log-probabilities of the tokens that do not end inside a character."""
        stream, text = info.codec.stream(ids), ""
        told = []
        for place, token in enumerate(tokens):
            text += stream.push(token)
            if stream.pending:
                continue
            weighed = None
            if count:
                every = range(info.codec.size)
                before = [*ids, *tokens[:place]]
                values = await session.score(info.name, before, every)
                ranked = sorted(zip(values, every, strict=True), reverse=True)[:count]
                top = [_entry(info, other, value) for value, other in ranked]
                weighed = _entry(info, token, values[token]) | {"top_logprobs": top}
            told.append((place, text, weighed))
            text = ""
        return told


def _options(asked: dict[str, Any]) -> SamplingOptions:
    """Those whose samplers are asked for; its penalties count the prompt too, as far back as
    `repeat_last_n` says, which must not be negative."""
    samplers = asked.get("samplers", ())
    told: dict[str, Any] = {name: asked[name] for name in ("top_k", "min_p") if name in samplers}
    if "penalties" in samplers:
        whole = len(asked["prompt"]) + asked["max_tokens"]
        assert asked["repeat_last_n"] == whole, "a part of the prompt is not counted"
        told["repetition_penalty"] = asked["repeat_penalty"]
    biases = tuple((int(i), value) for i, value in asked.get("logit_bias", {}).items())
    return SamplingOptions(**told, logit_bias=biases, ignore_eos=asked.get("ignore_eos", False))


def _entry(info: ModelInfo, token: int, logprob: float) -> dict[str, Any]:
    """Of an impossible token, the least number that a float can be: JSON has no infinity."""
    return {"id": token, "token": info.codec.decode([token]), "logprob": max(logprob, -3.4028e38)}


def refuse(writer: asyncio.StreamWriter, status: int, message: str) -> None:
    error = {"code": status, "message": message, "type": "invalid_request_error"}
    whole(writer, {"error": error}, status)
