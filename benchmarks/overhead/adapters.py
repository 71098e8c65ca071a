"""Three LoRA adapters on one base, as candidates: their files, and a pool of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.overhead.models import ModelPool
from benchmarks.overhead.weights import engine_on
from benchmarks.overhead.workload import CANDIDATES
from taketurns.engines.local.engine import LocalEngine
from taketurns.engines.local.library_logging import quiet
from taketurns.engines.local.loading import LoadedModel, Weights
from taketurns.types import Candidate, ModelSpec

RANK = 16


class AdapterPool(ModelPool):
    """Candidates that are adapters on the first candidate of another pool; there is no switcher."""

    def __init__(self, plain: ModelPool, folder: Path) -> None:
        specs = [
            ModelSpec(str(folder), adapter=str(folder / f"adapter {index}"))
            for index in range(CANDIDATES)
        ]
        self._candidates = tuple(
            Candidate(f"candidate {index}", spec) for index, spec in enumerate(specs)
        )
        weights = Weights({candidate.name: candidate.spec for candidate in self._candidates})
        super().__init__(f"{plain.name} with adapters", folder, weights, plain.words)

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        return self._candidates

    def specs(self, switcher: bool) -> dict[str, ModelSpec]:
        assert not switcher, "a pool of adapters has no switcher"
        return {candidate.name: candidate.spec for candidate in self._candidates}


class ApartPool(AdapterPool):
    """The same adapters, each of which has forwards of its own."""

    def __init__(self, pool: AdapterPool) -> None:
        ModelPool.__init__(self, f"{pool.name} apart", pool._folder, pool.weights, pool.words)
        self._candidates = pool.candidates

    def engine(self, *, deterministic: bool = False, switcher: bool = False) -> LocalEngine:
        return engine_on(_Apart(self.weights), self.specs(switcher), deterministic=deterministic)


class _Apart(Weights):
    def __init__(self, weights: Weights) -> None:
        super().__init__({})
        self._weights = weights

    def load(self, name: str) -> LoadedModel:
        return self._weights.load(name).alone("each is measured apart")


@contextmanager
def adapter_pool(plain: ModelPool) -> Iterator[AdapterPool]:
    """Random adapters of rank `RANK` on all linear layers of the first candidate of `plain`."""
    with TemporaryDirectory(prefix="taketurns-bench-") as name:
        folder = Path(name)
        with quiet():
            plain.model(plain.candidates[0].name).save_pretrained(folder)
            for index in range(CANDIDATES):
                _save_adapter(folder, index)
        for file in Path(plain.candidates[0].spec.model).glob("tokenizer*"):
            (folder / file.name).write_bytes(file.read_bytes())
        yield AdapterPool(plain, folder)


def _save_adapter(base: Path, index: int) -> None:
    import peft
    from transformers import AutoModelForCausalLM

    torch.manual_seed(index)
    model: Any = AutoModelForCausalLM.from_pretrained(base)
    config = peft.LoraConfig(
        r=RANK, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM"
    )
    peft.get_peft_model(model, config).save_pretrained(base / f"adapter {index}")
