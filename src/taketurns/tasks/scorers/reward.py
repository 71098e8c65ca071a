"""The score of an answer by a reward model.

Any sequence-classification model with one output, by path or hub id (the paper used
`Skywork/Skywork-Reward-Llama-3.1-8B-v0.2`). It reads the conversation and the answer as one
exchange in its chat template; a model without a template reads the two texts as a pair. It is
loaded at the first score, and scores in batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import exp, isfinite
from statistics import fmean
from typing import Any, ClassVar

from taketurns.checkpoints import hub
from taketurns.checkpoints.chat_templates import (
    TemplateRefusal,
    render_template,
    template_messages,
)
from taketurns.checkpoints.control_tokens import OrdinaryEncoder, RenderedPrompt, marked
from taketurns.errors import ConfigError, PromptError
from taketurns.tasks.scorers.base import EMPTY_ANSWER, unparsed
from taketurns.types import Message, Query, Score


@dataclass(frozen=True)
class Reward:
    """`raw` is the reward; `value`, in 0..1, is its logistic function: the probability that the
    model prefers the answer to one with reward 0 (Bradley and Terry)."""

    stored_name: ClassVar[str] = "Reward"

    model: str
    revision: str | None = None
    batch: int = 8
    name: str = field(default="reward", kw_only=True)

    def check(self, query: Query) -> None:
        """Any question can be scored."""

    def score(self, query: Query, answer: str) -> Score:
        return self.score_many([(query, answer)])[0]

    def score_many(self, answers: Sequence[tuple[Query, str]]) -> list[Score]:
        """Raises ConfigError if the model is not a reward model."""
        reader = self._reader
        encoded = [
            reader.encode(query, answer) if answer.strip() else None for query, answer in answers
        ]
        scores = [
            unparsed(EMPTY_ANSWER) if ids is None else _too_long(ids, reader.context)
            for ids in encoded
        ]
        todo = [i for i, ids in enumerate(encoded) if ids and len(ids) <= reader.context]
        todo.sort(key=lambda i: len(encoded[i] or ()))
        for part in _parts(todo, self.batch):
            for i, raw in zip(part, reader.rewards([encoded[i] or [] for i in part]), strict=True):
                scores[i] = _judged(raw)
        return scores

    def canonical_answer(self, query: Query, answer: str) -> str | None:
        """None: free texts have no canonical form."""
        return None

    def measures(self, scores: Sequence[Score]) -> Mapping[str, float]:
        """The mean reward."""
        raw = [score.raw for score in scores if score.raw is not None]
        return {"reward": fmean(raw)} if raw else {}

    @cached_property
    def _reader(self) -> _RewardModel:
        return _RewardModel(self.model, self.revision)


class _RewardModel:
    """The loaded model and its tokenizer."""

    def __init__(self, name: str, revision: str | None) -> None:
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        from taketurns.engines.local.finite_weights import check_weights

        device = "cuda" if torch.cuda.is_available() else "cpu"
        dtype = torch.float32 if device == "cpu" else torch.bfloat16
        with hub.loading("the reward model", name, revision) as where:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(name, **where)
            model, loading = AutoModelForSequenceClassification.from_pretrained(
                name, dtype=dtype, output_loading_info=True, **where
            )
        if missing := sorted(loading["missing_keys"]):
            raise ConfigError(
                f"{name} is not a reward model: it has no weights for {missing[0]}, the output "
                "that gives the reward; name another model in the scorer's setting model"
            )
        if model.config.num_labels != 1:
            raise ConfigError(
                f"{name} is not a reward model: it has {model.config.num_labels} outputs instead "
                "of one; name another model in the scorer's setting model"
            )
        self._name = name
        self._encoder = OrdinaryEncoder(self._tokenizer)
        self._model = model.to(device).eval()
        check_weights(self._model, f"the reward model {name}")
        self._device = device
        self.context = int(getattr(model.config, "max_position_embeddings", None) or 1 << 20)

    def encode(self, query: Query, answer: str) -> list[int]:
        if self._tokenizer.chat_template is None:
            asked = "\n".join(turn.content for turn in query.conversation)
            return self._encoder.encode_pair(asked, answer)
        talk = Query(query.id, messages=(*query.conversation, Message("assistant", answer)))
        talk, marks = marked(talk, self._encoder.pattern)
        try:
            text = render_template(
                self._tokenizer, template_messages(talk.conversation), begin=False
            )
        except TemplateRefusal as error:
            raise PromptError(
                f"the chat template of the reward model {self._name} {error}", query.id
            ) from error
        return self._encoder.encode_rendered(
            RenderedPrompt(text) if marks is None else marks.read(text)
        )

    def rewards(self, rows: Sequence[Sequence[int]]) -> list[float]:
        import torch

        longest, pad = max(map(len, rows)), self._padding(rows)
        # A decoder gives its reward at the last token that is not padding.
        self._model.config.pad_token_id = pad
        ids = torch.tensor([[*row, *[pad] * (longest - len(row))] for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
        with torch.inference_mode():
            out = self._model(input_ids=ids.to(self._device), attention_mask=mask.to(self._device))
        return [float(reward) for reward in out.logits[:, 0]]

    def _padding(self, rows: Sequence[Sequence[int]]) -> int:
        """A padding token that is in none of the rows: the tokenizer's own if possible."""
        used = {token for row in rows for token in row}
        pad = self._tokenizer.pad_token_id
        if pad is not None and pad not in used:
            return int(pad)
        return next(token for token in range(len(used) + 1) if token not in used)


def _judged(raw: float) -> Score:
    if not isfinite(raw):
        return Score(None, None, f"the reward model gave {raw}, which is not a number")
    return Score(1 / (1 + exp(-max(-500.0, raw))), None, raw=raw)


def _too_long(ids: Sequence[int], context: int) -> Score:
    return Score(None, None, f"{len(ids)} tokens do not fit the reward model's {context}")


def _parts(items: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
