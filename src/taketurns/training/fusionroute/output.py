"""What both stages of a router share: its settings, and the files of its folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taketurns.config.team_config import TeamConfig
from taketurns.config.team_file import spec_entry, team_yaml
from taketurns.runs.folder import RunFolder
from taketurns.training import SWITCHER_SCHEMA
from taketurns.training.card import SWITCHER, write_card
from taketurns.training.settings import FineTuningConfig
from taketurns.training.supervised.settings import LMSettings, Selection, TrainingConfig
from taketurns.types import ModelSpec
from taketurns.utils.files import write_text

if TYPE_CHECKING:
    from taketurns.switchers.routing_head import RoutingHead


@dataclass(frozen=True, slots=True)
class RouterSettings:
    """The model that the router starts from, and how its weights are trained; `validation` is the
    share of the texts that chooses the epochs. Raises UsageError for a value out of range."""

    model: LMSettings = field(default_factory=LMSettings)
    validation: float = 0.15

    def __post_init__(self) -> None:
        Selection(validation=self.validation)  # which checks the share

    def fine_tuning(self, training: TrainingConfig) -> FineTuningConfig:
        """These settings as `fine_tune` takes them."""
        return FineTuningConfig(
            training.epochs,
            training.learning_rate,
            training.batch_size,
            training.weight_decay,
            training.seed,
            self.model.lora,
            self.model.rank,
            self.model.report_to,
        )


def trained_spec(start: ModelSpec, folder: Path, *, lora: bool) -> ModelSpec:
    """The router whose weights are in `folder`, trained from `start`."""
    where = str(folder.resolve())
    return replace(start, adapter=where) if lora else start.with_model(where)


def start_name(start: ModelSpec) -> str:
    """The base of a router as its card names it: a hub id, or the name of a folder."""
    return Path(start.model).name if Path(start.model).exists() else start.model


def write_router(
    folder: RunFolder,
    team: TeamConfig,
    start: ModelSpec,
    router: ModelSpec,
    head: RoutingHead,
    card: str,
    metrics: Mapping[str, Any],
) -> None:
    """Write the head, the card of the template `card`, the team file and, last, the metrics beside
    the weights of a router that was trained from `start`."""
    path = folder.path
    head.save(path)
    local = Path(start.model).exists()
    write_card(path, card, metrics, SWITCHER, None if local else start.model)
    # The switcher ends each patch after a token, so only their greatest length is left.
    policy = replace(
        team.policy, patch=None, patch_size=team.policy.max_tokens, greedy_switcher=True
    )
    entry = {"kind": "fusionroute", **spec_entry(router, path), "path": "."}
    write_text(path / "team.yaml", team_yaml(replace(team, policy=policy), entry, path))
    folder.finish({"schema": SWITCHER_SCHEMA, **metrics})
