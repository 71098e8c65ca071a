"""Scores of one checkpoint alone: plain batched sampling, and the card's figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recipes.pocket.recipe import Measuring
from taketurns.evaluation.statistics import wilson
from taketurns.pocket.tasks import PocketTask
from taketurns.pocket.text import PLAIN_PROMPT
from taketurns.tasks.base import Split


@dataclass(frozen=True, slots=True)
class Figure:
    """A task's share of right answers, with a 95 % Wilson interval."""

    task: str
    split: Split
    questions: int
    right: int
    low: float
    high: float

    @property
    def share(self) -> float:
        return self.right / self.questions


def answers(
    model: Any, tokenizer: Any, questions: Sequence[str], settings: Measuring, seed: int
) -> list[str]:
    """One sampled answer per question, in order."""
    import torch
    from transformers import set_seed

    set_seed(seed % 2**31)
    prompts = [PLAIN_PROMPT.format(text=question) for question in questions]
    written: list[str] = []
    for start in range(0, len(prompts), settings.batch):
        batch = tokenizer(
            prompts[start : start + settings.batch], return_tensors="pt", padding=True,
            padding_side="left", return_token_type_ids=False,
        )  # fmt: skip
        with torch.inference_mode():
            rows = model.generate(
                **batch,
                do_sample=settings.temperature > 0,
                temperature=settings.temperature or None,
                top_p=settings.top_p,
                top_k=0,
                max_new_tokens=settings.budget,
            )
        new = rows[:, batch["input_ids"].shape[1] :]
        written += tokenizer.batch_decode(new, skip_special_tokens=True)
    return written


def measure(
    checkpoint: Path, tasks: Sequence[PocketTask], settings: Measuring, seed: int
) -> Iterator[Figure]:
    """Score a checkpoint on the first questions of every task and split."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(checkpoint).eval()
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    splits: tuple[Split, ...] = ("dev", "test")
    for task in tasks:
        for split in splits:
            queries = task.queries(split)[: settings.questions]
            texts = answers(model, tokenizer, [q.text or "" for q in queries], settings, seed)
            right = sum(
                int(task.score(q, text).value or 0) for q, text in zip(queries, texts, strict=True)
            )
            low, high = wilson(right / len(queries), len(queries))
            yield Figure(task.name, split, len(queries), right, low, high)
