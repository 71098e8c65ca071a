"""A head for each coalition of a pool's candidates, from the labels of the whole pool.

A label has the utilities of all branches, so it also gives the best candidate of a coalition. Its
prefix and rollouts may contain patches of candidates outside the coalition: a limit of this
shortcut. Prefixes whose last speaker is outside the coalition are left out, since a team of the
coalition never meets them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from taketurns.config.team_config import TeamConfig
from taketurns.errors import UsageError
from taketurns.evaluation.interventions.shapley import Coalition
from taketurns.runs.progress import Progress
from taketurns.switchers.base import last_speaker
from taketurns.switchers.head import CONFIG
from taketurns.training.labels.labels import Label, read_labels
from taketurns.training.supervised import head, states
from taketurns.training.supervised.examples import select
from taketurns.training.supervised.settings import HeadSettings, Selection, TrainingConfig
from taketurns.utils.files import atomic_folder
from taketurns.utils.locks import lock_when_free


def retrain(
    team: TeamConfig, labels: Path, coalitions: Sequence[Coalition], folder: Path
) -> Mapping[Coalition, Path]:
    """The folder of a head for each coalition of at least two candidates; existing heads are kept.

    Raises DataError for labels of another pool, or if no label has a signal for a coalition;
    ConfigError or UsageError if the engine gives no hidden states.
    """
    if team.engine.kind != "local":
        raise UsageError(
            "heads are retrained on hidden states, which need engine.kind local, and this team has "
            f"engine.kind {team.engine.kind}: leave out --labels, or change the team file"
        )
    names = [candidate.name for candidate in team.candidates]
    read = list(read_labels(labels, names))
    mine = folder / sha256(labels.read_bytes()).hexdigest()[:12]
    wanted = {
        coalition: mine / "-".join(map(str, sorted(coalition)))
        for coalition in coalitions
        if len(coalition) > 1
    }
    if all((path / CONFIG).is_file() for path in wanted.values()):
        return wanted
    mine.mkdir(parents=True, exist_ok=True)
    with lock_when_free(mine / "heads"):
        _retrain(team, names, read, mine, wanted)
    return wanted


def _retrain(
    team: TeamConfig,
    names: Sequence[str],
    read: Sequence[Label],
    mine: Path,
    wanted: Mapping[Coalition, Path],
) -> None:
    """Write the wanted heads that do not exist."""
    if all((path / CONFIG).is_file() for path in wanted.values()):
        return  # another process has written them
    config = head.head_config(team, HeadSettings())
    with Progress("reading states", len(read)) as progress:
        views = asyncio.run(states.read_states(team, config, read, mine, progress.advance))
    seen = dict(zip((label.id for label in read), views, strict=True))
    training = TrainingConfig(seed=team.policy.seed)
    with Progress("retraining", len(wanted)) as progress:
        for coalition, path in wanted.items():
            progress.advance()
            if (path / CONFIG).is_file():
                continue
            examples = select(restrict_labels(read, coalition), names, Selection(), training.seed)
            every = [*examples.train, *examples.validation]
            fitted = head.fit(
                config,
                [seen[example.label.id] for example in every],
                examples.train,
                examples.validation,
                training,
            )
            with atomic_folder(path) as draft:
                fitted.head.save(draft)


def restrict_labels(labels: Sequence[Label], coalition: Collection[int]) -> list[Label]:
    """The labels restricted to some of the candidates: the utilities of the others become
    unknown."""
    restricted = []
    for label in labels:
        last = last_speaker(label.prefix)
        utilities = tuple(u if i in coalition else None for i, u in enumerate(label.utilities))
        absent = last is not None and last not in coalition
        if absent or not any(utility is not None for utility in utilities):
            continue
        best = tuple(index for index in label.reported_best or () if index in coalition)
        restricted.append(replace(label, utilities=utilities, reported_best=best or None))
    return restricted
