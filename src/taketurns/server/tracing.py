"""OpenTelemetry traces of the requests for answers.

A request is a span, and each of its patches is a span inside it; the request's `traceparent` is
their parent. A request that ended with an error has the status ERROR.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from threading import Thread
from time import perf_counter_ns, time_ns
from typing import TYPE_CHECKING, Any

from taketurns.server.logs import LOG
from taketurns.server.metrics import writer_name

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider

    from taketurns.server.monitor import RequestMonitor

_NANO = 1_000_000_000
_LAST_SPANS = 5.0  # seconds for an exporter to send its last spans
_ATTRIBUTES = ("model", "choices", "tokens", "prompt_tokens", "finish", "error")


class Tracer:
    """Gives finished requests to `provider`. `close` flushes it, which may take long; None if this
    package did not make the provider."""

    def __init__(self, provider: TracerProvider, close: Callable[[], None] | None = None) -> None:
        from opentelemetry import propagate, trace

        self._trace = trace
        self._extract = propagate.extract
        self._tracer = trace.get_tracer("taketurns", tracer_provider=provider)
        self._close = close

    def record(self, monitor: RequestMonitor, headers: Mapping[str, str]) -> None:
        """Make the spans of a request that has just ended."""
        epoch = time_ns() - perf_counter_ns()  # the start of `perf_counter`

        def at(seconds: float) -> int:
            return epoch + int(seconds * _NANO)

        span = self._tracer.start_span(
            "chat",
            context=self._extract(headers),
            kind=self._trace.SpanKind.SERVER,
            start_time=at(monitor.started),
        )
        for key in _ATTRIBUTES:
            if monitor.fields.get(key) is not None:  # not every error has a code
                span.set_attribute(f"taketurns.{key}", monitor.fields[key])
        if "error" in monitor.fields:
            self._failed(span, monitor.fields["error"])
        inside = self._trace.set_span_in_context(span)
        for job, patch, done in monitor.patches:
            timing = patch.timing
            start = done - timing.write - timing.decide - timing.guard
            child = self._tracer.start_span("patch", context=inside, start_time=at(start))
            child.set_attribute("taketurns.choice", job.index)
            child.set_attribute("taketurns.speaker", writer_name(patch, job.speakers))
            child.set_attribute("taketurns.reason", patch.reason)
            child.set_attribute("taketurns.tokens", len(patch.token_ids))
            if patch.withheld:
                withheld = sum(rejected.tokens for rejected in patch.withheld)
                child.set_attribute("taketurns.withheld", withheld)
            if patch.finish == "error":
                self._failed(child, monitor.fields.get("error"))
            child.end(end_time=at(done))
        span.end()

    async def close(self) -> None:
        """Send the remaining spans; give up after some seconds if no receiver answers."""
        if self._close is None:
            return
        closing = Thread(target=self._close, daemon=True)
        closing.start()
        await asyncio.to_thread(closing.join, _LAST_SPANS)
        if closing.is_alive():
            LOG.warning("the last traces could not be sent in time")

    def _failed(self, span: Any, code: str | None) -> None:
        span.set_status(self._trace.StatusCode.ERROR, code)
