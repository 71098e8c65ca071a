"""Logit-level collaboration: every token is drawn from a combination of all checkpoints'
next-token distributions."""

from __future__ import annotations

from collections.abc import Mapping
from math import log
from time import perf_counter
from typing import TYPE_CHECKING, Any, cast

from taketurns.engines.base import Combine, TogetherSession
from taketurns.errors import EngineError, UsageError
from taketurns.evaluation.methods.base import Dev, MethodContext, Plain, alone_on_dev, mean_score
from taketurns.generation.sampling_options import patch_options
from taketurns.switchers.simple import FixedSwitcher
from taketurns.tasks.base import Task
from taketurns.types import Patch, Query, Sampling, Timing, Trace
from taketurns.utils.seeds import derive

if TYPE_CHECKING:
    from torch import Tensor

PLAUSIBLE, STRENGTH = 0.1, 0.5  # alpha and beta of contrastive decoding
IMPOSSIBLE = log(1e-30)


class Fusion(Plain):
    """Draws every token from the candidates' distributions, combined by `combine`."""

    def __init__(self, context: MethodContext, combine: Combine) -> None:
        super().__init__(context)
        self._combine = combine
        self._team = context.team(FixedSwitcher([0]))
        self._writers = list(range(len(context.names)))

    async def check(self) -> None:
        for name in self._context.names:
            info = await self._context.engine.info(name)
            if "together" not in info.capabilities:
                raise UsageError(
                    f"the engine of {info.name} does not combine models token by token: use "
                    "engine.kind local, or leave this method out"
                )
        options = self._context.policy.sampling
        if options is not None and options.repetition_penalty != 1.0:
            raise UsageError(
                "policy.sampling.repetition_penalty divides the logits of one model, and what "
                "several give together has none: leave it out, or leave this method out"
            )
        await self._context.check_vocabularies("their next-token distributions cannot be combined")

    async def answer(self, task: Task, query: Query, seed: int) -> Trace:
        """The answer is one patch without a speaker."""
        policy = self._context.policy
        draft = await self._team.draft(query, policy)
        names = [self._context.names[index] for index in self._writers]
        room = min(draft.room(index) for index in self._writers)
        sampling = Sampling(
            max_tokens=min(policy.max_tokens, room),
            temperature=policy.temperature,
            top_p=policy.speaker_top_p,
            stop=policy.stop,
            constraint=draft.constraint(self._writers[0]),
            options=patch_options(policy.sampling, 0),
        )
        prompts = [draft.prompt(index) for index in self._writers]
        longest = draft.longest_prompt + sampling.max_tokens
        begun = perf_counter()
        try:
            tokens = derive(seed, query.id, "tokens")
            async with self._context.engine.session(tokens, longest) as session:
                together = cast(TogetherSession, session)  # check() has tested the engine
                written = await together.generate_together(names, prompts, sampling, self._combine)
        except EngineError as error:
            return draft.trace(seed, str(error))
        draft.start_patch(self._writers[0])
        text = draft.read(written.token_ids) + draft.end()
        timing = Timing(write=perf_counter() - begun)
        draft.patches.append(
            Patch(None, written.token_ids, text, written.finish, "together", timing=timing)
        )
        return draft.trace(seed)


class Contrastive(Fusion):
    """Contrastive decoding of the best candidate on dev against the worst (arXiv 2210.15097, in
    the form of 2309.09117)."""

    def __init__(self, context: MethodContext) -> None:
        super().__init__(context, contrast)

    async def prepare(self, dev: Dev) -> Mapping[str, Any]:
        answers = await alone_on_dev(self._context, dev)
        names = self._context.names
        # Of equal candidates the later stage is the expert, the earlier one the amateur.
        ranked = sorted(
            range(len(names)), key=lambda index: (mean_score(answers[names[index]]), index)
        )
        self._writers = [ranked[-1], ranked[0]]
        return {"expert": names[ranked[-1]], "amateur": names[ranked[0]]}


def average_probabilities(logprobs: Tensor) -> Tensor:
    """The log of the mean probability."""
    return logprobs.logsumexp(1) - log(logprobs.shape[1])


def average_logprobs(logprobs: Tensor) -> Tensor:
    """The mean log-probability: a product of experts."""
    return logprobs.mean(1)


def contrast(logprobs: Tensor) -> Tensor:
    """(1 + beta) log p(expert) - beta log p(amateur), over the tokens with an expert probability of
    at least alpha times the highest one; other tokens get -inf."""
    expert, amateur = logprobs[:, 0], logprobs[:, 1]
    floor = expert.max(-1, keepdim=True).values + log(PLAUSIBLE)
    # A token that the amateur excludes would score infinity; the clamp makes it finite.
    scores = (1 + STRENGTH) * expert - STRENGTH * amateur.clamp_min(IMPOSSIBLE)
    return scores.masked_fill(expert < floor, float("-inf"))
