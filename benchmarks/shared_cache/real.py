"""SmolLM2-135M-Instruct and LoRA adapters on it, on questions of public benchmarks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from benchmarks.shared_cache.answers import Order, Setting, write_answers
from benchmarks.shared_cache.handover import finish_answers, handover_divergence
from benchmarks.shared_cache.layers import SharedLayers, groups, lower
from recipes.pocket.hardware import can_bf16
from taketurns.checkpoints.prompts import speaker_ids
from taketurns.checkpoints.text import TextCodec
from taketurns.engines.local.library_logging import asked_by_an_old_name, quiet
from taketurns.tasks.base import Split, Task
from taketurns.tasks.registry import Choices, find_task
from taketurns.types import ModelSpec, Query
from taketurns.utils.files import write_text

TASKS = ("kaleidoscope", "blend", "arc_challenge", "mmlu_redux")
BEGINNING = 24  # tokens that the base model writes before the tuned one takes over
BUDGET = 16  # tokens in which the tuned model finishes
TRAIN = 60  # questions a task that the adapter learns from
CALIBRATION = 8  # questions a task for the divergence
BATCH = 32
LAYERS = 30
COUNTS = (10, 15, 20, 30)
STRIDE = 5


@dataclass(frozen=True)
class RealPair:
    """A folder with SmolLM2, an adapter on it, and the benchmarks' files."""

    base: Path
    adapter: Path | None
    data: Path

    @cached_property
    def models(self) -> tuple[Any, Any]:
        """The base model, and the same with its adapter merged into its weights (without one: the
        base model again), in float32."""
        with quiet():
            base = AutoModelForCausalLM.from_pretrained(self.base, dtype=torch.float32).eval()
            if self.adapter is None:
                return base, base
            from peft import PeftModel

            tuned = AutoModelForCausalLM.from_pretrained(self.base, dtype=torch.float32)
            with asked_by_an_old_name():
                tuned = PeftModel.from_pretrained(tuned, self.adapter).merge_and_unload()
        return base, tuned.eval()

    @cached_property
    def codec(self) -> TextCodec:
        return TextCodec.load(ModelSpec(str(self.base)))

    @property
    def end(self) -> int:
        return int(self.codec.tokenizer.eos_token_id)

    @cached_property
    def tasks(self) -> list[Task]:
        return [find_task(name, Choices(data=self.data)) for name in TASKS]

    def questions(self, split: Split, limit: int | None = None) -> list[tuple[Task, Query]]:
        """The first `limit` questions of every task."""
        return [(task, query) for task in self.tasks for query in task.queries(split)[:limit]]

    def prompt(self, query: Query) -> list[int]:
        """The token ids that an answer follows, the same for both models."""
        return speaker_ids(ModelSpec(str(self.base)), self.codec, query)

    def text(self, tokens: Sequence[int]) -> str:
        """An answer's text."""
        return str(self.codec.tokenizer.decode(list(tokens), skip_special_tokens=True))


def write_beginnings(
    pair: RealPair, split: Split, limit: int | None, tokens: int, output: Path
) -> None:
    """Write what the base model writes first: `[[token, …] a question]`, all of one length;
    after an end token it goes on."""
    prompts = [pair.prompt(query) for _, query in pair.questions(split, limit)]
    setting = Setting(Order("base", (0,)), tokens)
    # These are given texts in all that follows, so that their rounding does not matter.
    with torch.autocast("cpu", torch.bfloat16, enabled=can_bf16()):
        begun = write_answers(pair.models, prompts, setting, tokens, -1, BATCH)
    write_text(output, json.dumps(begun) + "\n")


def measure_answers(
    pair: RealPair, split: Split, beginnings: Path, choices: Sequence[SharedLayers], output: Path
) -> None:
    """Write `{shared layers: {"scores": {task: […]}, "texts": […]}}`."""
    asked = pair.questions(split)
    begun = json.loads(beginnings.read_text(encoding="utf-8"))
    prompts = [pair.prompt(query) for _, query in asked]
    written = finish_answers(pair.models, prompts, begun, choices, BUDGET, pair.end, BATCH)
    found = {}
    for name, answers in written.items():
        texts = [pair.text(answer) for answer in answers]
        scores: dict[str, list[float]] = {task.name: [] for task in pair.tasks}
        for (task, query), text in zip(asked, texts, strict=True):
            scores[task.name].append(float(task.score(query, text).value or 0.0))
        found[name] = {"scores": scores, "texts": texts}
    write_text(output, json.dumps(found, ensure_ascii=False) + "\n")


def measure_divergence(
    pair: RealPair, texts: Path, choices: Sequence[SharedLayers], turned: bool, output: Path
) -> None:
    """Write the divergence by the name of the shared layers, on texts of the base model, of which
    the other one reads the first half; `turned`: of which the base model reads the first half,
    written by the tuned one."""
    written = json.loads(texts.read_text(encoding="utf-8"))
    prompts = [pair.prompt(query) for _, query in pair.questions("train", CALIBRATION)]
    base, tuned = pair.models
    models = (tuned, base) if turned else (base, tuned)
    found = handover_divergence(models, prompts, written, BEGINNING, choices, BATCH)
    write_text(output, json.dumps({name: asdict(row) for name, row in found.items()}) + "\n")


def divergence_choices() -> list[SharedLayers]:
    """The groups of layers whose divergence is measured."""
    return [layers for count in COUNTS for layers in groups(count, LAYERS, STRIDE)]


def lower_choices() -> list[SharedLayers]:
    """The lower layers alone."""
    return [lower(count) for count in COUNTS]
