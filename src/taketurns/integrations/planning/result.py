"""The result of a simulation: throughput, latencies and cache hits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from taketurns.integrations.planning.deployment import Deployment

_WARM_UP = 0.1  # the share of first answers, which find the servers empty
_GROWS, _FEW = 0.1, 5


@dataclass(frozen=True, slots=True)
class AnswerTiming:
    """The times of one answer in seconds: of the question (`asked`), of its `first` and its last
    token (`ended`), and the `pauses` from the last token of a patch to the first of the next."""

    index: int
    asked: float
    first: float
    ended: float
    tokens: int
    pauses: tuple[float, ...] = ()

    @property
    def seconds(self) -> float:
        return self.ended - self.asked

    @property
    def a_token(self) -> float:
        """Seconds for each token after the first."""
        return (self.ended - self.first) / max(1, self.tokens - 1)


@dataclass(frozen=True, slots=True)
class SimulationResult:
    """All answers of a simulation. `busy` has the seconds that each server computed, `sequences` is
    the total time of calls in the servers' batches, in seconds, `away` counts the calls that did
    not go to their home server, `breaks` counts preemptions for lack of memory."""

    deployment: Deployment
    spans: tuple[AnswerTiming, ...]
    requests: int
    away: int
    prompt_tokens: int
    cached_tokens: int
    busy: tuple[float, ...]
    sequences: float
    breaks: int

    @property
    def seconds(self) -> float:
        """From the first question to the last answer."""
        return max(span.ended for span in self.spans) - min(span.asked for span in self.spans)

    @property
    def tokens_per_second(self) -> float:
        return sum(span.tokens for span in self.spans) / self.seconds

    @property
    def answers_per_second(self) -> float:
        return len(self.spans) / self.seconds

    @property
    def cached(self) -> float:
        """The share of prompt tokens that were in a prefix cache."""
        return self.cached_tokens / max(1, self.prompt_tokens)

    @property
    def grows(self) -> bool:
        """Whether the load exceeds the capacity: while the second half of the answers arrived, the
        number of concurrent answers grew by more than a tenth of them, and by more than 5."""
        times = sorted(span.asked for span in self.spans)
        middle, last = times[len(times) // 2], times[-1]
        arrived = len(times) - len(times) // 2
        return self._under_way(last) - self._under_way(middle) > max(_FEW, _GROWS * arrived)

    def _under_way(self, time: float) -> int:
        return sum(span.asked <= time < span.ended for span in self.spans)

    def summary(self) -> dict[str, Any]:
        """The results as JSON values. Latencies leave out the first tenth of the answers."""
        steady = self.spans[int(_WARM_UP * len(self.spans)) :]
        return {
            "servers": self.deployment.servers,
            "answers": len(self.spans),
            "answers_per_second": self.answers_per_second,
            "tokens_per_second": self.tokens_per_second,
            "first_token": quantiles([span.first - span.asked for span in steady]),
            "token": quantiles([span.a_token for span in steady if span.tokens > 1]),
            "pause": quantiles([pause for span in steady for pause in span.pauses]),
            "answer": quantiles([span.seconds for span in steady]),
            "requests_an_answer": self.requests / len(self.spans),
            "cached": self.cached,
            "away": self.away / max(1, self.requests),
            "busy": float(np.mean(self.busy)) / self.seconds,
            "busiest": max(self.busy) / self.seconds,
            "breaks": self.breaks,
            "grows": self.grows,
        }


def quantiles(seconds: Sequence[float]) -> dict[str, float] | None:
    """p50, p95 and p99; None for an empty sequence."""
    if not seconds:
        return None
    values = np.quantile(np.asarray(seconds), (0.5, 0.95, 0.99))
    return dict(zip(("p50", "p95", "p99"), map(float, values), strict=True))
