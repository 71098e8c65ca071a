"""Follows the events of one request for the metrics, the log and the traces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from taketurns.server.job_group import Event, JobFailed, JobStarted
from taketurns.server.jobs import CompletionJob
from taketurns.server.metrics import Metrics
from taketurns.types import Delta, Patch, Trace


@dataclass
class _JobProgress:
    """The progress of one job; times are of `perf_counter`."""

    job: CompletionJob
    first_speaker: int | None = None
    started: bool = False
    ended: bool = False
    last_token: float | None = None
    tokens: int = 0
    text: list[str] = field(default_factory=list)
    patches: list[tuple[Patch, float]] = field(default_factory=list)

    @property
    def prompt_tokens(self) -> int:
        """The prompt's tokens as usage counts them: as the first speaker read it."""
        return len(self.job.prompt_of(self.first_speaker))


class RequestMonitor:
    """Call `open` when the request is admitted, `see` with every event, and `close` at the end;
    `fields` are keys of the log's line."""

    def __init__(
        self, metrics: Metrics, model: str, jobs: Sequence[CompletionJob], *, log_text: bool
    ) -> None:
        self.started = perf_counter()
        self.fields: dict[str, Any] = {"model": model, "choices": len(jobs)}
        self._metrics = metrics
        self._model = model
        self._log_text = log_text
        self._progress = {job.index: _JobProgress(job) for job in jobs}
        self._first_token: float | None = None
        self._open = False
        if log_text:
            self.fields["prompts"] = [
                {"messages": [(turn.role, turn.content) for turn in job.draft.query.conversation]}
                for job in jobs
                if job.counts_prompt
            ]

    def open(self) -> None:
        """Start counting the jobs; a refused request is not counted."""
        self._open = True
        self._metrics.waiting.labels(self._model).inc(len(self._progress))

    @property
    def patches(self) -> list[tuple[CompletionJob, Patch, float]]:
        """Every patch, with its job and the time when it was complete (`perf_counter`)."""
        return [
            (progress.job, patch, at)
            for progress in self._progress.values()
            for patch, at in progress.patches
        ]

    def see(self, index: int, event: Event) -> None:
        """Count an event of choice `index`."""
        progress, now = self._progress[index], perf_counter()
        if isinstance(event, Delta | Patch) and progress.first_speaker is None:
            self._speaks_first(progress, event.speaker)
        if isinstance(event, Delta):
            self._delta(progress, event, now)
        elif isinstance(event, Patch):
            progress.patches.append((event, now))
            self._metrics.patch(self._model, progress.job.speakers, event)
        elif isinstance(event, JobStarted):
            progress.started = True
            self._metrics.waiting.labels(self._model).dec()
            self._metrics.running.labels(self._model).inc()
            self._metrics.queued.labels(self._model).observe(event.waited)
        elif isinstance(event, Trace):
            self._end(progress, event.finish or "stop", now)
        elif isinstance(event, JobFailed):
            self.fields |= event.error.fields()
            self._end(progress, "error", now)

    def close(self) -> None:
        """Stop counting: a job that has not ended was aborted."""
        if not self._open:
            return
        now = perf_counter()
        jobs = self._progress.values()
        for progress in jobs:
            if not progress.ended:
                self._end(progress, "abort", now)
        self.fields["tokens"] = sum(progress.tokens for progress in jobs)
        self.fields["prompt_tokens"] = sum(
            progress.prompt_tokens for progress in jobs if progress.job.counts_prompt
        )
        if self._first_token is not None:
            self.fields["first_token"] = round(self._first_token - self.started, 4)
        if self._log_text:
            self.fields["texts"] = ["".join(progress.text) for progress in jobs]

    def _speaks_first(self, progress: _JobProgress, speaker: int | None) -> None:
        if speaker is None:  # forced text
            return
        progress.first_speaker = speaker
        self._metrics.prompt_length.labels(self._model).observe(progress.prompt_tokens)
        if progress.job.counts_prompt:
            self._metrics.prompt_tokens.labels(self._model).inc(progress.prompt_tokens)

    def _delta(self, progress: _JobProgress, delta: Delta, now: float) -> None:
        if not delta.tokens:
            return
        if progress.last_token is None:
            self._metrics.first_token.labels(self._model).observe(now - self.started)
            self._first_token = self._first_token or now
        else:
            self._metrics.inter_token.labels(self._model).observe(now - progress.last_token)
        progress.last_token = now
        progress.tokens += len(delta.tokens)
        self._metrics.generation_tokens.labels(self._model).inc(len(delta.tokens))
        if self._log_text:
            progress.text.append(delta.text)

    def _end(self, progress: _JobProgress, reason: str, now: float) -> None:
        gauge = self._metrics.running if progress.started else self._metrics.waiting
        gauge.labels(self._model).dec()
        progress.ended = True
        self.fields.setdefault("finish", []).append(reason)
        self._metrics.success.labels(self._model, reason).inc()
        self._metrics.answer_length.labels(self._model).observe(progress.tokens)
        self._metrics.whole.labels(self._model).observe(now - self.started)
