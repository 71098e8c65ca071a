"""Greedy teams of real models, and what they write."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from taketurns import Candidate, ModelSpec, Policy, Switcher, Team, Trace
from taketurns.engines.local.engine import LocalEngine

TOKENS = 32


def made(models: Mapping[str, str], switcher: Switcher, **changes: Any) -> Team:
    """A team of the models in these folders; `changes` are of its policy."""
    specs = {name: ModelSpec(folder, prompt="{text}") for name, folder in models.items()}
    settings: dict[str, Any] = {"max_tokens": TOKENS, "patch_size": TOKENS, "temperature": 0.0}
    candidates = [Candidate(name, spec) for name, spec in specs.items()]
    return Team(candidates, LocalEngine(specs), switcher, Policy(**settings | changes))


def tokens(trace: Trace) -> list[tuple[int | None, int]]:
    """Who wrote each token."""
    assert trace.error is None
    return [(patch.speaker, token) for patch in trace.patches for token in patch.token_ids]
