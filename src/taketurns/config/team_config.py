"""The records of a team file: candidates, switcher, policy and engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from taketurns.config.pair_rules import PairRule
from taketurns.config.policy import Policy
from taketurns.types import Candidate, Endpoint, ModelSpec

SwitcherKind = Literal[
    "random",
    "fixed",
    "lm",
    "head",
    "folded",
    "nudging",
    "baco",
    "mentorcollab",
    "deferral",
    "fusionroute",
]
EngineKind = Literal["local", "http", "vllm"]
JUDGE = "(judge)"


@dataclass(frozen=True, slots=True)
class SwitcherConfig:
    """The switcher's kind and settings.

    "lm": `spec` is its model, `endpoint` is where that is served, and `candidates` are the names in
    the order of its digits, empty for the team's order. "fixed": `sequence` has the indices that it
    cycles through. "head" and "deferral": `path` is a folder or a hub id; "mentorcollab": that of
    its judge, None if the writer judges. "folded": `tokens` has one token id per candidate, in the
    candidates' order, and `reader` is the index of the candidate that decides before the first
    patch. "nudging", "baco", "mentorcollab" and "deferral": `pair` has their settings.
    "fusionroute": `spec` is the router, and `path` the folder or hub id of its head. Any other kind
    is a user's own switcher (`utils/parts.py`), made with `settings`.
    """

    kind: SwitcherKind | str = "random"
    spec: ModelSpec | None = None
    chat_template: bool = False
    sequence: tuple[int, ...] = ()
    path: str | None = None
    endpoint: Endpoint | None = None
    tokens: tuple[int, ...] = ()
    reader: int | None = None
    candidates: tuple[str, ...] = ()
    pair: PairRule | None = None
    settings: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """The engine's kind and settings.

    "local": `deterministic` None means on for float32 on a CPU and off elsewhere. `memory_bytes`
    limits the KV caches, and `threads` the threads of one operation on a CPU; for both, None lets
    the engine choose. `parallel` limits the models that run on the CPU at the same time. "http":
    `concurrency` limits the concurrent requests at a replica, `timeout` the seconds of one request
    (all attempts together have twice as many), `token_timeout` the seconds between two tokens of a
    stream, and `retries` the repetitions of a request. "vllm": `memory_bytes` limits the KV caches
    of all engines together (None: from the free memory), and `vllm` has further arguments of vLLM's
    engines by its names, and with `open_requests` a model's request stays open between its turns in
    an answer (None: where vLLM does not schedule ahead). Any other
    kind is a user's own engine (`utils/parts.py`), made with the models and `settings`.
    """

    kind: EngineKind | str = "local"
    deterministic: bool | None = None
    max_batch: int = 64
    memory_bytes: int | None = None
    threads: int | None = None
    parallel: int = 1
    concurrency: int = 64
    timeout: float = 300.0
    token_timeout: float = 30.0
    retries: int = 4
    open_requests: bool | None = None
    vllm: Mapping[str, Any] = field(default_factory=dict, hash=False)
    settings: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class TeamConfig:
    """A team file, checked and resolved: names are indices, relative model paths are absolute.
    `judge` is the model that the policy's guard asks."""

    candidates: tuple[Candidate, ...]
    switcher: SwitcherConfig = SwitcherConfig()
    policy: Policy = Policy()
    engine: EngineConfig = EngineConfig()
    source: Path | None = None
    judge: Candidate | None = None

    @property
    def writers_and_judge(self) -> tuple[Candidate, ...]:
        """All models but the switcher's: the candidates, and the judge unless it is one of
        them."""
        if self.judge is None or self.judge in self.candidates:
            return self.candidates
        return (*self.candidates, self.judge)
