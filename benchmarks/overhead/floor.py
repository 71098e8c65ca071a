"""The least possible cost of taking turns: work that no cache avoids, at measured rates.

Before a model writes, it must read what the others wrote since its last turn. This also gives the
first token of its patch; each further token takes one step. Concurrent answers share a step if the
same model writes them. The switcher must read each patch between its tags once, and its question at
every decision.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.overhead.workload import Workload


@dataclass(frozen=True, slots=True)
class ForwardWork:
    """The work, by the number of rows that share a forward pass: `steps` counts forward passes of
    one token per row, `read` the tokens that are read in blocks."""

    steps: Mapping[int, int] = field(default_factory=dict)
    read: Mapping[int, int] = field(default_factory=dict)

    @property
    def tokens_read(self) -> int:
        return sum(self.read.values())

    def __add__(self, other: ForwardWork) -> ForwardWork:
        return ForwardWork(
            Counter(self.steps) + Counter(other.steps), Counter(self.read) + Counter(other.read)
        )


@dataclass(frozen=True, slots=True)
class Rates:
    """Seconds by the number of rows: of a step, and of a token in a block of a patch's size."""

    step: Mapping[int, float]
    read: Mapping[int, float]

    def seconds(self, work: ForwardWork) -> float:
        steps = sum(count * self.step[rows] for rows, count in work.steps.items())
        return steps + sum(count * self.read[rows] for rows, count in work.read.items())


def catch_up(prompt: int, patches: Sequence[int], turns: Sequence[int]) -> tuple[int, ...]:
    """The number of tokens that the speaker of each patch must read before it writes. A model has
    read its own tokens except the last one, so 1 means that the same speaker continues."""
    read: dict[int, int] = {}
    missing = []
    written = prompt
    for size, speaker in zip(patches, turns, strict=True):
        missing.append(written - read.get(speaker, 0))
        written += size
        read[speaker] = written - 1
    return tuple(missing)


def team_work(workload: Workload, *, shared: bool = False) -> ForwardWork:
    """The candidates' work if the answers of a batch are in lock-step. `shared`: rows of different
    candidates share forwards, as those of adapters on one base can."""
    behind = [catch_up(workload.prompt, workload.patches, turns) for turns in workload.turns]
    steps: Counter[int] = Counter()
    read: Counter[int] = Counter()
    for round_, size in enumerate(workload.patches):
        speakers = [0 if shared else turns[round_] for turns in workload.turns]
        for speaker in set(speakers):
            missing = [
                behind[index][round_] for index, who in enumerate(speakers) if who == speaker
            ]
            steps[len(missing)] += size - 1
            blocks = [tokens for tokens in missing if tokens > 1]
            if going_on := len(missing) - len(blocks):
                steps[going_on] += 1
            if blocks:
                read[len(blocks)] += sum(blocks)
    return ForwardWork(+steps, read)


def switcher_work(workload: Workload, tags: int, question: int) -> ForwardWork:
    """An LM switcher's work: it decides before every patch. `tags` is the number of tokens around a
    patch, `question` that of the question."""
    patches = workload.patches[:-1]
    read = workload.prompt + sum(patches) + tags * len(patches) + question * (len(patches) + 1)
    return ForwardWork({}, {workload.batch: read * workload.batch})
