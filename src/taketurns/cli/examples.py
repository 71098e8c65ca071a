"""An example of each command, which its `--help` ends with."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

EXAMPLES: Mapping[str, str] = MappingProxyType(
    {
        "chat": "taketurns chat --team pocket --probabilities",
        "generate": "taketurns generate --team pocket --input prompts.jsonl --output out.jsonl",
        "pocket demo": "taketurns pocket demo --each 2",
        "pocket gates": "taketurns pocket gates --questions 5 --samples 16",
        "pocket relabel": "taketurns pocket relabel --labels labels.jsonl --output by-rules.jsonl",
        "pocket score": "taketurns pocket score --methods aligned,random --task age --limit 50",
        "smol fetch": "taketurns smol fetch --yes",
        "check": "taketurns check --team team.yaml",
        "tasks": "taketurns tasks",
        "rollout": "taketurns rollout --team team.yaml --task task.yaml --output labels.jsonl",
        "train": "taketurns train --team team.yaml --labels labels.jsonl --output switcher",
        "distill": "taketurns distill --team switcher --task task.yaml --output student",
        "evaluate": "taketurns evaluate --team switcher --task task.yaml --output report",
        "score": "taketurns score --task task.yaml --answers out.jsonl",
        "analyze": "taketurns analyze --run report",
        "experiment": "taketurns experiment --team pocket --output report/analysis",
        "serve": "taketurns serve --team team.yaml --port 8000",
        "safety": "taketurns safety --team pocket --output safety",
        "launch": "taketurns launch --team servers.yaml --write manifests",
        "plan": "taketurns plan --rate 5,10,20 --replicas 1,2,4",
        "export": "taketurns export --team switcher --fold-switcher --output folded",
        "lm-eval": "taketurns lm-eval run --model taketurns --model_args team=pocket --tasks gsm8k",
    }
)
"""By the words of the command."""

WIDTH = 78
"""The longest example that an 80-column terminal shows on one line."""


def example_of(command: str) -> str:
    """What a command's help ends with."""
    return f"Example:\n{EXAMPLES[command]}"
