"""Stage 3: reinforcement learning with TRL's GRPO and verifiable rewards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recipes.pocket.pretrain import save
from recipes.pocket.recipe import Recipe
from recipes.pocket.sft import lessons
from taketurns.engines.local.library_logging import asked_by_an_old_name
from taketurns.pocket.scoring import judge
from taketurns.pocket.text import PLAIN_PROMPT
from taketurns.pocket.world import World
from taketurns.utils.seeds import derive


def align(recipe: Recipe, start: Path, out: Path) -> None:
    """Train the checkpoint in `start` with the reward and save it under `out`."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer

    settings, tokenizer = recipe.alignment, AutoTokenizer.from_pretrained(start)
    seed, world = derive(recipe.seed, "pocket", "align"), World(recipe.seed)
    items = lessons(world, settings.mix, settings.steps * settings.prompts, seed)

    def reward(
        completions: Sequence[str],
        completion_ids: Sequence[Sequence[int]],
        item: Sequence[int],
        **_: Any,
    ) -> list[float]:
        """1 for a right answer that ended with an end token, else 0."""
        return [
            float(ids[-1] == tokenizer.eos_token_id) * (judge(world, items[i], text).value or 0.0)
            for text, ids, i in zip(completions, completion_ids, item, strict=True)
        ]

    model = AutoModelForCausalLM.from_pretrained(start)
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=reward,
        args=GRPOConfig(
            output_dir=str(out / "trainer"),
            max_steps=settings.steps,
            per_device_train_batch_size=settings.prompts * settings.answers,
            num_generations=settings.answers,
            max_completion_length=settings.longest,
            temperature=1.0,
            top_p=1.0,
            top_k=0,
            beta=0.0,
            loss_type="dapo",
            scale_rewards="group",
            learning_rate=settings.learning_rate,
            lr_scheduler_type="constant_with_warmup",
            warmup_steps=settings.warmup,
            shuffle_dataset=False,
            activation_checkpointing=False,
            bf16=False,
            use_cpu=True,
            use_vllm=False,
            save_strategy="no",
            logging_steps=5,
            report_to="none",
            seed=seed % 2**31,
        ),
        train_dataset=Dataset.from_list(
            [
                {"prompt": PLAIN_PROMPT.format(text=item.question), "item": i}
                for i, item in enumerate(items)
            ]
        ),
        processing_class=tokenizer,
    )
    with asked_by_an_old_name():
        trainer.train()
    save(trainer.model, tokenizer, recipe, out)
