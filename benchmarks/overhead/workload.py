"""The settings that all variants share: lengths, sampling, prompts, speakers of each round."""

from __future__ import annotations

from dataclasses import dataclass

from taketurns.config.policy import Policy
from taketurns.evaluation.stopwatch import CLOCKS, Clock
from taketurns.switchers.sampling import pick
from taketurns.types import Query
from taketurns.utils.seeds import derive, generator

CANDIDATES = 3


@dataclass(frozen=True, slots=True)
class Workload:
    """One row of the table. Lengths are in tokens; `batch` answers are written at the same time."""

    batch: int
    tokens: int
    prompt: int = 128
    patch: int = 50
    temperature: float = 0.7
    top_p: float = 0.9
    seed: int = 0
    clock: Clock = "wall"

    def now(self) -> float:
        """A clock in seconds; only differences have a meaning."""
        return CLOCKS[self.clock]()

    @property
    def policy(self) -> Policy:
        return Policy(
            patch_size=self.patch,
            max_tokens=self.tokens,
            temperature=self.temperature,
            speaker_top_p=self.top_p,
            seed=self.seed,
        )

    @property
    def patches(self) -> tuple[int, ...]:
        """The lengths of an answer's patches."""
        whole, rest = divmod(self.tokens, self.patch)
        return (self.patch,) * whole + ((rest,) if rest else ())

    @property
    def query_ids(self) -> tuple[str, ...]:
        return tuple(f"bench/{index}" for index in range(self.batch))

    @property
    def turns(self) -> tuple[tuple[int, ...], ...]:
        """The speakers of each query's rounds, the same for all variants."""
        return tuple(
            random_turns(self.policy, query, CANDIDATES, len(self.patches))
            for query in self.query_ids
        )


def random_turns(policy: Policy, query_id: str, candidates: int, turns: int) -> tuple[int, ...]:
    """The speakers that a team draws for a query if its switcher gives equal probabilities."""
    random = generator(derive(policy.seed, query_id, "speakers"))
    uniform = (1 / candidates,) * candidates
    return tuple(pick(uniform, policy.top_p, random.random()) for _ in range(turns))


def queries(workload: Workload, words: int) -> tuple[Query, ...]:
    """Queries of exactly `workload.prompt` words out of `words`, each a token of the bench's
    tokenizer."""
    asked = []
    for query_id in workload.query_ids:
        random = generator(derive(workload.seed, query_id, "words"))
        numbers = random.integers(words, size=workload.prompt)
        asked.append(Query(query_id, text=" ".join(f"w{number}" for number in numbers)))
    return tuple(asked)
