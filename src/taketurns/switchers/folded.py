"""The folded switcher: a head stored in the candidates' own checkpoints."""

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
    """Decides by a head stored in the candidates' output matrices. `tokens` has one token id per
    candidate, in the candidates' order; no candidate ever writes these tokens. Their logits after
    the last token, in the model that wrote it, are the head's logits. Before the first patch,
    candidate `reader` is asked.

    If the engine gives the log-probabilities with the patch (`GenerationState.scores`), a decision
    needs no call. If the model cannot be asked, because its context is full or no server of it
    works, all candidates are equally probable.
    """

    def __init__(self, tokens: Sequence[int], reader: int) -> None:
        self.tokens = tuple(tokens)
        self._reader = reader
        self._models: tuple[str, ...] = ()

    async def prepare(self, engine: Engine, candidates: Sequence[ModelInfo]) -> None:
        if SharedVocabulary.of(candidate.codec for candidate in candidates) is None:
            raise ConfigError(
                "the candidates' tokenizers differ, so a token cannot mean the same candidate in "
                "all of them: a folded switcher needs the checkpoints that `taketurns export` wrote"
            )
        for info in candidates:
            if "exact_score" not in info.capabilities:
                raise ConfigError(
                    "a folded switcher needs the log-probabilities of given tokens, which the "
                    f"server of {info.name} does not report: serve it with vLLM, or use a switcher "
                    "of kind lm"
                )
            if may := sorted(set(self.tokens) - info.suppressed_token_ids):
                raise ConfigError(
                    f"{info.name} may write token {may[0]}, which the folded switcher uses for a "
                    "candidate: use the checkpoints that `taketurns export` wrote"
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
                    return even  # the last speaker has no server left; the others can continue
            return probabilities(scores, f"the switcher in {self._models[reader]}")

        return decide
