"""Stage 2: supervised tuning with TRL, on questions about group A and worked answers."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

from recipes.pocket.hardware import can_bf16
from recipes.pocket.pretrain import save
from recipes.pocket.recipe import Recipe
from recipes.pocket.vocabulary import CHAT_TEMPLATE
from taketurns.pocket.questions import MAKERS, PocketQuestion, QuestionPool
from taketurns.pocket.text import PLAIN_PROMPT
from taketurns.pocket.world import World
from taketurns.utils.seeds import derive


def lessons(world: World, mix: dict[str, float], count: int, seed: int) -> list[PocketQuestion]:
    """Questions about group A, with kinds drawn from `mix`."""
    rng, pool = Random(seed), QuestionPool.of(world, "A")
    kinds = rng.choices(list(mix), list(mix.values()), k=count)
    return [MAKERS[kind](pool, rng) for kind in kinds]


def encode(item: PocketQuestion, tokenizer: Any) -> dict[str, list[int]]:
    """Token ids of question and worked answer; the labels are the answer and its end token."""
    prompt = tokenizer.encode(PLAIN_PROMPT.format(text=item.question))
    answer = [*tokenizer.encode(item.worked, add_special_tokens=False), tokenizer.eos_token_id]
    return {"input_ids": prompt + answer, "labels": [-100] * len(prompt) + answer}


def tune(recipe: Recipe, start: Path, out: Path) -> None:
    """Tune the checkpoint in `start` and save it, with its chat tokenizer, under `out`."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    settings, tokenizer = recipe.tuning, AutoTokenizer.from_pretrained(start)
    tokenizer.chat_template = CHAT_TEMPLATE
    seed = derive(recipe.seed, "pocket", "tune")
    items = lessons(World(recipe.seed), settings.mix, settings.examples, seed)
    model = AutoModelForCausalLM.from_pretrained(start)
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            output_dir=str(out / "trainer"),
            num_train_epochs=settings.epochs,
            per_device_train_batch_size=settings.batch,
            learning_rate=settings.learning_rate,
            lr_scheduler_type="linear",
            warmup_steps=settings.warmup,
            weight_decay=settings.weight_decay,
            adam_beta2=0.98,
            max_length=None,
            packing=False,
            completion_only_loss=False,
            dataset_kwargs={"skip_prepare_dataset": True},
            activation_checkpointing=False,
            bf16=recipe.pretraining.bf16 and can_bf16(),
            use_cpu=True,
            save_strategy="no",
            logging_steps=50,
            report_to="none",
            seed=seed % 2**31,
        ),
        train_dataset=Dataset.from_list([encode(item, tokenizer) for item in items]),
        processing_class=tokenizer,
    )
    trainer.train()
    save(trainer.model, tokenizer, recipe, out)
