"""Exporters of traces, configured by OpenTelemetry's environment variables.

If the process already has a tracer provider (`opentelemetry-instrument`, or a program that serves a
team), that is used. Otherwise `OTEL_TRACES_EXPORTER` names the exporters, by default `otlp`; the
exporters, the sampler and the batches read their own variables.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import entry_points
from os import environ
from typing import TYPE_CHECKING, Any

from taketurns import __version__
from taketurns.errors import UsageError
from taketurns.server.tracing import Tracer
from taketurns.utils.extras import require

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

_GROUP = "opentelemetry_traces_exporter"  # the group of entry points for exporters
_OTLP = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}


def tracer_of_environment() -> Tracer:
    """The server's tracer. Raises UsageError for an exporter that is not installed."""
    require("traces", "opentelemetry.sdk")
    from opentelemetry import trace
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    present = trace.get_tracer_provider()
    if not isinstance(present, trace.ProxyTracerProvider) and not _has_no_processor(present):
        return Tracer(present)
    ours = {"service.name": "taketurns", "service.version": __version__}
    named = OTELResourceDetector().detect().attributes
    provider = TracerProvider(resource=Resource.create({**ours, **named}), shutdown_on_exit=False)
    for exporter in _exporters():
        provider.add_span_processor(BatchSpanProcessor(exporter))
    return Tracer(provider, close=provider.shutdown)


def _has_no_processor(provider: Any) -> bool:
    """Whether a provider exports no spans, as `OTEL_PYTHON_TRACER_PROVIDER` alone makes it."""
    processor = getattr(provider, "_active_span_processor", None)
    return getattr(processor, "_span_processors", None) == ()


def _exporters() -> Iterator[SpanExporter]:
    setting = environ.get("OTEL_TRACES_EXPORTER") or "otlp"
    for part in setting.split(","):
        if (name := part.strip()) == "none":
            continue
        exporter = _otlp() if name == "otlp" else name
        installed = entry_points(group=_GROUP, name=exporter)
        if not installed:
            known = sorted({entry.name for entry in entry_points(group=_GROUP)})
            raise UsageError(
                f"OTEL_TRACES_EXPORTER={setting} needs {exporter}, which is not installed: install "
                f"it, or set one of {', '.join(known)}, none"
            )
        yield next(iter(installed)).load()()


def _otlp() -> str:
    protocol = (
        environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
        or environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
        or "http/protobuf"
    )
    if protocol not in _OTLP:
        raise UsageError(
            f"OTEL_EXPORTER_OTLP_PROTOCOL must be {' or '.join(_OTLP)}, not {protocol!r}"
        )
    return _OTLP[protocol]
