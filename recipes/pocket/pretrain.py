"""Stage 1: a language model of the world's text, trained from scratch with the Trainer."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

from recipes.pocket.corpus import documents
from recipes.pocket.hardware import can_bf16
from recipes.pocket.recipe import ModelShape, Recipe
from recipes.pocket.vocabulary import CONTEXT, build_tokenizer
from taketurns.pocket.world import World
from taketurns.utils.seeds import derive

TOKENIZE_AT_ONCE = 2000


def new_model(shape: ModelShape, tokenizer: Any) -> Any:
    """A model with random weights."""
    from transformers import AutoModelForCausalLM, LlamaConfig, Qwen3Config

    config = {"llama": LlamaConfig, "qwen3": Qwen3Config}[shape.architecture]
    return AutoModelForCausalLM.from_config(
        config(
            vocab_size=len(tokenizer),
            hidden_size=shape.width,
            intermediate_size=shape.inner,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.width // 32,
            num_key_value_heads=shape.width // 32,
            head_dim=32,
            max_position_embeddings=CONTEXT,
            tie_word_embeddings=True,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )


def blocks(world: World, tokenizer: Any, count: int, block: int, seed: int) -> Any:
    """`count` rows of `block` token ids: concatenated documents, each between <bos> and <eos>."""
    import numpy as np

    stream = documents(world, Random(seed))
    ids: list[int] = []
    while len(ids) < count * block:
        texts = [next(stream) for _ in range(TOKENIZE_AT_ONCE)]
        for row in tokenizer(texts).input_ids:
            ids += [*row, tokenizer.eos_token_id]
    return np.array(ids[: count * block], dtype=np.int64).reshape(count, block)


def pretrain(recipe: Recipe, out: Path) -> None:
    """Train the base model and save it, with its tokenizer, under `out`."""
    import numpy as np
    import torch
    from transformers import Trainer, TrainingArguments, set_seed

    settings = recipe.pretraining
    tokenizer = build_tokenizer(chat=False)
    rows = blocks(
        World(recipe.seed),
        tokenizer,
        settings.steps * settings.batch,
        settings.block,
        derive(recipe.seed, "pocket", "corpus"),
    )
    set_seed(derive(recipe.seed, "pocket", "pretrain") % 2**31)
    model = new_model(recipe.shape, tokenizer)

    def collate(batch: list[Any]) -> dict[str, Any]:
        ids = torch.from_numpy(np.stack(batch))
        return {"input_ids": ids, "labels": ids}

    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(out / "trainer"),
            max_steps=settings.steps,
            per_device_train_batch_size=settings.batch,
            learning_rate=settings.learning_rate,
            lr_scheduler_type="cosine_with_min_lr",
            lr_scheduler_kwargs={"min_lr_rate": 0.03},
            warmup_steps=settings.warmup,
            weight_decay=settings.weight_decay,
            adam_beta2=0.98,
            bf16=settings.bf16 and can_bf16(),
            use_cpu=True,
            save_strategy="no",
            logging_steps=100,
            report_to="none",
            seed=derive(recipe.seed, "pocket", "pretrain") % 2**31,
            dataloader_num_workers=0,
        ),
        train_dataset=list(rows),
        data_collator=collate,
    )
    trainer.train()
    save(model, tokenizer, recipe, out)


def save(model: Any, tokenizer: Any, recipe: Recipe, out: Path) -> None:
    """Weights, configuration, tokenizer and generation defaults, ready for `from_pretrained`."""
    from transformers import GenerationConfig

    model.config.use_cache = True
    model.generation_config = GenerationConfig(
        do_sample=True,
        temperature=recipe.measuring.temperature,
        top_p=recipe.measuring.top_p,
        max_new_tokens=recipe.measuring.budget,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
