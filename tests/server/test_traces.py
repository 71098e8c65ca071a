"""OpenTelemetry traces, in this process and out of real ones."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from taketurns import EngineError, Team, UsageError
from taketurns.server import tracing
from taketurns.server.exporters import tracer_of_environment
from taketurns.server.tracing import Tracer

from .conftest import Start, eventually, forever, scripted

ASKED = [{"role": "user", "content": "a private matter"}]
SERVER = """
import sys
from taketurns import Candidate, EngineError, ModelSpec, Policy, ScriptedEngine, Team
from taketurns.server.config import ServeConfig
from taketurns.server.run import serve
from taketurns.switchers import FixedSwitcher

engine = ScriptedEngine({"a": lambda prompt, sampling: "a" * 4}, failures={1: EngineError("gone")})
team = Team([Candidate("a", ModelSpec("a", prompt="{text}"))], engine, FixedSwitcher([0]),
            Policy(patch_size=4, max_tokens=4))
serve(team, ServeConfig(port=0, traces=True), "team", lambda said: print(said, file=sys.stderr))
"""
ADMINISTRATOR = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter()))
trace.set_tracer_provider(provider)
"""


def pair(**options: Any) -> Team:
    return scripted({"a": forever("a"), "b": forever("b")}, **options)


class Collector:
    """An OTLP receiver on a socket of its own."""

    def __init__(self) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        received = self.requests

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.path == "/v1/traces"
                body = self.rfile.read(int(self.headers["content-length"]))
                received.append(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *arguments: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    @property
    def spans(self) -> list[Any]:
        return [
            span
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    thread = threading.Thread(target=made.server.serve_forever)
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()


def ask_a_server(folder: Path, before: str = "", **variables: str) -> str:
    """Serve in a process of its own, ask for an answer that is written and for one that fails, and
    end it with SIGTERM; returns its standard output."""
    file = folder / "serve.py"
    file.write_text(before + SERVER)
    clean = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
    with (
        (folder / "out").open("w+") as out,
        subprocess.Popen(
            [sys.executable, str(file)],
            env=clean | variables,
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
        ) as server,
    ):
        assert server.stderr is not None
        url = server.stderr.readline().split()[-1]
        with httpx.Client(base_url=url, timeout=30) as http:
            eventually(lambda: http.get("/health/ready").status_code == 200)
            for status in (200, 500):
                reply = http.post("/v1/chat/completions", json={"messages": ASKED})
                assert reply.status_code == status
        server.send_signal(signal.SIGTERM)
        _, said = server.communicate(timeout=30)
        assert server.returncode == 0, said
        out.seek(0)
        return out.read()


def test_traces_reach_a_collector(tmp_path: Path, collector: Collector) -> None:
    """Those of a server's last moments too."""
    printed = ask_a_server(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
    assert printed == ""
    (resource,) = {
        attribute.value.string_value
        for request in collector.requests
        for one in request.resource_spans
        for attribute in one.resource.attributes
        if attribute.key == "service.name"
    }
    assert resource == "taketurns"
    chats = [span for span in collector.spans if span.name == "chat"]
    assert [span.status.code for span in chats] == [0, StatusCode.ERROR.value]
    assert "engine_error" in str(chats[1].attributes)
    assert "private" not in str(collector.requests)


def test_another_exporter_is_named_by_the_environment(tmp_path: Path, collector: Collector) -> None:
    printed = ask_a_server(
        tmp_path,
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
        OTEL_TRACES_EXPORTER="console",
        OTEL_PYTHON_TRACER_PROVIDER="sdk_tracer_provider",
        OTEL_SERVICE_NAME="mine",
    )
    assert printed.count('"name": "chat"') == 2
    assert '"service.name": "mine"' in printed
    assert not collector.requests


def test_an_administrator_s_own_provider_is_used_as_it_is(
    tmp_path: Path, collector: Collector
) -> None:
    printed = ask_a_server(tmp_path, ADMINISTRATOR, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
    assert printed.count('"name": "chat"') == 2
    assert not collector.requests


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        (
            "OTEL_TRACES_EXPORTER",
            "jaeger",
            "needs jaeger, which is not installed: install it, or set one of cons",
        ),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "needs otlp_proto_grpc, which is not installed"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", "must be http/protobuf or grpc, not"),
    ],
)
def test_an_exporter_that_is_not_there_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, says: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(UsageError, match=says):
        tracer_of_environment()


async def test_a_collector_that_hangs_does_not_keep_the_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tracing, "_LAST_SPANS", 0.1)
    answers = threading.Event()

    def hangs() -> None:
        answers.wait(30)

    begun = time.monotonic()
    await Tracer(TracerProvider(), hangs).close()
    assert time.monotonic() - begun < 5
    answers.set()


def watched(start: Start, team: Team, **settings: Any) -> tuple[Any, InMemorySpanExporter]:
    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    server = start(team, **settings)
    server.serving._tracer = Tracer(provider)
    return server, spans


def test_a_request_and_its_patches_are_spans_of_the_caller_s_trace(start: Start) -> None:
    server, spans = watched(start, pair())
    caller = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    client = server.client(default_headers={"traceparent": caller})
    client.chat.completions.create(model="team", messages=ASKED)
    *_, request = done = spans.get_finished_spans()
    assert [span.name for span in done] == ["patch"] * 5 + ["chat"]
    assert request.attributes["taketurns.tokens"] == 20
    assert format(request.context.trace_id, "032x") == caller.split("-")[1]
    assert {span.parent.span_id for span in done[:-1]} == {request.context.span_id}
    assert [span.attributes["taketurns.speaker"] for span in done[:2]] == ["a", "b"]
    for span in done:
        assert request.start_time <= span.start_time <= span.end_time <= request.end_time


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("patches", [0, 2])
def test_an_answer_that_fails_is_a_span_with_an_error(
    start: Start, streamed: bool, patches: int
) -> None:
    server, spans = watched(start, pair(failures={patches: EngineError("gone")}))
    with server.http() as http:
        http.post("/v1/chat/completions", json={"messages": ASKED, "stream": streamed})
    eventually(lambda: any(span.name == "chat" for span in spans.get_finished_spans()))
    *_, request = spans.get_finished_spans()
    assert request.status.status_code == StatusCode.ERROR
    assert request.attributes["taketurns.error"] == "engine_error"
    assert request.attributes["taketurns.finish"] == ("error",)


def test_a_request_that_is_turned_away_is_a_span_with_an_error(start: Start) -> None:
    server, spans = watched(start, pair(), max_running=1, max_waiting=0)
    server.serving.gate.enter([1000])
    with server.http() as http:
        reply = http.post("/v1/chat/completions", json={"messages": ASKED})
    assert reply.status_code == 429
    (request,) = spans.get_finished_spans()
    assert request.status.status_code == StatusCode.ERROR
    assert request.attributes["taketurns.error"] == "queue_full"
