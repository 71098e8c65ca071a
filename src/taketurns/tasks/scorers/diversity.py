"""Diversity of several answers to one question.

Each answer's value is its distance from the others (and from the reference answers, if the data has
them); the mean over a group is the diversity of the group:

- `self-bleu`: 1 minus its BLEU against the others (Zhu et al., arXiv 1802.01886), by sacrebleu
- `distinct-1` … `distinct-4`: the mean over its n-grams of 1 / (count of the n-gram in the group);
  over all answers, weighted by length, this is distinct-n (Li et al., arXiv 1510.03055)
- `embeddings`: 1 minus its mean cosine with the others, by mean-pooled last states of a model
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import fmean
from typing import Any, ClassVar

from taketurns.checkpoints import hub
from taketurns.errors import DataError, NotANumberError, UsageError
from taketurns.tasks.scorers.base import EMPTY_ANSWER, unparsed
from taketurns.types import Query, Score
from taketurns.utils.extras import require

MEASURES = ("self-bleu", "distinct-1", "distinct-2", "distinct-3", "distinct-4", "embeddings")


@dataclass(frozen=True)
class Diversity:
    """Scores the answers to a query together; a single answer without references has no value.
    `model` (path or hub id) gives the embeddings."""

    stored_name: ClassVar[str] = "Diversity"

    measure: str = "self-bleu"
    model: str | None = None
    name: str = field(default="diversity", kw_only=True)

    def __post_init__(self) -> None:
        if self.measure not in MEASURES:
            raise UsageError(
                f"there is no measure {self.measure!r} of diversity; the measures are "
                f"{', '.join(MEASURES)}"
            )
        if (self.measure == "embeddings") != (self.model is not None):
            raise UsageError(
                "the scorer diversity needs the setting model for the measure 'embeddings', and "
                f"has none for the others; here measure is {self.measure!r}, model {self.model!r}"
            )

    def check(self, query: Query) -> None:
        if self.measure == "self-bleu":
            require("self-BLEU", "sacrebleu")
        if query.reference is not None and not _texts(query.reference):
            raise DataError("the reference must be a list of texts that are not empty")

    def score(self, query: Query, answer: str) -> Score:
        return self.score_group(query, [answer])[0]

    def score_group(self, query: Query, answers: Sequence[str]) -> list[Score]:
        references = list(query.reference or ())
        texts = [answer for answer in answers if answer.strip()]
        if len(texts) + len(references) < 2:
            alone = Score(None, None, "diversity needs at least two answers to the question")
            return [alone if answer.strip() else unparsed(EMPTY_ANSWER) for answer in answers]
        values = iter(self._values(texts, references))
        return [
            Score(next(values), None) if answer.strip() else unparsed(EMPTY_ANSWER)
            for answer in answers
        ]

    def canonical_answer(self, query: Query, answer: str) -> str | None:
        """None: free texts have no canonical form."""
        return None

    def _values(self, texts: list[str], references: list[str]) -> list[float]:
        if self.measure == "embeddings":
            return _spread(self._embedder.embed([*texts, *references]), len(texts))
        if self.measure == "self-bleu":
            return [
                1 - _bleu(answer, [*texts[:i], *texts[i + 1 :], *references])
                for i, answer in enumerate(texts)
            ]
        return _distinct(texts, references, int(self.measure[-1]))

    @cached_property
    def _embedder(self) -> _Embedder:
        return _Embedder(str(self.model))


def _bleu(answer: str, others: list[str]) -> float:
    import sacrebleu

    bleu = sacrebleu.sentence_bleu(answer, others, use_effective_order=True)
    return float(min(1.0, bleu.score / 100))


def _distinct(texts: Sequence[str], references: Sequence[str], n: int) -> list[float]:
    grams = [_grams(text, n) for text in texts]
    counts = Counter(
        gram for in_text in (*grams, *(_grams(r, n) for r in references)) for gram in in_text
    )
    return [fmean(1 / counts[gram] for gram in in_text) if in_text else 0.0 for in_text in grams]


def _grams(text: str, n: int) -> list[tuple[str, ...]]:
    words = text.casefold().split()
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


def _spread(vectors: Any, answers: int) -> list[float]:
    """1 minus the mean cosine with all other rows, for each of the first `answers` rows."""
    cosines = vectors @ vectors.T
    count = len(vectors)
    means = [(float(cosines[i].sum()) - float(cosines[i][i])) / (count - 1) for i in range(answers)]
    return [min(1.0, max(0.0, 1 - mean)) for mean in means]


class _Embedder:
    """Mean-pooled last hidden states of any encoder or decoder, scaled to length 1."""

    def __init__(self, name: str) -> None:
        import torch
        from transformers import AutoModel, AutoTokenizer

        from taketurns.engines.local.finite_weights import check_weights

        device = "cuda" if torch.cuda.is_available() else "cpu"
        with hub.loading("the model for embeddings", name) as where:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(name, **where)
            self._model: Any = AutoModel.from_pretrained(name, **where).to(device).eval()
        check_weights(self._model, f"the model {name} for embeddings")
        self._device = device

    def embed(self, texts: Sequence[str]) -> Any:
        """float32 tensor `[len(texts), d]`."""
        import torch

        rows = []
        with torch.inference_mode():
            for text in texts:
                ids = self._tokenizer(text, return_tensors="pt")["input_ids"]
                limit = getattr(self._model.config, "max_position_embeddings", None)
                ids = ids[:, : limit - 2] if limit else ids
                states = self._model(input_ids=ids.to(self._device)).last_hidden_state[0]
                rows.append(states.float().mean(dim=0))
        stacked = torch.stack(rows)
        if not stacked.isfinite().all():
            raise NotANumberError(
                f"the model for embeddings, {self._model.name_or_path}, gave NaN or infinity for "
                "an answer: name another model"
            )
        return torch.nn.functional.normalize(stacked, dim=1)


def _texts(reference: Any) -> bool:
    return isinstance(reference, list | tuple) and all(
        isinstance(text, str) and text.strip() for text in reference
    )
