"""The prompt before its answer (`echo`), with its log-probabilities where they are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from taketurns.engines.base import PromptScoringSession, Session
from taketurns.server.jobs import CompletionJob
from taketurns.types import Token


@dataclass(frozen=True, slots=True)
class Echo:
    """What goes before an answer: its text, and the tokens of the prompt where they have
    log-probabilities."""

    text: str
    tokens: tuple[Token, ...] = ()


@dataclass(frozen=True, slots=True)
class EndToken:
    """The token that ended an answer, with its log-probability. It has no text. Who sums up the
    log-probabilities of a prompt counts the tokens after it, so this one must be among them."""

    token: Token


async def echo_of(job: CompletionJob, session: Session) -> Echo:
    """What goes before the answer of a job, as its session reads it. Raises EngineError."""
    if not job.echoes_logprobs:
        return Echo(job.echo or "")
    scoring = cast(PromptScoringSession, session)  # make_jobs has seen that the engine can
    model = job.team.candidates[0].name
    tokens = await scoring.prompt_logprobs(model, job.prompts[0], job.logprobs or 0)
    return Echo(job.echo or "", tokens)
