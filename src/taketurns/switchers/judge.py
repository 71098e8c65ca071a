"""The trained judge of MentorCollab (arXiv 2602.05307): a small network on the writer's states.

It gives each of two patches a value, by the writer's hidden states after the patch, and the values
are the logits of keeping it. Both patches go through the same network, so what the states say of
the question cancels out. On disk a judge is a folder with `judge.json` and `judge.safetensors`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from taketurns.engines.base import ModelInfo, Session
from taketurns.errors import ConfigError, NotANumberError
from taketurns.switchers.base import GenerationView
from taketurns.switchers.candidate_order import permutation
from taketurns.switchers.head import HeadConfig, StateReader, load, save

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class PatchValue:
    """The network: the hidden units' `weight` `[width, layers * d]` and `bias` `[width]`, their
    `output` weights `[width]`, and what is added for each candidate, `lean` `[2]`."""

    weight: Tensor
    bias: Tensor
    output: Tensor
    lean: Tensor

    def __call__(self, standardised: Tensor) -> Tensor:
        """The values `[..., 2]` for states `[..., 2, layers * d]`, a row per candidate."""
        return (standardised @ self.weight.T + self.bias).relu() @ self.output + self.lean

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The parameters by name."""
        return {item.name: getattr(self, item.name) for item in fields(self)}


@dataclass(frozen=True, slots=True)
class Judge:
    """Says which of two candidates' patches to keep. `config` is of mode "candidate", and its
    reader is the writer; `mean` and `deviation` `[layers * d]` standardise the writer's states."""

    config: HeadConfig
    mean: Tensor
    deviation: Tensor
    value: PatchValue

    def logits(self, states: Tensor) -> Tensor:
        """One logit per candidate, `[..., 2]`, for the writer's states `[..., 2, layers * d]` after
        each one's patch. Raises ConfigError if they have another size than in training."""
        self._check_size(states.shape[-1])
        return self.value((states - self.mean) / self.deviation)

    def ordered(self, names: Sequence[str]) -> Judge:
        """The same judge for the candidates in another order. Raises ConfigError if the names
        differ."""
        at = permutation(self.config.candidates, names, "judge")
        value = replace(self.value, lean=self.value.lean[at])
        return replace(self, config=replace(self.config, candidates=tuple(names)), value=value)

    def check(self, writer: ModelInfo) -> None:
        """Raise ConfigError unless it can judge where this model writes."""
        reader = self.config.reader
        if writer.name != reader:
            raise ConfigError(
                f"the judge reads states of {reader}, but {writer.name} is the writer: set "
                f"switcher.base to {reader}, or train a judge for {writer.name}"
            )
        if "hidden" not in writer.capabilities:
            raise ConfigError(
                f"the judge reads hidden states, which the engine of {reader} does not give: use "
                f"engine.kind local, or remove switcher.path, so that {reader} judges by itself"
            )
        if writer.hidden_size is not None:
            self._check_size(writer.hidden_size * len(self.config.layers[reader]))

    @property
    def numbers(self) -> int:
        """The number of parameters, the standardisation included."""
        return sum(tensor.numel() for tensor in self._tensors.values())

    def save(self, folder: Path) -> None:
        """Write both files."""
        save("judge", self.config, self._tensors, folder)

    @classmethod
    def load(cls, source: str) -> Judge:
        """Read a judge from a folder or a hub id. Raises ConfigError."""

        def of(config: HeadConfig, tensors: Mapping[str, Tensor]) -> Judge:
            value = PatchValue(*(tensors[item.name] for item in fields(PatchValue)))
            return cls(config, tensors["mean"], tensors["deviation"], value)

        return load("judge", source, of)

    @property
    def _tensors(self) -> dict[str, Tensor]:
        return {"mean": self.mean, "deviation": self.deviation, **self.value.tensors}

    def _check_size(self, size: int) -> None:
        if size != len(self.mean):
            raise ConfigError(
                f"the judge expects {len(self.mean)} state values of {self.config.reader} (hidden "
                f"size times layers), but this model has {size}: train the judge again, or use the "
                "model that it was trained on"
            )


class StateJudge:
    """Judges in an answer (`mentor.PatchJudge`). The writer has read its own patch but for the last
    token, and reads the other one in one forward pass."""

    tokens = 0

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self._states = StateReader(judge.config)

    async def weigh(
        self, session: Session, state: GenerationView, after: Mapping[int, GenerationView]
    ) -> tuple[float, ...] | None:
        import torch

        config = self._judge.config
        writer = config.candidates.index(config.reader)
        views = {
            index: await self._states.view(session, after[index])
            for index in (writer, 1 - writer)  # its own patch first, as long as its cache has that
        }
        first, second = (views[index].states for index in range(2))
        if first is None or second is None:
            return None
        logits = self._judge.logits(torch.stack((first, second)))
        if not logits.isfinite().all():
            raise NotANumberError(
                f"the judge gave NaN or infinity for the states of {config.reader}"
            )
        return tuple(logits.softmax(-1).tolist())
