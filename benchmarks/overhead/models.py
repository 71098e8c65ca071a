"""The timed models: three candidates and a switcher of the same size.

Their weights are in memory once, shared by all engines and transformers' generate; on disk there
are only a configuration and a tokenizer. They have no end token, so every answer uses its whole
budget.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any

import torch

from benchmarks.overhead.weights import (
    GivenWeights,
    RandomWeights,
    count_parameters,
    engine_on,
    use_threads,
)
from benchmarks.overhead.workload import CANDIDATES
from taketurns.checkpoints.prompts import BEGINS, ENDS, QUESTION
from taketurns.engines.local.engine import LocalEngine
from taketurns.engines.local.loading import Weights
from taketurns.errors import UsageError
from taketurns.generation.team import SWITCHER
from taketurns.types import Candidate, ModelSpec


@dataclass(frozen=True, slots=True)
class LlamaShape:
    """The dimensions of a Llama."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    ff: int
    vocabulary: int
    tied: bool
    context: int = 2048

    @property
    def parameters(self) -> int:
        """The approximate number of weights (without norms)."""
        attention = 2 * self.hidden**2 * (1 + self.kv_heads / self.heads)
        layer = attention + 3 * self.hidden * self.ff
        embeddings = self.vocabulary * self.hidden * (1 if self.tied else 2)
        return int(self.layers * layer) + embeddings

    def config(self) -> Any:
        from transformers import LlamaConfig

        return LlamaConfig(
            hidden_size=self.hidden,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.kv_heads,
            intermediate_size=self.ff,
            vocab_size=self.vocabulary,
            tie_word_embeddings=self.tied,
            max_position_embeddings=self.context,
            bos_token_id=None,
            eos_token_id=None,
        )


SHAPES: Mapping[str, LlamaShape] = MappingProxyType(
    {
        "100m": LlamaShape(768, 12, 12, 12, 2048, 16384, tied=True),
        "8b": LlamaShape(4096, 32, 32, 8, 14336, 128256, tied=False, context=8192),
        "13m": LlamaShape(384, 6, 6, 6, 1024, 8192, tied=True),
        "tiny": LlamaShape(64, 2, 2, 2, 128, 512, tied=True),
    }
)


class ModelPool:
    """Three candidates and a switcher that share a tokenizer without an end token."""

    def __init__(self, name: str, folder: Path, weights: Weights, words: int) -> None:
        self.name = name
        self.words = words
        self.weights = weights
        self._folder = folder

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        spec = ModelSpec(str(self._folder))
        return tuple(Candidate(f"candidate {index}", spec) for index in range(CANDIDATES))

    def model(self, name: str) -> Any:
        """The transformers model of a candidate or of the switcher."""
        return self.weights.load(name).model

    def load(self, *, switcher: bool = True) -> None:
        """Put the candidates' weights into memory, and the switcher's."""
        for name in self.specs(switcher):
            self.model(name)

    @property
    def device(self) -> torch.device:
        return torch.device(self.model(self.candidates[0].name).device)

    @property
    def dtype(self) -> str:
        return str(self.model(self.candidates[0].name).dtype).removeprefix("torch.")

    @property
    def exact(self) -> bool:
        """Whether an engine can be `deterministic` on this device and dtype."""
        first = self.model(self.candidates[0].name)
        return bool(first.device.type == "cpu" and first.dtype == torch.float32)

    def specs(self, switcher: bool) -> dict[str, ModelSpec]:
        named = {candidate.name: candidate.spec for candidate in self.candidates}
        return named | ({SWITCHER: self.candidates[0].spec} if switcher else {})

    def engine(self, *, deterministic: bool = False, switcher: bool = False) -> LocalEngine:
        """A fresh engine with empty caches, on the weights in memory."""
        return engine_on(self.weights, self.specs(switcher), deterministic=deterministic)


@contextmanager
def random_pool(
    shape: str, device: str = "auto", dtype: str = "auto", context: int | None = None
) -> Iterator[ModelPool]:
    """Three candidates and a switcher with random weights, of a shape in SHAPES, for prompts and
    answers of `context` tokens together (None: the shape's default). Raises UsageError for an
    unknown shape."""
    if shape not in SHAPES:
        raise UsageError(
            f"--shape: there is no shape {shape!r}; the shapes are {', '.join(SHAPES)}"
        )
    measures = replace(SHAPES[shape], context=context or SHAPES[shape].context)
    with pool_of(f"llama-{shape}", measures.config(), device, dtype) as pool:
        yield pool


@contextmanager
def pool_of(
    name: str, config: Any, device: str = "auto", dtype: str = "auto"
) -> Iterator[ModelPool]:
    """Three candidates and a switcher with random weights, of the text model that `config`
    describes; it must name no end token."""
    names = [f"candidate {index}" for index in range(CANDIDATES)] + [SWITCHER]
    seeds = {name: seed for seed, name in enumerate(names)}
    weights = RandomWeights(config, seeds, device, dtype)
    words = config.vocab_size - len(_reserved())
    with _folder(config, words) as folder, use_threads(count_parameters(config)):
        yield ModelPool(name, folder, weights, words)


@contextmanager
def endless_pool(name: str, models: Mapping[str, Any]) -> Iterator[ModelPool]:
    """Real weights with a tokenizer without end tokens, to time them at fixed lengths: `models` are
    the candidates in order, then the switcher. Their output has no meaning."""
    names = [f"candidate {index}" for index in range(CANDIDATES)] + [SWITCHER]
    from transformers import GenerationConfig

    first = next(iter(models.values()))
    config = first.config.__class__.from_dict(
        first.config.to_dict() | {"eos_token_id": None, "bos_token_id": None, "pad_token_id": None}
    )
    words = config.vocab_size - len(_reserved())
    weights = GivenWeights(dict(zip(names, models.values(), strict=True)))
    with _folder(config, words) as folder, ExitStack() as restored:
        restored.enter_context(use_threads(first.num_parameters()))
        for model in models.values():
            restored.callback(setattr, model, "generation_config", model.generation_config)
            model.generation_config = GenerationConfig()
        yield ModelPool(name, folder, weights, words)


@contextmanager
def _folder(config: Any, words: int) -> Iterator[Path]:
    """A folder with the files that an engine reads before it loads weights."""
    with TemporaryDirectory(prefix="taketurns-bench-") as name:
        folder = Path(name)
        config.save_pretrained(folder)
        _tokenizer(words).save_pretrained(folder)
        yield folder


def _reserved() -> list[str]:
    """Digits, and the words of the switcher's tags and question."""
    spoken = (BEGINS + ENDS + QUESTION).replace("{index}", "").replace("{last}", "")
    words = re.findall(r"\w+|[^\w\s]+", spoken)
    return [*map(str, range(10)), *dict.fromkeys(words)]


def _tokenizer(words: int) -> Any:
    """A tokenizer with one token per word, such as w0, w1, …; tags take about as many tokens as in
    a large vocabulary."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = [*_reserved(), *(f"w{index}" for index in range(words))]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(vocabulary)}))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)
