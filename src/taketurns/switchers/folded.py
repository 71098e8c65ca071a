"""A head inside the candidates' own checkpoints as the switcher."""

from __future__ import annotations

from collections.abc import Sequence

from taketurns.checkpoints.text import SharedVocabulary
from taketurns.config.policy import Policy
from taketurns.engines.base import Engine, ModelInfo, Session
from taketurns.errors import ConfigError, UnavailableError
from taketurns.switchers.base import Decide, GenerationView, last_speaker
from taketurns.switchers.sampling import normalise
from taketurns.types import Query
from taketurns.utils.finite import probabilities


class FoldedSwitcher:
    """Decides by a head that stands in the candidates' own output matrices: `tokens`, which no
    candidate ever writes, stand for the candidates, in their order, and their logits after the last
    token, in the model that wrote it, are the head's. Before any has spoken `reader` is asked.

    An engine that tells them with the patch (`GenerationState.scores`) makes the decision cost no
    call. Where the model to be asked cannot be, for a full context or for lack of a server, all
    candidates are as probable as any other.
    """

    def __init__(self, tokens: Sequence[int], reader: int) -> None:
        self.tokens = tuple(tokens)
        self._reader = reader
        self._models: tuple[str, ...] = ()

    async def prepare(self, engine: Engine, candidates: Sequence[ModelInfo]) -> None:
        if SharedVocabulary.of(candidate.codec for candidate in candidates) is None:
            raise ConfigError(
                "the candidates' tokenizers differ, so no token stands for the same candidate in "
                "all: a folded switcher needs the checkpoints that `taketurns export` wrote"
            )
        for info in candidates:
            if "exact_score" not in info.capabilities:
                raise ConfigError(
                    "a folded switcher is read by the log-probabilities of given tokens, which the "
                    f"server of {info.name} does not tell; serve it with vLLM, or use a switcher "
                    "of kind lm"
                )
            if may := sorted(set(self.tokens) - info.suppressed_token_ids):
                raise ConfigError(
                    f"{info.name} may write the token {may[0]}, which stands for a candidate: a "
                    "folded switcher needs the checkpoints that `taketurns export` wrote"
                )
        self._models = tuple(info.name for info in candidates)

    def begin(self, query: Query, policy: Policy) -> Decide:
        even = normalise([1.0] * len(self.tokens))

        async def decide(session: Session, state: GenerationView) -> tuple[float, ...]:
            scores: Sequence[float] | None = state.scores
            spoke = last_speaker(state.patches)
            reader = self._reader if spoke is None else spoke
            if scores is None:
                if state.room(reader) <= 0:
                    return even
                try:
                    scores = await session.score(
                        self._models[reader], state.prompt(reader), self.tokens
                    )
                except UnavailableError:
                    return even  # the last speaker's server is gone; the others may go on
            return probabilities(scores, f"the switcher in {self._models[reader]}")

        return decide
