"""What taking turns costs models whose layers look at a window or keep a state, beside a Llama of
the same size.

    python -m benchmarks.windows.measure

Three candidates of some 30 million parameters take turns in patches of 50 tokens. Beside them one
candidate writes as many tokens with `transformers.generate`. The ratio is of processor time; it is
the median of the rounds, between the lowest and the highest. Every round measures all shapes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    FalconH1Config,
    Gemma3TextConfig,
    Lfm2Config,
    LlamaConfig,
    Olmo3Config,
    Qwen3_5TextConfig,
    Qwen3NextConfig,
)

from benchmarks.formats.vocabulary import learned_tokenizer
from taketurns import Candidate, ModelSpec, Policy, Team
from taketurns.engines.local.engine import LocalEngine
from taketurns.switchers.simple import FixedSwitcher

CANDIDATES, PATCH, WINDOW = 3, 50, 64
PROMPT = "def measure(team, batch, rounds):\n    "
SIZE: dict[str, Any] = {
    "hidden_size": 512,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "intermediate_size": 1408,
    "vocab_size": 8192,
    "tie_word_embeddings": True,
    "max_position_embeddings": 2048,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": 0,
}
MIXED = [("full_attention" if layer % 4 == 3 else "sliding_attention") for layer in range(8)]
# As in the published models: three layers with a state, then one with attention.
LINEAR = [("full_attention" if layer % 4 == 3 else "linear_attention") for layer in range(8)]
CONVOLUTIONS = [("full_attention" if layer % 4 == 3 else "conv") for layer in range(8)]
DELTA: dict[str, Any] = {
    "layer_types": LINEAR,
    "head_dim": 64,
    "linear_num_key_heads": 4,
    "linear_num_value_heads": 8,
    "linear_key_head_dim": 64,
    "linear_value_head_dim": 64,
}
SHAPES: dict[str, Callable[[], Any]] = {
    "Llama": lambda: LlamaConfig(**SIZE),
    "OLMo 3": lambda: Olmo3Config(**SIZE, sliding_window=WINDOW, layer_types=MIXED),
    "Gemma 3": lambda: Gemma3TextConfig(
        **SIZE, sliding_window=WINDOW, layer_types=MIXED, head_dim=64, query_pre_attn_scalar=64
    ),
    "Qwen 3.5": lambda: Qwen3_5TextConfig(**SIZE, **DELTA),
    "Qwen3-Next, dense": lambda: Qwen3NextConfig(
        **SIZE, **DELTA, num_experts=0, mlp_only_layers=list(range(8))
    ),
    "LFM2": lambda: Lfm2Config(**SIZE, layer_types=CONVOLUTIONS, block_auto_adjust_ff_dim=False),
    "Falcon-H1": lambda: FalconH1Config(
        **SIZE,
        head_dim=64,
        mamba_d_ssm=512,
        mamba_n_heads=8,
        mamba_d_head=64,
        mamba_d_state=64,
        mamba_n_groups=1,
    ),
}


def main() -> None:
    """Print a JSON line for each shape and batch."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--deterministic", action="store_true", help="exact rounds, the default")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    with TemporaryDirectory() as home:
        tokenizer = learned_tokenizer(SIZE["vocab_size"])
        teams = {
            name: _Team(Path(home) / name, make(), tokenizer, chosen)
            for name, make in SHAPES.items()
        }
        for batch in chosen.batches:
            _compare(teams, batch, chosen)


class _Team:
    """Three checkpoints of one shape, and the first of them as transformers runs it."""

    def __init__(self, home: Path, config: Any, tokenizer: Any, chosen: Any) -> None:
        candidates = []
        for seed in range(CANDIDATES):
            torch.manual_seed(seed)
            folder = home / str(seed)
            AutoModelForCausalLM.from_config(config).save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            candidates.append(Candidate(str(seed), ModelSpec(str(folder), prompt="{text}")))
        self.one: Any = AutoModelForCausalLM.from_pretrained(home / "0").eval()
        self.ids = tokenizer(PROMPT).input_ids
        engine = LocalEngine(
            {candidate.name: candidate.spec for candidate in candidates},
            deterministic=chosen.deterministic,
            threads=chosen.threads,
        )
        policy = Policy(patch_size=PATCH, max_tokens=chosen.tokens, temperature=1.0)
        self.team = Team(candidates, engine, FixedSwitcher(range(CANDIDATES)), policy)
        asyncio.run(self.team.prepare())
        self.kept = engine.running("0").keeps_cache

    def take_turns(self, batch: int, seed: int) -> None:
        traces = self.team.generate([PROMPT] * batch, seed=seed)
        assert all(trace.error is None for trace in traces)

    def alone(self, batch: int, tokens: int) -> None:
        rows = torch.tensor([self.ids] * batch)
        self.one.generate(
            rows, attention_mask=torch.ones_like(rows), max_new_tokens=tokens, do_sample=True
        )


def _compare(teams: dict[str, _Team], batch: int, chosen: Any) -> None:
    ratios: dict[str, list[float]] = {name: [] for name in teams}
    for number in range(chosen.rounds + 1):
        for name, team in teams.items():
            together = _spent(partial(team.take_turns, batch, number))
            alone = _spent(partial(team.alone, batch, chosen.tokens))
            if number:  # the first round warms caches up
                ratios[name].append(together / alone)
    for name, of_rounds in ratios.items():
        print(
            json.dumps(
                {
                    "shape": name,
                    "batch": batch,
                    "cache kept": teams[name].kept,
                    "team/one": round(median(of_rounds), 2),
                    "from": round(min(of_rounds), 2),
                    "to": round(max(of_rounds), 2),
                    "beside Llama's": round(median(of_rounds) / median(ratios["Llama"]), 2),
                }
            ),
            flush=True,
        )


def _spent(work: Callable[[], None]) -> float:
    begun = time.process_time()
    work()
    return time.process_time() - begun


if __name__ == "__main__":
    main()
