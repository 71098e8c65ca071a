"""A language model as the switcher."""

from __future__ import annotations

from collections.abc import Sequence

from taketurns.checkpoints.prompts import TaggedTrace, digit_ids
from taketurns.checkpoints.text import SharedVocabulary
from taketurns.config.policy import Policy
from taketurns.engines.base import Engine, ModelInfo, Session
from taketurns.errors import ConfigError, PromptError
from taketurns.switchers.base import Decide, GenerationView
from taketurns.switchers.candidate_order import load, permutation
from taketurns.switchers.sampling import normalise
from taketurns.types import ModelSpec, Query
from taketurns.utils.finite import probabilities

_RENAMED = "; if they are the same candidates renamed, list them in switcher.candidates"


class LMSwitcher:
    """A language model reads the tagged trace; the probabilities are the renormalised logits of the
    candidates' numbers. No text is sampled from it. `model` is its name in the engine;
    `chat_template` puts the trace into the user's turn of its template (None: if it has one).

    A query is refused if its longest answer, counted in the speakers' tokens, would not fit the
    model's context. If the model's own tokenizer needs more tokens and the context is full after
    all, all candidates are equally probable.

    `candidates` are the candidates' names in the order of its numbers from 0, or the model whose
    folder has them; if neither is known, the order is the team's. After `prepare`, `digits` has the
    token ids of the candidates' numbers, in the team's order.
    """

    def __init__(
        self,
        model: str,
        *,
        chat_template: bool | None = False,
        candidates: Sequence[str] | ModelSpec = (),
    ) -> None:
        self._model = model
        self._chat_template = chat_template
        self._candidates = candidates
        self._info: ModelInfo | None = None
        self._numbers: list[int] = []
        self.digits: list[int] = []
        self._vocabulary: SharedVocabulary | None = None

    @property
    def model(self) -> str:
        return self._model

    async def prepare(self, engine: Engine, candidates: Sequence[ModelInfo]) -> None:
        info = await engine.info(self._model)
        if "score" not in info.capabilities:
            raise ConfigError(
                "the switcher's server reports no log-probabilities, which a switcher needs: serve "
                "it with vLLM"
            )
        numbered, names = self._candidates, [candidate.name for candidate in candidates]
        if isinstance(numbered, ModelSpec):
            numbered = load(numbered)
        self._numbers = (
            permutation(numbered, names, "switcher", _RENAMED)
            if numbered
            else list(range(len(names)))
        )
        ids = digit_ids(info.codec, len(candidates))
        self.digits = [ids[number] for number in self._numbers]
        codecs = [info.codec, *(candidate.codec for candidate in candidates)]
        self._vocabulary = SharedVocabulary.of(codecs)
        self._info = info

    def begin(self, query: Query, policy: Policy) -> Decide:
        assert self._info is not None, "prepare() before begin()"
        tagged = self.tagged(query)
        longest = len(tagged.prompt(())) + tagged_tokens(self._info, policy)
        if longest >= self._info.context:
            raise PromptError(
                f"query {query.id!r}: the switcher would read up to {longest} tokens, but its "
                f"context has {self._info.context}: lower max_tokens or shorten the query"
            )

        context, even = self._info.context, normalise([1.0] * len(self.digits))

        async def decide(session: Session, state: GenerationView) -> tuple[float, ...]:
            prompt = tagged.prompt(state.patches)
            if len(prompt) >= context:
                return even
            scores = await session.score(self._model, prompt, self.digits)
            return probabilities(scores, f"the switcher {self._model}")

        return decide

    def tagged(self, query: Query) -> TaggedTrace:
        """The tagged trace of an answer to `query`, in training and in inference."""
        assert self._info is not None, "prepare() before tagged()"
        codec, chats = self._info.codec, self._chat_template
        return TaggedTrace(
            codec,
            query,
            self._numbers,
            vocabulary=self._vocabulary,
            chat_template=codec.tokenizer.chat_template is not None if chats is None else chats,
        )


def tagged_tokens(info: ModelInfo, policy: Policy) -> int:
    """The number of tokens of the longest answer, its tags included."""
    tags = len(info.codec.encode(" <model 0 begins> ") + info.codec.encode(" <model 0 ends>"))
    return policy.max_tokens + tags * -(-policy.max_tokens // policy.shortest)
