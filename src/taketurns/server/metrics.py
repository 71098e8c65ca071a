"""Metrics for Prometheus. If vLLM has the same metric, the name is vLLM's."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from taketurns.types import Patch

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_SHORT = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
_TOKENS = (1, 4, 16, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 65536)
_MODEL = ("model_name",)
_SPEAKER = ("model_name", "speaker")


class Metrics:
    """The metrics of one server, in a separate registry."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        gauge = partial(Gauge, labelnames=_MODEL, registry=self._registry)
        counter = partial(Counter, registry=self._registry)
        seconds = partial(Histogram, labelnames=_MODEL, registry=self._registry, buckets=_SECONDS)
        short = partial(seconds, buckets=_SHORT)
        tokens = partial(seconds, buckets=_TOKENS)
        self.running = gauge("vllm:num_requests_running", "Answers being written")
        self.waiting = gauge("vllm:num_requests_waiting", "Answers in the queue")
        self.prompt_tokens = counter("vllm:prompt_tokens", "Prompt tokens", _MODEL)
        self.generation_tokens = counter("vllm:generation_tokens", "Written tokens", _MODEL)
        self.success = counter(
            "vllm:request_success", "Answers that ended", ("model_name", "finished_reason")
        )
        self.first_token = seconds(
            "vllm:time_to_first_token_seconds", "From the request to its first token"
        )
        self.inter_token = short(
            "vllm:inter_token_latency_seconds", "Between one token and the next"
        )
        self.queued = seconds("vllm:request_queue_time_seconds", "From the request to its start")
        self.whole = seconds(
            "vllm:e2e_request_latency_seconds", "From the request to the end of an answer"
        )
        self.prompt_length = tokens("vllm:request_prompt_tokens", "Prompt tokens of an answer")
        self.answer_length = tokens("vllm:request_generation_tokens", "Written tokens of an answer")
        self.patches = counter(
            "taketurns:patches", "Patches written", ("model_name", "speaker", "reason")
        )
        self.speaker_tokens = counter(
            "taketurns:speaker_tokens", "Written tokens by speaker", _SPEAKER
        )
        self.fallbacks = counter(
            "taketurns:fallbacks", "Patches by a speaker that stood in for a failed one", _SPEAKER
        )
        self.withheld = counter(
            "taketurns:patches_withheld", "Patches that failed the guard, by speaker", _SPEAKER
        )
        self.withheld_tokens = counter(
            "taketurns:tokens_withheld", "Tokens of patches that failed the guard", _SPEAKER
        )
        self.guard = short(
            "taketurns:guard_seconds", "The guard's time: checks and rejected patches"
        )
        self.switcher = short("taketurns:switcher_seconds", "The switcher's time for a decision")
        self.refused = counter(
            "taketurns:requests_refused", "Requests answered with an error", ("code",)
        )

    def text(self) -> bytes:
        """All metrics in the format of Prometheus."""
        return generate_latest(self._registry)

    def patch(self, model: str, speakers: Sequence[str], patch: Patch) -> None:
        """Count a patch; `speakers` are the candidates' names."""
        name = writer_name(patch, speakers)
        self.patches.labels(model, name, patch.reason).inc()
        for rejected in patch.withheld:
            self.withheld.labels(model, speakers[rejected.speaker]).inc()
            self.withheld_tokens.labels(model, speakers[rejected.speaker]).inc(rejected.tokens)
        if patch.timing.guard:
            self.guard.labels(model).observe(patch.timing.guard)
        if patch.speaker is None:
            return
        self.speaker_tokens.labels(model, name).inc(len(patch.token_ids))
        if patch.reason == "fallback":
            self.fallbacks.labels(model, name).inc()
        if patch.probabilities is not None:
            self.switcher.labels(model).observe(patch.timing.decide)


def writer_name(patch: Patch, speakers: Sequence[str]) -> str:
    """The name of a patch's speaker; "(forced)" for text that no candidate wrote."""
    return "(forced)" if patch.speaker is None else speakers[patch.speaker]
