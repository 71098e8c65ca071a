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
        least = (self.candidates, self.replicas, self.concurrency, self.clients)
        if min(*least, self.switcher_replicas or 1, self.cores or 1) < 1:
            raise UsageError(
                "the numbers of candidates, replicas, switcher replicas, calls at a time, clients "
                "and cores must be at least 1"
            )
        if not 0 <= self.sticky <= 1:
            raise UsageError(f"sticky must be a share from 0 to 1, not {self.sticky}")
        if min(self.tags, self.question, self.shared) < 0:
            raise UsageError("tags, question and shared must be 0 tokens or more")

    @property
    def servers(self) -> int:
        """The number of servers, the switcher's included."""
        switcher = (self.switcher_replicas or self.replicas) if self.switcher == "lm" else 0
        return self.candidates * self.replicas + switcher
