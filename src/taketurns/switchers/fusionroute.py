"""FusionRoute (arXiv 2601.05106): at every token a router picks a candidate, and adds its own
logits to that candidate's.

The router is a language model with a linear head on its last hidden state. One forward pass of it,
which reads the last token, gives both: the head weighs the candidates, and the distribution
corrects what the chosen one writes. So an answer's token is drawn from the product of two
distributions, and each model reads a token once.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

from taketurns.checkpoints.prompts import speaker_ids
from taketurns.checkpoints.text import SharedVocabulary
from taketurns.config.policy import Policy
from taketurns.engines.base import Engine, ModelInfo, Session
from taketurns.errors import ConfigError, PromptError
from taketurns.switchers.base import Decide, GenerationView
from taketurns.switchers.pair import EndWhere
from taketurns.switchers.routing_head import RoutingHead
from taketurns.types import Finish, ModelSpec, NextToken, Query, Sampling, StoppingCriterion, Token

if TYPE_CHECKING:
    from torch import Tensor

_LEAST = 1e-37  # of the router's probabilities, so that no logarithm is infinite in float32


class FusionRouteSwitcher:
    """Any number of candidates with the router's vocabulary. `model` is the router's name in the
    engine and `spec` says how it writes its prompt; `source` is the folder or hub id of its head,
    or the head itself. The probabilities are the head's: the policy's `greedy_switcher` takes the
    most probable candidate, as the paper does."""

    def __init__(self, model: str, spec: ModelSpec, source: str | RoutingHead) -> None:
        self.model = model
        self._spec = spec
        self._source = source
        self._router: Router | None = None

    async def prepare(self, engine: Engine, candidates: Sequence[ModelInfo]) -> None:
        head = self._source
        head = head if isinstance(head, RoutingHead) else RoutingHead.load(head)
        head = head.ordered([info.name for info in candidates])
        router = await engine.info(self.model)
        if not {"hidden", "next_token"} <= router.capabilities or any(
            "correction" not in info.capabilities for info in candidates
        ):
            raise ConfigError(
                "this switcher adds the logits of a router to those of the speaker, which this "
                "engine does not do: use engine.kind local, or another switcher.kind"
            )
        codecs = [router.codec, *(info.codec for info in candidates)]
        shared = await asyncio.to_thread(SharedVocabulary.of, codecs)
        if shared is None:
            names = ", ".join(info.name for info in candidates)
            raise ConfigError(
                f"the vocabularies of the router and of {names} differ, so their logits cannot be "
                "added: use a router and candidates with one tokenizer, or another switcher.kind"
            )
        self._router = Router.of(head, shared, router, candidates)

    def begin(self, query: Query, policy: Policy) -> Decide:
        router = self._router
        assert router is not None, "prepare() before begin()"
        if policy.sampling is not None and policy.sampling.repetition_penalty != 1.0:
            raise ConfigError(
                "policy.sampling.repetition_penalty divides the logits of one model, and the sum "
                "of two has none: leave it out, or use a presence_penalty"
            )
        if (longest := self.longest(query, policy)) > router.info.context:
            raise PromptError(
                f"query {query.id!r}: the router would read up to {longest} tokens, but its "
                f"context has {router.info.context}: lower max_tokens or shorten the query"
            )
        return FusionRouteDecide(router, self._prompt(query))

    def longest(self, query: Query, policy: Policy) -> int:
        """The most tokens that the router holds of an answer."""
        assert self._router is not None, "prepare() before longest()"
        cue = self._router.info.codec.encode_after(policy.closing_cue or "")
        return len(self._prompt(query)) + len(cue) + policy.max_tokens

    def _prompt(self, query: Query) -> list[int]:
        assert self._router is not None, "prepare() before a query"
        return speaker_ids(self._spec, self._router.info.codec, query)


@dataclass(frozen=True, slots=True)
class Router:
    """What all answers share. `ordinary` `[tokens]` are the ids of the tokens that all models know,
    `own_ends` and each candidate's `ends` those of its end tokens, all int64."""

    head: RoutingHead
    info: ModelInfo
    vocabulary: SharedVocabulary
    ordinary: Tensor
    own_ends: Tensor
    ends: tuple[Tensor, ...]

    @classmethod
    def of(
        cls,
        head: RoutingHead,
        vocabulary: SharedVocabulary,
        info: ModelInfo,
        candidates: Sequence[ModelInfo],
    ) -> Router:
        import torch

        def tensor(ids: Iterable[int]) -> Tensor:
            return torch.tensor(sorted(ids), dtype=torch.int64)

        sizes = [i.vocabulary for i in (info, *candidates) if i.vocabulary is not None]
        smallest = min(sizes, default=sys.maxsize)
        known = [token for token in vocabulary.ordinary_ids if token < smallest]
        ends = tuple(tensor(candidate.end_token_ids) for candidate in candidates)
        return cls(head, info, vocabulary, tensor(known), tensor(info.end_token_ids), ends)

    def correction(self, speaker: int, logprobs: Tensor) -> Tensor:
        """The router's log-probabilities `[vocabulary]` as an addition to the logits of a speaker.
        The end is one outcome: its probability is the sum over the router's end tokens. Other
        control tokens cannot be written."""
        ends = self.ends[speaker]
        size = int(max(ids.max() for ids in (self.ordinary, ends) if len(ids))) + 1
        added = logprobs.new_full((size,), -inf)
        added[ends] = logprobs[self.own_ends].logsumexp(0)
        added[self.ordinary] = logprobs[self.ordinary]
        return added


class FusionRouteDecide:
    """The decisions of one answer (`switchers.base.CorrectingDecide`): one a token."""

    def __init__(self, router: Router, prompt: Sequence[int]) -> None:
        self._router = router
        self._prompt = list(prompt)
        self._view: RouterView | None = None

    async def __call__(self, session: Session, state: GenerationView) -> tuple[float, ...]:
        router, view = self._router, RouterView()
        ids = [*self._prompt, *self._answer(state)]
        await session.generate(router.info.name, ids, Sampling(1, stopping=view))
        self._view = view
        return router.head.probabilities(view.state)

    def criterion(self, speaker: int, state: GenerationView) -> StoppingCriterion:
        return EndWhere(lambda tokens: True)

    def correction(self, speaker: int, state: GenerationView) -> Tensor:
        assert self._view is not None, "a decision comes before its correction"
        return self._router.correction(speaker, self._view.logprobs)

    def _answer(self, state: GenerationView) -> list[int]:
        """The token ids of the answer so far, as the candidates read them."""
        codec, vocabulary = self._router.info.codec, self._router.vocabulary
        return [
            token
            for patch in state.patches
            for token in vocabulary.ordinary(patch.token_ids or codec.encode_after(patch.text))
        ]


class RouterView:
    """Takes what the router's forward pass computes at the end of its prompt, and lets it write
    nothing: `state` `[d]` is its last hidden state, `logprobs` `[vocabulary]` are the natural-log
    probabilities of its next token."""

    finish: Finish = "switcher"
    entropy = False
    layers: tuple[int, ...] = (-1,)
    state: Tensor
    logprobs: Tensor

    def on_token(self, token: Token) -> bool:
        raise AssertionError("the router writes no token")

    def should_stop(self, entropy: float | None, states: Tensor | None) -> bool:
        assert states is not None, "prepare() refuses engines without states"
        self.state = states[0]
        return False

    def should_stop_before(self, next_token: NextToken) -> bool:
        self.logprobs = next_token.probabilities.clamp_min(_LEAST).log()
        return True
