"""Weight-level collaboration: one checkpoint merged from all. The arithmetic on tensors is here,
the files are handled in `checkpoints.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taketurns.errors import UsageError
from taketurns.evaluation.methods.adapters import on_one_model, whole_checkpoint
from taketurns.evaluation.methods.base import (
    Dev,
    MethodContext,
    Plain,
    alone_on_dev,
    answers_of,
    mean_score,
)
from taketurns.evaluation.methods.checkpoints import (
    CheckpointTensors,
    Merge,
    check_mergeable,
    merge,
    rehearse_merge,
)
from taketurns.generation.team import Team
from taketurns.tasks.base import Task
from taketurns.types import Query, Trace
from taketurns.utils.seeds import derive

if TYPE_CHECKING:
    from torch import Tensor

DENSITY, SCALE = 0.5, 1.0


class _Merged(Plain):
    """One merged checkpoint that answers alone, with the prompt of the last candidate."""

    def __init__(self, context: MethodContext) -> None:
        super().__init__(context)
        self._team: Team | None = None

    async def check(self) -> None:
        if self._context.config.engine.kind == "http":
            raise UsageError(
                "a merged checkpoint needs an engine on this machine, and this team's engine.kind "
                "is http: use engine.kind local, or leave this method out"
            )
        checkpoints = self._checkpoints()
        check_mergeable(checkpoints)
        rehearse_merge(checkpoints[-1], self._context.folder.parent)
        await self._context.check_vocabularies("their embeddings cannot be merged")

    async def answer(self, task: Task, query: Query, seed: int) -> Trace:
        assert self._team is not None, "prepare() before answer()"
        return await self._team.agenerate(query, seed=seed)

    def _checkpoints(self) -> list[CheckpointTensors]:
        return [CheckpointTensors(c.name, c.spec) for c in self._context.config.candidates]

    def _whole(self, checkpoint: CheckpointTensors) -> CheckpointTensors:
        """Its weights with its adapter, if it has one."""
        return whole_checkpoint(checkpoint, self._context.folder / f"whole-{checkpoint.name}")

    def _merge(self, name: str, parts: Sequence[CheckpointTensors], how: Merge) -> Team:
        like = self._checkpoints()[-1]
        folder: Path = self._context.folder / name
        return self._context.merged(name, merge(parts, how, like, folder))


class GreedySoup(_Merged):
    """Greedy soup (Wortsman et al., arXiv 2203.05482): from the best on dev downwards, a checkpoint
    joins the average if the average's dev score does not fall."""

    async def prepare(self, dev: Dev) -> Mapping[str, Any]:
        alone = await alone_on_dev(self._context, dev)
        checkpoints = {one.name: self._whole(one) for one in self._checkpoints()}
        scores = {name: mean_score(alone[name]) for name in self._context.names}
        best, *others = sorted(scores, key=lambda name: -scores[name])
        chosen, reached = [best], scores[best]
        self._team = self._context.alone(best)
        for name in others:
            parts = [*chosen, name]
            soup = f"soup-{'-'.join(sorted(parts))}"
            team = self._merge(soup, [checkpoints[part] for part in sorted(parts)], average)
            score = mean_score(await dev.answers(soup, answers_of(team)))
            if score >= reached:
                chosen, reached, self._team = parts, score, team
            else:
                await self._context.dismiss(soup)
        return {"ingredients": chosen, "dev": reached}


class DareTies(_Merged):
    """DARE (arXiv 2311.03099) before TIES (2306.01708): half of each checkpoint's differences from
    a base are dropped at random and the rest doubled; a sign is elected for every weight, and the
    mean of the differences with that sign is added to the base. The base is the first checkpoint;
    of adapters on one model it is that model."""

    async def prepare(self, dev: Dev) -> Mapping[str, Any]:
        def how(name: str, tensors: Sequence[Tensor]) -> Tensor:
            base, *tuned = tensors
            seeds = [derive(self._context.policy.seed, name, index) for index in range(len(tuned))]
            return dare_ties(base, tuned, seeds)

        base, *tuned = self._checkpoints()
        base_name = base.name
        adapters = [one for one in (base, *tuned) if one.spec.adapter is not None]
        if adapters and on_one_model([base, *tuned]):
            tuned, base_name = adapters, base.spec.model  # the base's files are read without one
        else:
            base = self._whole(base)
        parts = [base, *map(self._whole, tuned)]
        name = f"dare-ties-{DENSITY}-seed-{self._context.policy.seed}"
        self._team = self._merge(name, parts, how)
        return {"density": DENSITY, "scale": SCALE, "base": base_name}


def average(name: str, tensors: Sequence[Tensor]) -> Tensor:
    """The mean of the tensors."""
    import torch

    return torch.stack(list(tensors)).mean(0)


def dare_ties(
    base: Tensor,
    tuned: Sequence[Tensor],
    seeds: Sequence[int],
    density: float = DENSITY,
    scale: float = SCALE,
) -> Tensor:
    """The merge of `base` and `tuned`, tensors of one shape in float32. Each seed draws the dropped
    elements of one of `tuned`."""
    import torch

    kept = []
    for tensor, seed in zip(tuned, seeds, strict=True):
        random = torch.Generator().manual_seed(seed)
        mask = torch.bernoulli(torch.full_like(base, density), generator=random)
        kept.append((tensor - base) * mask / density)
    changes = torch.stack(kept)
    elected = torch.where(changes.sum(0) >= 0, 1.0, -1.0)
    agree = changes.sign() == elected
    count = agree.sum(0).clamp_min(1)
    return base + scale * (changes * agree).sum(0) / count
