"""All numbers of the pipeline in one frozen record; the default made the bundled checkpoints."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

CheckpointName = Literal["pretrained", "sft", "aligned"]
CHECKPOINTS: tuple[CheckpointName, ...] = ("pretrained", "sft", "aligned")
BuildStage = Literal["pretrained", "sft", "aligned", "labels", "switchers"]
STAGES: tuple[BuildStage, ...] = (*CHECKPOINTS, "labels", "switchers")
ArchitectureName = Literal["llama", "qwen3"]


@dataclass(frozen=True, slots=True)
class ModelShape:
    """A small model; attention heads have size 32."""

    architecture: ArchitectureName = "llama"
    width: int = 128
    layers: int = 4
    inner: int = 384


@dataclass(frozen=True, slots=True)
class Pretraining:
    """Next-token prediction on packed blocks, cosine schedule.

    `bf16` autocasts if the CPU multiplies bfloat16 natively, in this stage and in tuning.
    """

    steps: int = 2400
    batch: int = 16
    block: int = 256
    learning_rate: float = 3e-3
    warmup: int = 40
    weight_decay: float = 0.05
    bf16: bool = True


@dataclass(frozen=True, slots=True)
class Tuning:
    """Supervised tuning on questions about group A; linear schedule, loss on the answer only."""

    examples: int = 7000
    epochs: int = 2
    batch: int = 32
    learning_rate: float = 1e-3
    warmup: int = 10
    weight_decay: float = 0.01
    mix: dict[str, float] = field(
        default_factory=lambda: {
            "arithmetic": 0.28,
            "given": 0.12,
            "total": 0.05,
            "age": 0.05,
            "hop": 0.05,
            "oldest": 0.05,
            "chain": 0.06,
            "ages": 0.05,
            "choice": 0.09,
            "wording": 0.06,
            "recall": 0.05,
            "harm": 0.06,
            "unknown": 0.03,
        }
    )


@dataclass(frozen=True, slots=True)
class Alignment:
    """GRPO with verifiable rewards on fresh questions about group A."""

    steps: int = 25
    prompts: int = 32
    answers: int = 8
    learning_rate: float = 4e-5
    warmup: int = 10
    longest: int = 112
    mix: dict[str, float] = field(
        default_factory=lambda: {"arithmetic": 0.4, "given": 0.3, "wording": 0.2, "harm": 0.1}
    )


@dataclass(frozen=True, slots=True)
class Labelling:
    """Rollouts on the train split, as `taketurns rollout` makes them."""

    prefixes: int = 2600
    k: int = 4


@dataclass(frozen=True, slots=True)
class SwitcherTraining:
    """Switchers that `taketurns train` trains on these labels: a head and a language model for all
    tasks, a head for each task (unless `by_task` is False), and the first head after up to `steps`
    of policy gradient, with `checked` train questions per task to choose the step."""

    by_task: bool = True
    steps: int = 60
    checked: int = 20


@dataclass(frozen=True, slots=True)
class Measuring:
    """The card: questions per task and split for each checkpoint, and test questions per task for
    switched answers; all sampled as a team samples."""

    questions: int = 200
    together: int = 100
    temperature: float = 0.7
    top_p: float = 0.9
    budget: int = 208
    batch: int = 200


@dataclass(frozen=True, slots=True)
class Recipe:
    """The whole pipeline; equal recipes, threads included, give equal weights on a machine."""

    seed: int = 0
    threads: int = 1
    shape: ModelShape = ModelShape()
    pretraining: Pretraining = Pretraining()
    tuning: Tuning = Tuning()
    alignment: Alignment = Alignment()
    labelling: Labelling = Labelling()
    switching: SwitcherTraining = SwitcherTraining()
    measuring: Measuring = Measuring()

    def digest(self, stage: BuildStage | Literal["card"], text: str) -> str:
        """A digest that changes with every setting of a stage and of the stages before it.

        `text` is a sample of what the stages read, so that a changed world changes the digest.
        """
        parts = ["seed", "threads", "shape", "pretraining", "tuning", "alignment"]
        parts += ["labelling", "switching", "measuring"]
        upto = 4 + [*STAGES, "card"].index(stage)
        settings: dict[str, Any] = {part: asdict(self)[part] for part in parts[:upto]}
        return sha256(json.dumps([settings, text], sort_keys=True).encode()).hexdigest()[:16]


def read_digest(path: Path) -> str | None:
    """The digest in the marker of a stage or in a card; None if there is no such file."""
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["digest"])
    except (OSError, ValueError, KeyError):
        return None
