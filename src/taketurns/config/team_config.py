"""What a team file comes to: which checkpoints take turns, who decides, by which rules, on what."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from taketurns.config.policy import Policy
from taketurns.types import Candidate, Endpoint, ModelSpec

SwitcherKind = Literal["random", "fixed", "lm", "head", "folded"]
EngineKind = Literal["local", "http"]
BUNDLED = "pocket"
JUDGE = "(judge)"


@dataclass(frozen=True, slots=True)
class SwitcherConfig:
    """Who decides. `spec` is the model of an "lm" switcher, `endpoint` where it is served and
    `candidates` whose its numbers are, from 0, where the team file says so; `sequence` the indices
    a "fixed" one cycles, `path` where a "head" is (a folder or a hub id).
    Of a "folded" one, `tokens` are those that stand for the candidates, in their order, and
    `reader` is the index of who is asked while nobody has spoken."""

    kind: SwitcherKind = "random"
    spec: ModelSpec | None = None
    chat_template: bool = False
    sequence: tuple[int, ...] = ()
    path: str | None = None
    endpoint: Endpoint | None = None
    tokens: tuple[int, ...] = ()
    reader: int | None = None
    candidates: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """What runs the models.

    Of "local" ones, `deterministic` None is on for float32 on a CPU and off elsewhere;
    `memory_bytes` bounds the KV caches and `threads` what one operation uses on a CPU; None leaves
    both to the engine. Of "http" ones, `concurrency` bounds the requests under way at a replica,
    `timeout` the seconds of a request, twice which all tries at it have together, and
    `token_timeout` those between two tokens of a stream; `retries` is how often a request is tried
    again.
    """

    kind: EngineKind = "local"
    deterministic: bool | None = None
    max_batch: int = 64
    memory_bytes: int | None = None
    threads: int | None = None
    concurrency: int = 64
    timeout: float = 300.0
    token_timeout: float = 30.0
    retries: int = 4


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
        """The models of an engine that answers without the switcher's: the candidates, and the
        judge unless it is one of them."""
        if self.judge is None or self.judge in self.candidates:
            return self.candidates
        return (*self.candidates, self.judge)
