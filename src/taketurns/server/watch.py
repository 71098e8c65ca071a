"""Sees the events of one request go by, for the metrics and the log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from taketurns.server.jobs import CompletionJob
from taketurns.server.metrics import Metrics
from taketurns.server.writing import Began, Broke, Event
from taketurns.types import Delta, Patch, Trace


@dataclass
class _Seen:
    """What is known of one answer."""

    order: CompletionJob
    reader: int | None = None
    began: bool = False
    ended: bool = False
    last_token: float | None = None
    tokens: int = 0
    text: list[str] = field(default_factory=list)
    patches: list[tuple[Patch, float]] = field(default_factory=list)

    @property
    def prompt_tokens(self) -> int:
        """As the speaker read it who wrote first, as usage has it; until then as the first does."""
        return len(self.order.prompts[self.reader or 0])


class Watch:
    """Call `open` when the request is let in, `see` with every event, and `close` at the end;
    `fields` is for the log."""

    def __init__(
        self, metrics: Metrics, model: str, orders: Sequence[CompletionJob], *, log_text: bool
    ) -> None:
        self.started = perf_counter()
        self.fields: dict[str, Any] = {"model": model, "choices": len(orders)}
        self._metrics = metrics
        self._model = model
        self._log_text = log_text
        self._seen = {order.index: _Seen(order) for order in orders}
        self._first: float | None = None
        self._open = False
        if log_text:
            self.fields["prompts"] = [
                {"messages": [(turn.role, turn.content) for turn in o.draft.query.conversation]}
                for o in orders
                if o.first
            ]

    def open(self) -> None:
        """The request waits, or is written; one that is refused is not counted."""
        self._open = True
        self._metrics.waiting.labels(self._model).inc(len(self._seen))

    @property
    def patches(self) -> list[tuple[int, Patch, float]]:
        """Every patch: of which choice, and when it was complete (`perf_counter`)."""
        return [(i, patch, at) for i, one in self._seen.items() for patch, at in one.patches]

    @property
    def speakers(self) -> list[str]:
        return next(iter(self._seen.values())).order.speakers

    def see(self, index: int, event: Event) -> None:
        """An event of choice `index`."""
        seen, now = self._seen[index], perf_counter()
        if isinstance(event, Delta | Patch) and seen.reader is None and event.speaker is not None:
            seen.reader = event.speaker
            self._read(seen)
        if isinstance(event, Delta):
            self._delta(seen, event, now)
        elif isinstance(event, Patch):
            seen.patches.append((event, now))
            self._metrics.patch(self._model, seen.order.speakers, event)
        elif isinstance(event, Began):
            seen.began = True
            self._metrics.waiting.labels(self._model).dec()
            self._metrics.running.labels(self._model).inc()
            self._metrics.queued.labels(self._model).observe(event.waited)
        elif isinstance(event, Trace):
            self._end(seen, event.finish or "stop", now)
        elif isinstance(event, Broke):
            self.fields |= event.error.fields()
            self._end(seen, "error", now)

    def close(self) -> None:
        """Nobody listens any more: what has not ended was given up."""
        if not self._open:
            return
        now = perf_counter()
        for seen in self._seen.values():
            if not seen.ended:
                self._end(seen, "abort", now)
        self.fields["tokens"] = sum(seen.tokens for seen in self._seen.values())
        self.fields["prompt_tokens"] = sum(
            seen.prompt_tokens for seen in self._seen.values() if seen.order.first
        )
        if self._first is not None:
            self.fields["first_token"] = round(self._first - self.started, 4)
        if self._log_text:
            self.fields["texts"] = ["".join(seen.text) for seen in self._seen.values()]

    def _read(self, seen: _Seen) -> None:
        self._metrics.prompt_length.labels(self._model).observe(seen.prompt_tokens)
        if seen.order.first:
            self._metrics.prompt_tokens.labels(self._model).inc(seen.prompt_tokens)

    def _delta(self, seen: _Seen, delta: Delta, now: float) -> None:
        if not delta.tokens:
            return
        if seen.last_token is None:
            self._metrics.first_token.labels(self._model).observe(now - self.started)
            self._first = self._first or now
        else:
            self._metrics.inter_token.labels(self._model).observe(now - seen.last_token)
        seen.last_token = now
        seen.tokens += len(delta.tokens)
        self._metrics.generation_tokens.labels(self._model).inc(len(delta.tokens))
        if self._log_text:
            seen.text.append(delta.text)

    def _end(self, seen: _Seen, reason: str, now: float) -> None:
        gauge = self._metrics.running if seen.began else self._metrics.waiting
        gauge.labels(self._model).dec()
        seen.ended = True
        self.fields.setdefault("finish", []).append(reason)
        self._metrics.success.labels(self._model, reason).inc()
        self._metrics.answer_length.labels(self._model).observe(seen.tokens)
        self._metrics.whole.labels(self._model).observe(now - self.started)
