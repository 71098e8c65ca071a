"""LoRA adapters as vLLM takes them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from taketurns.types import Candidate

_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # those that vLLM has
_UNKNOWN = 64  # what counts for an adapter that is not on this machine


def max_rank(adapters: Sequence[Candidate]) -> int:
    """The lowest `max_lora_rank` with which vLLM can load these candidates' adapters."""
    highest = max(map(_rank, adapters))
    return next((rank for rank in _RANKS if rank >= highest), highest)


def _rank(adapter: Candidate) -> int:
    path = Path(adapter.spec.adapter or "") / "adapter_config.json"
    try:
        return int(json.loads(path.read_text(encoding="utf-8"))["r"])
    except (OSError, ValueError, KeyError, TypeError):
        return _UNKNOWN
