"""The servers of a team: their number, their costs and the routing of calls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from taketurns.errors import UsageError
from taketurns.integrations.planning.costs import Costs

SwitcherPlacement = Literal["lm", "adapter", "none"]


@dataclass(frozen=True, slots=True)
class Deployment:
    """`replicas` servers of each of `candidates` and of the `switcher`.

    `switcher` is "lm" (with its own servers), "adapter" (on the last candidate's servers, whose
    prefix cache it does not share) or "none" (no calls: a head folded into the candidates, or a
    fixed order). It reads `tags` tokens around each patch and a question of `question` tokens. The
    first `shared` tokens of all prompts are the same. A share `sticky` of the calls goes to the
    answer's home server, the others to any; a replica has at most `concurrency` calls at a time.
    `clients` processes run the loop. All servers and clients share `cores` processors (None: each
    has its own). Raises UsageError for a value out of range.
    """

    costs: Costs
    candidates: int = 3
    replicas: int = 1
    switcher: SwitcherPlacement = "lm"
    switcher_replicas: int | None = None
    tags: int = 12
    question: int = 24
    shared: int = 0
    sticky: float = 1.0
    concurrency: int = 64
    clients: int = 1
    cores: int | None = None

    def __post_init__(self) -> None:
        counts = ("candidates", "replicas", "switcher_replicas", "concurrency", "clients", "cores")
        for name in counts:
            if (count := getattr(self, name)) is not None and count < 1:
                raise UsageError(f"{name} must be at least 1, not {count}")
        if not 0 <= self.sticky <= 1:
            raise UsageError(f"sticky must be a share from 0 to 1, not {self.sticky}")
        for name in ("tags", "question", "shared"):
            if (tokens := getattr(self, name)) < 0:
                raise UsageError(f"{name} must be 0 tokens or more, not {tokens}")

    @property
    def servers(self) -> int:
        """The number of servers, the switcher's included."""
        switcher = (self.switcher_replicas or self.replicas) if self.switcher == "lm" else 0
        return self.candidates * self.replicas + switcher
