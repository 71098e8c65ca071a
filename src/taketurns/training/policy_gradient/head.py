"""A head as the policy: its weights and bias are trained, its standardisation is fixed."""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taketurns.config.policy import Policy
from taketurns.config.team_config import TeamConfig
from taketurns.engines.base import Engine
from taketurns.engines.factory import make_engine
from taketurns.generation.team import Team
from taketurns.switchers.head import Head, HeadSwitcher, Scale, View
from taketurns.training.divergence import checked_step
from taketurns.training.policy_gradient.objective import KEPT, Batch, loss
from taketurns.training.policy_gradient.sampling import Actor, SwitchDecision
from taketurns.training.policy_gradient.settings import PolicyGradientConfig
from taketurns.types import Query, Trace

if TYPE_CHECKING:
    from torch import Tensor

STATE = "learner.pt"
UPDATES, LEARNING_RATE = 4, 3e-3


class HeadLearner:
    """Trains `start`, a head for the candidates in the order of `team`, with its own engine."""

    def __init__(self, team: TeamConfig, start: Head, learning_rate: float | None) -> None:
        import torch

        self._team = team
        self._engine = make_engine(team.writers_and_judge, team.engine)
        self._start = start
        self._scales = {
            name: Scale(scale.mean, scale.deviation, scale.weight.clone().requires_grad_())
            for name, scale in start.scales.items()
        }
        self._bias = start.bias.clone().requires_grad_()
        self._learned = [self._bias, *(scale.weight for scale in self._scales.values())]
        self._optimizer = torch.optim.Adam(self._learned, lr=learning_rate or LEARNING_RATE)

    @classmethod
    def of(cls, team: TeamConfig, learning_rate: float | None) -> HeadLearner:
        """A learner of the team's own head. Raises ConfigError if it cannot be loaded."""
        names = [candidate.name for candidate in team.candidates]
        return cls(team, Head.load(team.switcher.path or "").ordered(names), learning_rate)

    async def actor(self) -> Actor:
        """The team with the current head as its switcher."""
        return HeadActor(self._team, self._engine, self.head)

    async def close(self) -> None:
        """Release the models."""
        await self._engine.close()

    @property
    def head(self) -> Head:
        """A copy of the current head."""
        scales = {
            name: Scale(scale.mean, scale.deviation, scale.weight.detach().clone())
            for name, scale in self._scales.items()
        }
        return Head(self._start.config, scales, self._bias.detach().clone())

    @property
    def _now(self) -> Head:
        """The current head, with gradients."""
        return Head(self._start.config, self._scales, self._bias)

    def learn(self, batch: Batch, config: PolicyGradientConfig) -> None:
        """Update the head on one batch of decisions. Raises NotANumberError if it diverges."""
        start = self._logits(self._start, batch.observations)
        for _ in range(config.updates or UPDATES):
            logits = self._logits(self._now, batch.observations)
            step_loss = loss(logits, start, batch, config.clip, config.kl)
            checked_step(self._optimizer, self._learned, [step_loss], "an update", KEPT)

    def export(self, folder: Path) -> None:
        """Write the current head."""
        self.head.save(folder)

    def entry(self, folder: Path) -> dict[str, Any]:
        """The switcher's entry for a team file in `folder`, the folder of the export."""
        return {"kind": "head", "path": "."}

    def save(self, folder: Path) -> None:
        """Write the head and the optimizer's state."""
        import torch

        self.export(folder)
        torch.save(self._optimizer.state_dict(), folder / STATE)

    def restore(self, folder: Path) -> None:
        """Continue from what `save` wrote."""
        import torch

        saved = Head.load(str(folder))
        with torch.no_grad():
            self._bias.copy_(saved.bias)
            for name, scale in self._scales.items():
                scale.weight.copy_(saved.scales[name].weight)
        self._optimizer.load_state_dict(torch.load(folder / STATE, weights_only=True))

    @staticmethod
    def _logits(head: Head, views: Sequence[View]) -> Tensor:
        """The logits `[decisions, candidates]`, with one matrix product per reader."""
        import torch

        rows: list[Any] = [head.bias[view.last] for view in views]
        for name, scale in head.scales.items():
            mine = [
                index
                for index, view in enumerate(views)
                if view.states is not None and head.config.candidates[view.reader] == name
            ]
            if mine:
                states = torch.stack([views[index].states for index in mine])  # type: ignore[misc]
                logits = (states - scale.mean) / scale.deviation @ scale.weight.T
                for index, row in zip(mine, logits, strict=True):
                    rows[index] = rows[index] + row
        return torch.stack(rows)


class HeadActor:
    """A team with a head as its switcher, on a shared engine."""

    def __init__(self, team: TeamConfig, engine: Engine, head: Head) -> None:
        self._team = team
        self._engine = engine
        self._head = head

    async def answer(
        self, query: Query, seed: int, policy: Policy
    ) -> tuple[Trace, tuple[SwitchDecision, ...]]:
        """One answer and its decisions: the patches whose speaker the switcher selected, without
        opening and closing speakers and fallbacks."""
        views: list[View] = []
        switcher = HeadSwitcher(self._head, views.append)
        team = Team(self._team.candidates, self._engine, switcher, policy, self._team.judge)
        trace = await team.agenerate(query, seed=seed, policy=policy)
        chosen = [patch for patch in trace.patches if patch.probabilities is not None]
        if trace.error is not None:
            return trace, ()
        return trace, tuple(
            SwitchDecision(view, patch.speaker, log(patch.probabilities[patch.speaker]))
            for view, patch in zip(views, chosen, strict=True)
            if patch.reason == "chosen" and patch.speaker is not None and patch.probabilities
        )
