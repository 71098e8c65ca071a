"""OpenTelemetry traces, where `opentelemetry-sdk` is installed and configured by its environment.

A request is a span, each of its patches a span inside it; a `traceparent` that came with the
request is their parent.
"""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter_ns, time_ns
from typing import TYPE_CHECKING, Any

from taketurns.errors import UsageError

if TYPE_CHECKING:
    from taketurns.server.watch import Watch

_NANO = 1_000_000_000


class Tracer:
    """Hands finished requests to a tracer provider; None is the process' own."""

    def __init__(self, provider: Any = None) -> None:
        try:
            from opentelemetry import propagate, trace
        except ImportError as error:
            raise UsageError(
                "traces need opentelemetry: pip install 'taketurns[traces]'"
            ) from error
        self._trace = trace
        self._extract = propagate.extract
        self._tracer = trace.get_tracer("taketurns", tracer_provider=provider)

    def record(self, watch: Watch, headers: Mapping[str, str]) -> None:
        """Make the spans of a request that has just ended."""
        began = time_ns() - perf_counter_ns()

        def at(seconds: float) -> int:
            return began + int(seconds * _NANO)

        names = watch.speakers
        span = self._tracer.start_span(
            "chat", context=self._extract(headers), start_time=at(watch.started)
        )
        for key in ("model", "choices", "tokens", "prompt_tokens", "error"):
            if key in watch.fields:
                span.set_attribute(f"taketurns.{key}", watch.fields[key])
        inside = self._trace.set_span_in_context(span)
        for index, patch, done in watch.patches:
            name = "(forced)" if patch.speaker is None else names[patch.speaker]
            timing = patch.timing
            start = done - timing.write - timing.decide - timing.guard
            part = self._tracer.start_span("patch", context=inside, start_time=at(start))
            part.set_attribute("taketurns.choice", index)
            part.set_attribute("taketurns.speaker", name)
            part.set_attribute("taketurns.reason", patch.reason)
            part.set_attribute("taketurns.tokens", len(patch.token_ids))
            if patch.withheld:
                part.set_attribute("taketurns.withheld", sum(one.tokens for one in patch.withheld))
            part.end(end_time=at(done))
        span.end()
