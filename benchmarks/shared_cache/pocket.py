"""The pocket pipeline: its checkpoints, its questions, their scores with a shared cache."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.shared_cache.answers import Order, Setting, divergence, write_answers
from taketurns.pocket.tasks import CATEGORIES, PocketTask
from taketurns.pocket.text import PLAIN_PROMPT
from taketurns.pocket.world import World
from taketurns.tasks.base import Split
from taketurns.utils.files import write_text

CHECKPOINTS = ("pretrained", "sft", "aligned")
PRETRAINED, SFT, ALIGNED = range(3)
ORDERS = (
    Order("pretrained-sft", (PRETRAINED, SFT)),
    Order("pretrained-aligned-sft", (PRETRAINED, ALIGNED, SFT)),
    Order("sft-aligned-sft", (SFT, ALIGNED, SFT)),
    Order("all again", (PRETRAINED, SFT, ALIGNED), again=True),
)
BUDGET = 200  # tokens of an answer, as the bundled team's
BATCH = 400


@dataclass(frozen=True)
class PocketPipeline:
    """A folder with three checkpoints, which were trained on the world of this seed."""

    folder: Path
    seed: int

    @cached_property
    def models(self) -> list[Any]:
        """The checkpoints, in float32."""
        return [
            AutoModelForCausalLM.from_pretrained(self.folder / name, dtype=torch.float32).eval()
            for name in CHECKPOINTS
        ]

    @cached_property
    def tokenizer(self) -> Any:
        return AutoTokenizer.from_pretrained(self.folder / CHECKPOINTS[PRETRAINED])

    @cached_property
    def tasks(self) -> list[PocketTask]:
        world = World(self.seed)
        return [PocketTask(name, category, world) for name, category in CATEGORIES.items()]

    def prompts(self, split: Split, limit: int) -> list[list[int]]:
        """The prompts of the first `limit` questions of every task: one for all checkpoints, since
        their chat template renders the plain prompt."""
        questions = [
            query.text or "" for task in self.tasks for query in task.queries(split)[:limit]
        ]
        texts = [PLAIN_PROMPT.format(text=question) for question in questions]
        return [list(ids) for ids in self.tokenizer(texts).input_ids]

    def answers(self, split: Split, limit: int, setting: Setting) -> list[list[int]]:
        """The tokens of the answers, in the order of `prompts`."""
        prompts = self.prompts(split, limit)
        return write_answers(
            self.models, prompts, setting, BUDGET, self.tokenizer.eos_token_id, BATCH
        )

    def scores(
        self, split: Split, limit: int, answers: Sequence[Sequence[int]]
    ) -> dict[str, list[float]]:
        """The score of each answer, by task."""
        texts = iter(self.tokenizer.batch_decode(answers, skip_special_tokens=True))
        return {
            task.name: [
                float(task.score(query, text).value or 0.0)
                for query, text in zip(task.queries(split)[:limit], texts, strict=False)
            ]
            for task in self.tasks
        }


def measure_scores(
    pipeline: PocketPipeline, split: Split, limit: int, setting: Setting, output: Path
) -> None:
    """Write `{"scores": {task: […]}, "answers": [[token, …], …]}`."""
    answers = pipeline.answers(split, limit, setting)
    scores = pipeline.scores(split, limit, answers)
    write_text(output, json.dumps({"scores": scores, "answers": answers}) + "\n")


def measure_divergence(
    pipeline: PocketPipeline, limit: int, settings: Sequence[Setting], plain: Path, output: Path
) -> None:
    """Write the divergence of each setting by the name of its layers, over the dev answers that
    were written without sharing, in the file `plain`."""
    answers = json.loads(plain.read_text(encoding="utf-8"))["answers"]
    found = divergence(pipeline.models, pipeline.prompts("dev", limit), answers, settings, BATCH)
    names = [setting.layers.name for setting in settings]
    rows = {name: asdict(row) for name, row in zip(names, found, strict=True)}
    write_text(output, json.dumps(rows) + "\n")
