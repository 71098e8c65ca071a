"""A client of a streaming server: measurements of single streams and of many at once."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from statistics import quantiles
from time import perf_counter
from typing import Any

from jsonschema import validate

from benchmarks.serving.endpoints import ENDPOINTS, Endpoint, Question
from taketurns import Team, Trace
from taketurns.config.answer_format import read_format

# What can be written without letters: the bundled team has none by themselves.
FORMATS: Sequence[dict[str, Any]] = (
    {"json": {"type": "array", "items": {"type": "integer", "minimum": 0}, "maxItems": 9}},
    {"regex": r"( [0-9]){2,12}\."},
    {"json": {"type": "array", "items": {"type": "string", "maxLength": 9}, "minItems": 2}},
)


@dataclass
class StreamedAnswer:
    """One stream as seen by its client. Times are in seconds since the request was sent."""

    status: int
    text: str = ""
    speakers: tuple[str, ...] = ()
    times: list[float] = field(default_factory=list)
    done: bool = False
    error: str | None = None


@dataclass(frozen=True)
class OfflineAnswer:
    """A question, and what the team writes for it offline."""

    question: Question
    text: str
    speakers: tuple[str, ...]


@dataclass
class LoadResult:
    """The results of many streams; `first` are the seconds to each first token."""

    streams: int
    requests: int = 0
    whole: int = 0
    equal: int = 0
    tokens: int = 0
    seconds: float = 0.0
    first: list[float] = field(default_factory=list)

    def row(self) -> dict[str, Any]:
        """The printed figures."""
        return {
            "streams": self.streams,
            "requests": self.requests,
            "whole": self.whole,
            "equal to offline": self.equal,
            "first token p50, ms": round(1000 * percentile(self.first, 50), 1),
            "first token p95, ms": round(1000 * percentile(self.first, 95), 1),
            "tokens/s": round(self.tokens / self.seconds),
            "requests/s": round(self.requests / self.seconds, 1),
        }

    @property
    def problem(self) -> str | None:
        """A message if a stream is wrong."""
        parts = {
            "not whole": self.requests - self.whole,
            "not equal to offline": self.requests - self.equal,
        }
        wrong = " and ".join(f"{count} {what}" for what, count in parts.items() if count)
        asked = f"of {self.requests} streams, {self.streams} side by side"
        return f"{asked}, {wrong}" if wrong else None


async def ask(url: str, endpoint: Endpoint, question: Question) -> StreamedAnswer:
    """One streamed answer, on its own connection."""
    host, port = url.removeprefix("http://").split(":")
    payload = json.dumps(endpoint.body(question) | {"stream": True}).encode()
    reader, writer = await asyncio.open_connection(host, int(port), limit=1 << 20)
    begun = perf_counter()
    writer.write(
        b"POST %b HTTP/1.1\r\nhost: %b\r\nconnection: close\r\n"
        b"content-type: application/json\r\ncontent-length: %d\r\n\r\n"
        % (endpoint.path.encode(), host.encode(), len(payload))
        + payload
    )
    streamed = StreamedAnswer(int((await reader.readline()).split()[1]))
    events: list[tuple[float, bytes]] = []
    while line := await reader.readline():
        if line.startswith(b"data: "):
            events.append((perf_counter() - begun, line[6:].strip()))
    writer.close()
    for at, data in events:
        event = endpoint.read(data)
        if event.text is not None:
            streamed.text += event.text
            streamed.times.append(at)
        streamed.speakers += event.speakers
        streamed.done |= event.done
        streamed.error = event.error or streamed.error
    return streamed


async def load(
    url: str,
    cases: Sequence[OfflineAnswer],
    streams: int,
    requests: int,
    note: Callable[[int], None] = lambda done: None,
) -> LoadResult:
    """Keep `streams` requests in progress, at all endpoints by turns, until `requests` are
    answered."""
    result = LoadResult(streams)
    left = iter(range(requests))
    order = Random(streams)

    async def one_after_another() -> None:
        for _ in left:
            case = order.choice(cases)
            endpoint = order.choice([each for each in ENDPOINTS if each.takes(case.question)])
            streamed = await ask(url, endpoint, case.question)
            result.requests += 1
            result.whole += streamed.done and streamed.error is None
            result.equal += (streamed.text, streamed.speakers) == (case.text, case.speakers)
            result.tokens += len(streamed.times)
            result.first += streamed.times[:1]
            note(result.requests)

    begun = perf_counter()
    await asyncio.gather(*(one_after_another() for _ in range(streams)))
    result.seconds = perf_counter() - begun
    return result


def offline(team: Team, questions: Sequence[str], seeds: int) -> list[OfflineAnswer]:
    """What the team writes for each question and seed when it is not served. Under every fourth
    seed answers have a format. Raises ValueError where one that ended is not in it."""
    names = [candidate.name for candidate in team.candidates]
    cases = []
    for seed in range(seeds):
        for number, question in enumerate(questions):
            entry = FORMATS[number % len(FORMATS)] if seed % 4 == 3 else None
            policy = replace(team.policy, format=read_format(entry))
            trace = team.generate(question, seed=seed, policy=policy)
            _check(entry, trace)
            speakers = tuple(names[patch.speaker or 0] for patch in trace.patches)
            asked = Question(question, seed, entry, policy.max_tokens)
            cases.append(OfflineAnswer(asked, trace.text, speakers))
    return cases


def _check(entry: dict[str, Any] | None, trace: Trace) -> None:
    if trace.error is not None:
        raise ValueError(trace.error)
    if entry is not None and trace.finish == "stop":
        if "regex" in entry and not re.fullmatch(entry["regex"], trace.text):
            raise ValueError(f"{trace.text!r} does not match {entry['regex']}")
        if "json" in entry:
            validate(json.loads(trace.text), entry["json"])


def percentile(values: Sequence[float], percent: int) -> float:
    """A percentile of values."""
    if len(values) < 2:
        return values[0] if values else float("nan")
    return quantiles(values, n=100, method="inclusive")[percent - 1]
