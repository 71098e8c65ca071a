"""A server of models on a real socket that speaks as vLLM does, or as plainer servers do.

It writes with an engine of ours, so its answers are as real as that engine's. HTTP/1.1 with kept
connections, written out here so that a test can see every byte.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Literal

from taketurns.engines.base import Engine, Session
from taketurns.types import Completion, Sampling, SamplingOptions, Token

Style = Literal["vllm", "ids-in", "text"]
MOST = 20  # log-probabilities that it gives
PLAIN = {
    "model", "prompt", "max_tokens", "temperature", "top_p", "seed", "stream", "stream_options",
    "logprobs", "logit_bias", "presence_penalty", "frequency_penalty",
}  # fmt: skip


@dataclass
class ModelServer:
    """Serves `models` of `engine` at `url`. `style` "vllm" knows ids and given log-probabilities,
    "ids-in" takes ids and gives text, "text" refuses whatever OpenAI's API does not have.

    `requests` are the bodies it got, `begun` how many replies it began; `key` is what it asks for.
    If it `mixes_logprobs`, it gives a request for the most probable tokens only the written one,
    and -inf, while one for given tokens runs, as vLLM 0.32 does in one batch.
    """

    engine: Engine
    models: tuple[str, ...]
    style: Style = "vllm"
    key: str | None = None
    context: int | None = 4096
    adapter: str | None = None
    mixes_logprobs: bool = False
    given_running: int = 0
    requests: list[dict[str, Any]] = field(default_factory=list)
    running: int = 0
    most_running: int = 0
    connections: int = 0
    url: str = ""
    _tasks: set[asyncio.Task[Any]] = field(default_factory=set)

    async def start(self, port: int = 0) -> asyncio.Server:
        server = await asyncio.start_server(self._connection, "127.0.0.1", port)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        return server

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._converse(reader, writer)
        except asyncio.CancelledError:
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                method, path, _ = head.split(" ", 2)
                headers = dict(
                    line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line
                )
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                await self._respond(writer, method, path, headers, body)
                await writer.drain()

    async def stop(self) -> None:
        """Drop all connections."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks)

    async def _respond(
        self,
        writer: asyncio.StreamWriter,
        method: str,
        path: str,
        headers: dict[str, str],
        body: bytes,
    ) -> None:
        if self.key is not None and headers.get("authorization") != f"bearer {self.key}".lower():
            return whole(writer, {"error": "who are you?"}, 401)
        if path == "/v1/models":
            owner = "vllm" if self.style == "vllm" else "somebody"
            data: list[dict[str, Any]] = [
                {"id": name, "owned_by": owner, "max_model_len": self.context}
                for name in self.models
            ]
            if self.adapter is not None:  # as vLLM lists one
                base = self.models[0]
                data.append({"id": self.adapter, "parent": base, "max_model_len": None})
            return whole(writer, {"object": "list", "data": data})
        if path == "/version" and self.style == "vllm":
            return whole(writer, {"version": "0.32.0"})
        if path != "/v1/completions" or method != "POST":
            return whole(writer, {"error": "no such place"}, 404)
        return await self._complete(writer, json.loads(body))

    async def _complete(self, writer: asyncio.StreamWriter, asked: dict[str, Any]) -> None:
        self.requests.append(asked)
        if asked["model"] not in (*self.models, self.adapter):
            return whole(writer, {"error": "no such model"}, 404)
        if self.style == "text" and (unknown := set(asked) - PLAIN):
            return whole(writer, {"error": f"unknown fields: {sorted(unknown)}"}, 400)
        if (asked.get("logprobs") or 0) > MOST:
            return whole(writer, {"error": f"at most {MOST} log-probabilities"}, 400)
        if self.style == "text" and not isinstance(asked["prompt"], str):
            return whole(writer, {"error": "prompt must be a string"}, 400)
        given = "logprob_token_ids" in asked
        self.given_running += given
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            async with self.engine.session(asked.get("seed", 0)) as session:
                await self._write(writer, asked, session)
        finally:
            self.running -= 1
            self.given_running -= given
        return None

    async def _write(
        self, writer: asyncio.StreamWriter, asked: dict[str, Any], session: Session
    ) -> None:
        model, prompt = asked["model"], asked["prompt"]
        info = await self.engine.info(model)
        ids = info.codec.encode(prompt, special=True) if isinstance(prompt, str) else prompt
        scored = asked.get("logprob_token_ids") if self.style == "vllm" else None
        if scored is None and asked.get("logprobs") is not None and asked["max_tokens"] == 1:
            tops = [await self._most_probable(session, model, ids, asked["logprobs"])]
        else:
            tops = []
        sampling = Sampling(
            asked["max_tokens"],
            asked["temperature"],
            asked.get("top_p", 1.0),
            stop_token_ids=tuple(asked.get("stop_token_ids", ())),
            logprobs=asked.get("logprobs") if asked.get("stream") else None,
            options=asked_options(asked),
        )
        usage = {"prompt_tokens": len(ids), "prompt_tokens_details": {"cached_tokens": 0}}
        stream = info.codec.stream(ids)

        async def score(written: list[int]) -> list[dict[str, float]]:
            """What vLLM tells where each token stands: what was probable there."""
            told = []
            for place in range(len(written) if scored else 0):
                values = await session.score(model, [*ids, *written[:place]], scored or ())
                named = (f"token_id:{token}" for token in scored or ())
                told.append(dict(zip(named, values, strict=True)))
            return told

        def choice(
            tokens: list[int], text: str, finish: str | None, tops: list[dict[str, float]]
        ) -> dict[str, Any]:
            made: dict[str, Any] = {"index": 0, "text": text, "finish_reason": finish}
            if self.style == "vllm" and asked.get("return_token_ids"):
                made["token_ids"] = tokens
            if tops:
                made["logprobs"] = {"top_logprobs": tops, "token_logprobs": [0.0] * len(tops)}
            return {"id": "c", "object": "text_completion", "choices": [made]}

        if not asked.get("stream"):
            done = await session.generate(model, ids, sampling)
            tokens, text = _ended(done, info), info.codec.decode(done.token_ids)
            tops = tops or await score(tokens)
            return whole(writer, choice(tokens, text, done.finish, tops) | {"usage": usage})
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
            b"transfer-encoding: chunked\r\n\r\n"
        )

        def weighed(body: dict[str, Any], token: Token) -> dict[str, Any]:
            if sampling.logprobs is not None:
                tops = {f"token_id:{other}": value for other, value in token.top}
                if self.mixes_logprobs and self.given_running:
                    tops = {f"token_id:{token.id}": token.logprob, "token_id:0": -9999.0}
                body["choices"][0]["logprobs"] = {
                    "token_logprobs": [token.logprob], "top_logprobs": [tops],
                }  # fmt: skip
            return body

        def tell(token: Token) -> None:
            assert token.id is not None
            if writer.is_closing():
                raise ConnectionError("nobody listens")
            body = choice([token.id], stream.push(token.id), None, [])
            event(writer, weighed(body, token))

        done = await session.generate(model, ids, sampling, None if scored else tell)
        tokens = _ended(done, info)
        ended = tokens[len(done.token_ids) :]
        if scored:  # all at once, in two chunks
            first, tops = tokens[: len(tokens) // 2], await score(tokens)
            event(writer, choice(first, "", None, tops[: len(first)]))
            ended, tops = tokens[len(first) :], tops[len(first) :]
        body = choice(ended, stream.flush(), done.finish, tops)
        if not scored and ended and sampling.logprobs is not None:
            values = await session.score(model, [*ids, *done.token_ids], range(info.codec.size))
            ranked = sorted(enumerate(values), key=lambda each: -each[1])[: sampling.logprobs]
            weighed(body, Token(ended[0], logprob=values[ended[0]], top=tuple(ranked)))
        event(writer, body)
        event(writer, {"choices": [], "usage": usage})
        chunk(writer, b"data: [DONE]\n\n")
        return chunk(writer, b"")

    async def _most_probable(
        self, session: Session, model: str, ids: list[int], count: int
    ) -> dict[str, float]:
        info = await self.engine.info(model)
        every = range(info.codec.size)
        values = await session.score(model, ids, every)
        ranked = sorted(zip(values, every, strict=True), reverse=True)[:count]
        return {info.codec.decode([i]): value for value, i in ranked}


def asked_options(asked: dict[str, Any]) -> SamplingOptions:
    """As vLLM takes them: the penalties count what is written for this request, one of them the
    prompt too."""
    named = ("top_k", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty")
    told = {name: asked[name] for name in (*named, "min_tokens", "ignore_eos") if name in asked}
    biases = asked.get("logit_bias", {}).items()
    return SamplingOptions(**told, logit_bias=tuple((int(i), value) for i, value in biases))


def _ended(done: Completion, info: Any) -> list[int]:
    """vLLM tells the end token too."""
    ended = [min(info.end_token_ids)] if done.finish == "stop" else []
    return [*done.token_ids, *ended]


def whole(writer: asyncio.StreamWriter, body: Any, status: int = 200, *headers: str) -> None:
    data = json.dumps(body).encode()
    head = [
        f"HTTP/1.1 {status} X",
        "content-type: application/json",
        f"content-length: {len(data)}",
    ]
    writer.write("\r\n".join([*head, *headers, "", ""]).encode() + data)


def event(writer: asyncio.StreamWriter, body: Any) -> None:
    chunk(writer, b"data: " + json.dumps(body).encode() + b"\n\n")


def chunk(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")


@asynccontextmanager
async def serving(*servers: ModelServer) -> AsyncIterator[None]:
    """The servers listen within the block."""
    listening = [await server.start() for server in servers]
    try:
        yield
    finally:
        for one in listening:
            one.close()
        for server in servers:
            await server.stop()
