"""The loop as public code runs it, without the errors that only change its answers.

A round gives every answer one patch. Before each round except the first and the last, the switcher
reads the tagged trace from its start and samples up to a patch of text; then the speaker reads the
prompt and the answer from their start and samples a patch. Rounds are in lock-step: answers with
the same speaker share a batch, padded on the left, and the next round begins when all are done. An
end token ends a patch, not the answer, so every answer takes all rounds of its budget; the cost of
the rounds after an end depends on how a model continues a finished text. With `full`, models cannot
end a patch early, so the whole budget is used. Two costs of that code are left out: converting
tokens to text and back, and loading weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from benchmarks.overhead.plain import generate
from taketurns.checkpoints.prompts import TaggedTrace
from taketurns.config.policy import Policy
from taketurns.types import Patch


@dataclass(slots=True)
class PublicAnswer:
    """One answer in progress: its prompt for every speaker, its reader, and the speaker of each
    round."""

    prompts: Sequence[Sequence[int]]
    tagged: TaggedTrace
    turns: Sequence[int]
    token_ids: list[int] = field(default_factory=list)
    patches: list[Patch] = field(default_factory=list)

    def add(self, speaker: int, token_ids: Sequence[int]) -> None:
        self.token_ids += token_ids
        self.patches.append(Patch(speaker, tuple(token_ids), "", "length", "chosen"))


@dataclass(frozen=True, slots=True)
class PublicRun:
    """The results of a run. `rambling` is the time in seconds that the switcher sampled after its
    first token, although the choice needs only that token."""

    rounds: int
    switcher_tokens: int
    rambling: float


class PublicLoop:
    """`speakers` and `switcher` are transformers models; lengths and sampling are the policy's.
    `full` makes the speakers fill every patch; `now` is the clock."""

    def __init__(
        self,
        speakers: Sequence[Any],
        switcher: Any,
        policy: Policy,
        *,
        full: bool = False,
        now: Callable[[], float] = perf_counter,
    ) -> None:
        self._speakers = speakers
        self._switcher = switcher
        self._policy = policy
        self._full = full
        self._now = now

    @property
    def rounds(self) -> int:
        """Every answer's number of patches."""
        return -(-self._policy.max_tokens // self._policy.patch_size)

    def run(self, answers: Sequence[PublicAnswer]) -> PublicRun:
        """Write all answers to their budget."""
        asked, rambling = 0, 0.0
        for round_ in range(self.rounds):
            if 0 < round_ < self.rounds - 1:
                clock = _Clock(self._now)
                asked += self._ask(answers, clock)
                rambling += clock.since_first
            self._speak(answers, round_)
        return PublicRun(self.rounds, asked, rambling)

    def _ask(self, answers: Sequence[PublicAnswer], clock: _Clock) -> int:
        """Let the switcher write; its text is ignored, since `turns` has the speakers."""
        prompts = [answer.tagged.prompt(answer.patches) for answer in answers]
        written = self._generate(self._switcher, prompts, self._policy.patch_size, clock=clock)
        return sum(map(len, written))

    def _speak(self, answers: Sequence[PublicAnswer], round_: int) -> None:
        left = self._policy.max_tokens - round_ * self._policy.patch_size
        tokens = min(self._policy.patch_size, left)
        for speaker, model in enumerate(self._speakers):
            group = [answer for answer in answers if answer.turns[round_] == speaker]
            if not group:
                continue
            prompts = [[*answer.prompts[speaker], *answer.token_ids] for answer in group]
            written = self._generate(model, prompts, tokens, full=self._full)
            for answer, token_ids in zip(group, written, strict=True):
                answer.add(speaker, token_ids)

    def _generate(
        self,
        model: Any,
        prompts: Sequence[Sequence[int]],
        tokens: int,
        *,
        full: bool = False,
        clock: _Clock | None = None,
    ) -> list[list[int]]:
        return generate(
            model,
            prompts,
            tokens,
            temperature=self._policy.temperature,
            top_p=self._policy.speaker_top_p,
            full=full,
            processors=() if clock is None else (clock,),
        )


class _Clock:
    """A logits processor that changes nothing and records the time of the first token."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._first: float | None = None

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        self._first = self._first or self._now()
        return scores

    @property
    def since_first(self) -> float:
        return 0.0 if self._first is None else self._now() - self._first
