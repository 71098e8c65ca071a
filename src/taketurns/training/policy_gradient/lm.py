"""A language model as the policy: all its weights are trained if it is small, else its adapter.

For each step an engine loads the current switcher, and the other models again with it, so decisions
are made by the code that inference uses.
"""

from __future__ import annotations

import copy
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from math import log
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taketurns.config.policy import Policy
from taketurns.config.team_config import TeamConfig
from taketurns.config.team_file import spec_entry
from taketurns.engines.local.adapters import put_on
from taketurns.engines.local.engine import LocalEngine
from taketurns.engines.local.library_logging import quiet
from taketurns.engines.local.loading import choose_device
from taketurns.errors import ConfigError
from taketurns.generation.team import SWITCHER, Team
from taketurns.switchers import candidate_order
from taketurns.switchers.lm import LMSwitcher
from taketurns.training.divergence import checked_step
from taketurns.training.models import load_trainable, size
from taketurns.training.objective import left_padded
from taketurns.training.policy_gradient.objective import KEPT, Batch, loss
from taketurns.training.policy_gradient.sampling import Actor, SwitchDecision
from taketurns.training.policy_gradient.settings import PolicyGradientConfig
from taketurns.training.settings import SMALL
from taketurns.types import ModelSpec, Query, Trace

if TYPE_CHECKING:
    from torch import Tensor

STATE = "learner.pt"
UPDATES, WHOLE_RATE, ADAPTER_RATE = 1, 5e-5, 2e-5
TOKENS_AT_ONCE = 8192  # prompt tokens in one forward
LEARNS, STARTED = "default", "start"  # the names of the trained adapter and of the start's


class LMLearner:
    """Trains the team's own language-model switcher. Raises ConfigError for a large one without an
    adapter."""

    def __init__(self, team: TeamConfig, learning_rate: float | None) -> None:
        import torch

        spec = team.switcher.spec
        assert spec is not None, "a switcher of kind lm has a model"
        self._team = team
        self._spec = spec
        names = tuple(candidate.name for candidate in team.candidates)
        self._numbered = candidate_order.resolve(team.switcher) or names
        self._engine: LocalEngine | None = None
        self._now = Path(tempfile.mkdtemp(prefix="taketurns-"))
        self._digits: Sequence[int] = ()
        with quiet():
            model, self._tokenizer = load_trainable(replace(spec, adapter=None), lora=None)
        if spec.device_map is None and spec.quantization_config is None:
            model.to(choose_device(spec.device))
        self._start: Any = None
        if spec.adapter is not None:
            model = put_on(model, spec.adapter, STARTED)
            put_on(model.get_base_model(), spec.adapter, LEARNS, model, trainable=True)
            model.set_adapter(LEARNS)
        elif (count := size(model)) < SMALL:
            self._start = copy.deepcopy(model).requires_grad_(False)
        else:
            raise ConfigError(
                f"the switcher {spec.model} has {count:,} weights and no adapter: policy gradient "
                "trains an adapter, or all weights of a model with less than 20 million; train the "
                "switcher from labels with --lora first"
            )
        self._model = model.eval()  # without dropout: the trained model is the one that decided
        rate = learning_rate or (WHOLE_RATE if spec.adapter is None else ADAPTER_RATE)
        self._optimizer = torch.optim.AdamW(self._learned().values(), lr=rate, weight_decay=0.0)

    async def actor(self) -> Actor:
        """The team with the current model as its switcher."""
        await self._release()
        self.export(self._now)
        specs = {model.name: model.spec for model in self._team.writers_and_judge}
        tuned = self._tuned(self._now)
        self._engine = LocalEngine.configured(specs | {SWITCHER: tuned}, self._team.engine)
        switcher = LMSwitcher(
            SWITCHER,
            chat_template=self._team.switcher.chat_template,
            candidates=self._numbered,
        )
        team = Team(
            self._team.candidates, self._engine, switcher, self._team.policy, self._team.judge
        )
        await team.prepare()
        self._digits = switcher.digits
        return LMActor(team, switcher)

    async def close(self) -> None:
        """Release the models."""
        await self._release()
        shutil.rmtree(self._now, ignore_errors=True)

    def learn(self, batch: Batch, config: PolicyGradientConfig) -> None:
        """Update the model on one batch of decisions, in portions. Raises NotANumberError if it
        diverges."""
        rows = list(_portions([len(prompt) for prompt in batch.observations]))
        for _ in range(config.updates or UPDATES):
            losses = (self._share_of_loss(batch, first, last, config) for first, last in rows)
            checked_step(self._optimizer, self._learned().values(), losses, "an update", KEPT)

    def export(self, folder: Path) -> None:
        """Write the current model or adapter, with its tokenizer and the candidates in the order of
        their numbers."""
        only = {} if self._start is not None else {"selected_adapters": [LEARNS]}
        with quiet():  # a progress bar for every step would hide the run's own
            self._model.save_pretrained(folder, **only)
            self._tokenizer.save_pretrained(folder)
        candidate_order.save(self._numbered, folder)

    def entry(self, folder: Path) -> dict[str, Any]:
        """The switcher's entry for a team file in `folder`, the folder of the export."""
        chat = {"chat_template": True} if self._team.switcher.chat_template else {}
        return {"kind": "lm", **spec_entry(self._tuned(folder.resolve()), folder), **chat}

    def save(self, folder: Path) -> None:
        """Write the trained weights and the optimizer's state."""
        import torch

        weights = {name: weight.detach() for name, weight in self._learned().items()}
        state = {"weights": weights, "optimizer": self._optimizer.state_dict()}
        torch.save(state, folder / STATE)

    def restore(self, folder: Path) -> None:
        """Continue from what `save` wrote."""
        import torch

        state = torch.load(folder / STATE, weights_only=True)
        with torch.no_grad():
            for name, weight in self._learned().items():
                weight.copy_(state["weights"][name])
        self._optimizer.load_state_dict(state["optimizer"])

    def _share_of_loss(
        self, batch: Batch, first: int, last: int, config: PolicyGradientConfig
    ) -> Tensor:
        """The contribution of decisions `first` to `last` to the batch's mean loss."""
        part = batch.rows(first, last)
        logits, start = (
            self._logits(self._model, part.observations),
            self._start_logits(part.observations),
        )
        share = (last - first) / len(batch)
        return share * loss(logits, start, part, config.clip, config.kl)

    def _learned(self) -> dict[str, Tensor]:
        named = self._model.named_parameters()
        return {name: weight for name, weight in named if weight.requires_grad}

    def _tuned(self, folder: Path) -> ModelSpec:
        where = str(folder)
        if self._start is None:
            return replace(self._spec, adapter=where)
        return self._spec.with_model(where)

    def _start_logits(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        import torch

        with torch.no_grad():
            if self._start is not None:
                return self._logits(self._start, prompts)
            self._model.set_adapter(STARTED)
            try:
                return self._logits(self._model, prompts)
            finally:
                self._model.set_adapter(LEARNS)

    def _logits(self, model: Any, prompts: Sequence[Sequence[int]]) -> Tensor:
        """The logits of the candidates' numbers after each prompt, `[decisions, candidates]`."""
        batch = {name: t.to(model.device) for name, t in left_padded(prompts, 0).items()}
        out = model(**batch, use_cache=False, logits_to_keep=1)
        digits: Tensor = out.logits[:, -1, list(self._digits)].float().cpu()
        return digits

    async def _release(self) -> None:
        if self._engine is not None:
            await self._engine.close()
            self._engine = None


class LMActor:
    """A team with a language model as its switcher."""

    def __init__(self, team: Team, switcher: LMSwitcher) -> None:
        self._team = team
        self._switcher = switcher

    async def answer(
        self, query: Query, seed: int, policy: Policy
    ) -> tuple[Trace, tuple[SwitchDecision, ...]]:
        """One answer and its decisions; each decision's prompt follows from the patches before."""
        trace = await self._team.agenerate(query, seed=seed, policy=policy)
        tagged = self._switcher.tagged(query)
        return trace, tuple(
            SwitchDecision(
                tuple(tagged.prompt(trace.patches[:place])),
                patch.speaker,
                log(patch.probabilities[patch.speaker]),
            )
            for place, patch in enumerate(trace.patches)
            if patch.reason == "chosen" and patch.speaker is not None and patch.probabilities
        )


def _portions(lengths: Sequence[int]) -> Sequence[tuple[int, int]]:
    """Ranges of rows whose padded prompts have at most `TOKENS_AT_ONCE` tokens."""
    portions, first, longest = [], 0, 0
    for row, length in enumerate(lengths):
        longest = max(longest, length)
        if row > first and longest * (row - first + 1) > TOKENS_AT_ONCE:
            portions.append((first, row))
            first, longest = row, length
    return [*portions, (first, len(lengths))]
