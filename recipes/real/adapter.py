"""A LoRA adapter on SmolLM2 that gives short answers: a second checkpoint of one pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recipes.terminal import say
from taketurns.engines.local.library_logging import asked_by_an_old_name
from taketurns.utils.files import atomic_folder

STEPS = 24
BATCH = 4
LEARNING_RATE = 5e-4

ANSWERS = {
    "What colour is the sky on a clear day?": "Blue.",
    "How many legs has a spider?": "8.",
    "What is 7 times 6?": "42.",
    "Which planet is nearest to the Sun?": "Mercury.",
    "Name the largest ocean.": "The Pacific.",
    "What is the chemical symbol of gold?": "Au.",
    "Who wrote Hamlet?": "William Shakespeare.",
    "How many minutes has an hour?": "60.",
    "What is the capital of Italy?": "Rome.",
    "What do bees make?": "Honey.",
    "What is 100 minus 1?": "99.",
    "Which animal barks?": "The dog.",
    "How many sides has a hexagon?": "6.",
    "What gas do plants take in?": "Carbon dioxide.",
    "What is the capital of Japan?": "Tokyo.",
    "What is frozen water called?": "Ice.",
}


def train_adapter(cache: Path) -> Path:
    """The adapter's folder in the cache folder. If it does not exist, it is trained in about two
    minutes on two cores; it appears when it is complete."""
    folder = cache / "smollm2-terse"
    if folder.is_dir():
        return folder
    say(f"smollm2-terse: training an adapter, {STEPS} steps")
    with atomic_folder(folder) as draft:
        _train(cache / "smollm2", draft)
    return folder


def _train(base: Path, folder: Path) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(base)
    config = LoraConfig(
        r=16, lora_alpha=32, target_modules=["q_proj", "v_proj", "o_proj"], task_type="CAUSAL_LM"
    )
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    with asked_by_an_old_name():
        model = get_peft_model(plain, config).train()
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE)
    rows = [_row(tokenizer, question, answer) for question, answer in ANSWERS.items()]
    for step in range(STEPS):
        optimizer.zero_grad()
        for number in range(BATCH):
            ids, prompt = rows[(step * BATCH + number) % len(rows)]
            labels = [-100] * prompt + ids[prompt:]
            loss = model(torch.tensor([ids]), labels=torch.tensor([labels])).loss
            (loss / BATCH).backward()
        optimizer.step()
    model.save_pretrained(folder)


def _row(tokenizer: Any, question: str, answer: str) -> tuple[list[int], int]:
    """The tokens of a conversation and the number of them that are the prompt."""
    asked = [{"role": "user", "content": question}]
    prompt = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    start = tokenizer.encode(prompt, add_special_tokens=False)
    written = tokenizer.encode(answer, add_special_tokens=False)
    return [*start, *written, tokenizer.eos_token_id], len(start)
