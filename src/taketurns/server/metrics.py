"""What Prometheus is told. Where vLLM measures the same thing, the name is vLLM's."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from taketurns.types import Patch

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_SHORT = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
_TOKENS = (1, 4, 16, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 65536)


class Metrics:
    """The counters of one server, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        model = ("model_name",)
        speaker = ("model_name", "speaker")
        self.running = self._gauge("vllm:num_requests_running", "Answers being written", model)
        self.waiting = self._gauge("vllm:num_requests_waiting", "Answers in the queue", model)
        self.prompt_tokens = self._counter("vllm:prompt_tokens", "Prompt tokens", model)
        self.generation_tokens = self._counter("vllm:generation_tokens", "Written tokens", model)
        self.success = self._counter(
            "vllm:request_success", "Answers that ended", ("model_name", "finished_reason")
        )
        self.first_token = self._histogram(
            "vllm:time_to_first_token_seconds", "From the request to its first token", _SECONDS
        )
        self.inter_token = self._histogram(
            "vllm:inter_token_latency_seconds", "Between one token and the next", _SHORT
        )
        self.queued = self._histogram(
            "vllm:request_queue_time_seconds", "Before an answer began", _SECONDS
        )
        self.whole = self._histogram(
            "vllm:e2e_request_latency_seconds", "From the request to the end of an answer", _SECONDS
        )
        self.prompt_length = self._histogram(
            "vllm:request_prompt_tokens", "Prompt tokens of an answer", _TOKENS
        )
        self.answer_length = self._histogram(
            "vllm:request_generation_tokens", "Written tokens of an answer", _TOKENS
        )
        self.patches = self._counter(
            "taketurns:patches", "Patches written", ("model_name", "speaker", "reason")
        )
        self.speaker_tokens = self._counter(
            "taketurns:speaker_tokens", "Tokens by who wrote them", speaker
        )
        self.fallbacks = self._counter(
            "taketurns:fallbacks", "Patches by a speaker who stood in for another", speaker
        )
        self.withheld = self._counter(
            "taketurns:patches_withheld", "Patches that failed the guard, by their writer", speaker
        )
        self.withheld_tokens = self._counter(
            "taketurns:tokens_withheld", "Tokens of patches that failed the guard", speaker
        )
        self.guard = self._histogram(
            "taketurns:guard_seconds", "What a guard took: vetting, and writing in vain", _SHORT
        )
        self.switcher = self._histogram(
            "taketurns:switcher_seconds", "Asking who writes the next patch", _SHORT
        )
        self.refused = self._counter(
            "taketurns:requests_refused", "Requests answered with an error", ("code",)
        )

    @property
    def content_type(self) -> str:
        return CONTENT_TYPE_LATEST

    def text(self) -> bytes:
        """All of it, in Prometheus' format."""
        return generate_latest(self._registry)

    def patch(self, model: str, speakers: list[str], patch: Patch) -> None:
        """Count a patch."""
        name = "(forced)" if patch.speaker is None else speakers[patch.speaker]
        self.patches.labels(model, name, patch.reason).inc()
        for one in patch.withheld:
            self.withheld.labels(model, speakers[one.speaker]).inc()
            self.withheld_tokens.labels(model, speakers[one.speaker]).inc(one.tokens)
        if patch.timing.guard:
            self.guard.labels(model).observe(patch.timing.guard)
        if patch.speaker is None:
            return
        self.speaker_tokens.labels(model, name).inc(len(patch.token_ids))
        if patch.reason == "fallback":
            self.fallbacks.labels(model, name).inc()
        if patch.probabilities is not None:
            self.switcher.labels(model).observe(patch.timing.decide)

    def _gauge(self, name: str, what: str, labels: tuple[str, ...]) -> Gauge:
        return Gauge(name, what, labels, registry=self._registry)

    def _counter(self, name: str, what: str, labels: tuple[str, ...]) -> Counter:
        return Counter(name, what, labels, registry=self._registry)

    def _histogram(self, name: str, what: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(name, what, ("model_name",), registry=self._registry, buckets=buckets)
