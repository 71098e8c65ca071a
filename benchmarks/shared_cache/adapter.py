"""A LoRA adapter on SmolLM2 that is tuned on questions of the benchmarks' train split.

It learns to end what the base model began: of every other question it reads the beginning that the
base model wrote, and the loss is on the conclusion alone.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from benchmarks.shared_cache.real import TRAIN, RealPair
from recipes.pocket.hardware import can_bf16
from recipes.terminal import say
from taketurns.engines.local.library_logging import asked_by_an_old_name, quiet
from taketurns.utils.files import atomic_folder

RANK = 16
LEARNING_RATE = 1e-3
BATCH = 8
LONGEST = 230  # tokens of a prompt; longer ones are left out
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

Row = tuple[list[int], int]  # the tokens, and how many of them are not learned


def train_adapter(pair: RealPair, beginnings: Path, folder: Path) -> None:
    """Train an adapter on all linear layers, one epoch; the folder appears when it is complete."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    rows = _rows(pair, json.loads(beginnings.read_text(encoding="utf-8")))
    config = LoraConfig(
        r=RANK, lora_alpha=2 * RANK, target_modules=list(PROJECTIONS), task_type="CAUSAL_LM"
    )
    with quiet():
        plain = AutoModelForCausalLM.from_pretrained(pair.base, dtype=torch.float32)
    with asked_by_an_old_name():
        model = get_peft_model(plain, config).train()
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE)
    steps = -(-len(rows) // BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / 5) * (1 - step / steps)
    )
    for step in range(steps):
        with torch.autocast("cpu", torch.bfloat16, enabled=can_bf16()):
            ids, labels, mask = _padded(rows[step * BATCH : (step + 1) * BATCH])
            loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        say(f"step {step + 1} of {steps}: loss {float(loss.detach()):.3f}")
    with atomic_folder(folder) as draft:
        model.save_pretrained(draft)


def _rows(pair: RealPair, beginnings: Sequence[Sequence[int]]) -> list[Row]:
    """The questions with their conclusions, in an order of batches that mixes tasks."""
    rows = []
    tokenizer: Any = pair.codec.tokenizer
    for number, (_, query) in enumerate(pair.questions("train", TRAIN)):
        prompt = pair.prompt(query)
        if len(prompt) > LONGEST:
            continue
        conclusion = f"The answer is {query.reference}."
        if number % 2:
            prompt = [*prompt, *beginnings[number]]
            conclusion = "\n\n" + conclusion
        learned = tokenizer.encode(conclusion, add_special_tokens=False)
        rows.append(([*prompt, *learned, pair.end], len(prompt)))
    random.Random(0).shuffle(rows)
    return rows


def _padded(rows: Sequence[Row]) -> tuple[Tensor, Tensor, Tensor]:
    """Ids, labels and attention mask, `[rows, tokens]` each."""
    longest = max(len(ids) for ids, _ in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    labels = torch.full((len(rows), longest), -100)
    mask = torch.zeros(len(rows), longest, dtype=torch.long)
    for place, (tokens, known) in enumerate(rows):
        ids[place, : len(tokens)] = torch.tensor(tokens)
        labels[place, known : len(tokens)] = torch.tensor(tokens[known:])
        mask[place, : len(tokens)] = 1
    return ids, labels, mask
