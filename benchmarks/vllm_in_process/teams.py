"""The teams that are measured: the bundled one, and three Llamas of random weights that are large
enough for their products to cost more than vLLM's own work."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import AutoConfig, LlamaConfig, LlamaForCausalLM

from taketurns.config.loading import load_team_config
from taketurns.config.team_config import SwitcherConfig, TeamConfig
from taketurns.integrations.export.run import export_folded
from taketurns.switchers.head import Head, HeadConfig, Scale

NAMES = ("pretrained", "sft", "aligned")
VLLM: Mapping[str, Any] = {"max_model_len": 1024, "enforce_eager": True}
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
_ROWS = 512  # of the embedding: those of the bundled tokenizer, and spare ones for the head


@dataclass(frozen=True, slots=True)
class Size:
    """Checkpoints of one size: `memory` is that of all keys and values together, in bytes; a
    model's rates are measured at `rows` sequences a step, the best of `repeats` times. `shape` is
    that of a Llama with random weights; without one, the checkpoints are the bundled ones."""

    memory: int
    rows: tuple[int, ...]
    repeats: int
    shape: Mapping[str, int] | None = None


SIZES: Mapping[str, Size] = {
    "pocket": Size(512 << 20, (1, 4, 16, 64), 3),
    "135M": Size(
        2 << 30,
        (1, 8, 32, 64),
        2,
        {
            "hidden_size": 768,
            "intermediate_size": 2048,
            "num_hidden_layers": 21,
            "num_attention_heads": 12,
            "num_key_value_heads": 4,
        },
    ),
}


def write_teams(folder: Path, candidates: Sequence[str], size: Size) -> dict[str, TeamConfig]:
    """The team with a head inside its checkpoints, and with the last candidate as an LM switcher;
    both have the same checkpoints."""
    team = load_team_config("pocket")
    if size.shape is not None:
        team = replace(team, candidates=_random_models(team, folder / "models", size.shape))
    (folder / "head").mkdir()
    _random_head(team).save(folder / "head")
    team = replace(team, switcher=SwitcherConfig("head", path=str(folder / "head")))
    export_folded(team, folder / "folded")
    content = yaml.safe_load((folder / "folded" / "team.yaml").read_text())
    entries = [
        {key: value for key, value in entry.items() if key not in ("urls", "served_as")}
        for entry in content["candidates"]
        if entry["name"] in candidates
    ]
    tokens = {name: content["switcher"]["tokens"][name] for name in candidates}
    switchers: dict[str, dict[str, Any]] = {
        "folded head": {"kind": "folded", "tokens": tokens, "reader": candidates[-1]},
        "LM switcher": {"kind": "lm", "model": entries[-1]["model"]},
    }
    engine = {"kind": "vllm", "memory": f"{size.memory >> 20} MiB", "vllm": dict(VLLM)}
    configs = {}
    for name, switcher in switchers.items():
        path = folder / "folded" / f"{switcher['kind']}.yaml"
        team_file = {"candidates": entries, "switcher": switcher, "engine": engine}
        path.write_text(yaml.safe_dump(team_file))
        configs[name] = load_team_config(path)
    return configs


def _random_models(team: TeamConfig, folder: Path, shape: Mapping[str, int]) -> tuple[Any, ...]:
    """The candidates with a Llama of this shape each, and with their own tokenizers and prompts."""
    made = []
    for seed, candidate in enumerate(team.candidates):
        bundled, place = Path(candidate.spec.model), folder / candidate.name
        torch.manual_seed(seed)
        config = LlamaConfig(
            **shape, vocab_size=_ROWS, max_position_embeddings=2048, tie_word_embeddings=True,
            bos_token_id=1, eos_token_id=2, pad_token_id=0,
        )  # fmt: skip
        LlamaForCausalLM(config).save_pretrained(place)
        for name in _TOKENIZER:
            if (bundled / name).exists():
                shutil.copy(bundled / name, place)
        made.append(replace(candidate, spec=replace(candidate.spec, model=str(place))))
    return tuple(made)


def _random_head(team: TeamConfig) -> Head:
    """A head without taste, on the last layer, so that all candidates have turns."""
    shape = AutoConfig.from_pretrained(team.candidates[0].spec.model)
    width, depth = shape.hidden_size, shape.num_hidden_layers
    draws = torch.Generator().manual_seed(3)
    config = HeadConfig("speaker", NAMES, NAMES[-1], dict.fromkeys(NAMES, (depth,)))
    scales = {
        name: Scale(
            torch.zeros(width), torch.ones(width), 0.3 * torch.randn(3, width, generator=draws)
        )
        for name in NAMES
    }
    return Head(config, scales, torch.zeros(len(NAMES) + 1, len(NAMES)))
