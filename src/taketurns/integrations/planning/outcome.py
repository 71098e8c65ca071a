"""What a simulated deployment did: how much, how fast, and how long people waited."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from taketurns.integrations.planning.deployment import Deployment

_SETTLED = 0.1  # the share of answers, the first ones, that find the servers still empty
_GROWS, _FEW = 0.1, 5


@dataclass(frozen=True, slots=True)
class Span:
    """One answer: when it was asked for, when its first token and its last were there, and the
    `pauses` between the last token of a patch and the first of the next. Seconds."""

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
class Outcome:
    """All answers of a simulation. `busy` are the seconds that each server computed, `sequences`
    the time that calls spent in servers' batches, `away` the calls that did not go home, `breaks`
    how often a server ran out of memory and put an answer off."""

    deployment: Deployment
    spans: tuple[Span, ...]
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
        """The share of prompt tokens that a prefix cache knew."""
        return self.cached_tokens / max(1, self.prompt_tokens)

    @property
    def grows(self) -> bool:
        """Whether more is asked than can be done: while the second half of the answers were asked
        for, more of them than a tenth came to wait beside those that waited before."""
        times = sorted(span.asked for span in self.spans)
        middle, last = times[len(times) // 2], times[-1]
        came = len(times) - len(times) // 2
        return self._under_way(last) - self._under_way(middle) > max(_FEW, _GROWS * came)

    def _under_way(self, time: float) -> int:
        return sum(span.asked <= time < span.ended for span in self.spans)

    def summary(self) -> dict[str, Any]:
        """For a table or a script. Latencies leave out the first tenth of the answers."""
        settled = self.spans[int(_SETTLED * len(self.spans)) :]
        pauses = [pause for span in settled for pause in span.pauses]
        return {
            "servers": self.deployment.servers,
            "answers": len(self.spans),
            "answers_per_second": self.answers_per_second,
            "tokens_per_second": self.tokens_per_second,
            "first_token": quantiles([span.first - span.asked for span in settled]),
            "token": quantiles([span.a_token for span in settled if span.tokens > 1]),
            "pause": quantiles(pauses),
            "answer": quantiles([span.seconds for span in settled]),
            "requests_an_answer": self.requests / len(self.spans),
            "cached": self.cached,
            "away": self.away / max(1, self.requests),
            "busy": float(np.mean(self.busy)) / self.seconds,
            "busiest": max(self.busy) / self.seconds,
            "breaks": self.breaks,
            "grows": self.grows,
        }


def quantiles(seconds: Sequence[float]) -> dict[str, float] | None:
    """p50, p95 and p99; None of nothing."""
    if not seconds:
        return None
    found = np.quantile(np.asarray(seconds), (0.5, 0.95, 0.99))
    return dict(zip(("p50", "p95", "p99"), map(float, found), strict=True))
