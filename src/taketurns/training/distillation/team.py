"""The team file of a distillation: the team with the student, for the next round."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from taketurns.config.team_config import SwitcherConfig, TeamConfig
from taketurns.config.team_file import spec_entry, team_yaml
from taketurns.switchers.head import load_config
from taketurns.training.distillation.student import Student
from taketurns.types import ModelSpec
from taketurns.utils.files import write_text


def write_team(
    team: TeamConfig,
    student: Student,
    spec: ModelSpec,
    output: Path,
    say: Callable[[str], None],
) -> None:
    """Write the team file into `output`: the team with the student, which is loaded from `spec`, in
    the place of the aligned checkpoint. `say` receives messages for the user. Raises DataError."""
    if team.engine.kind != "local":
        say(
            "no team file is written, because the team's models run on servers: serve the student, "
            "then write a team file with its server"
        )
        return
    candidates = list(team.candidates)
    replaced = candidates[student.aligned]
    candidates[student.aligned] = replace(replaced, spec=spec)
    switcher, policy = team.switcher, team.policy
    if _reads_states_of(replaced.name, switcher):
        say(
            f"the switcher was trained on hidden states of {replaced.name}, not of the student: "
            f"the team in {output} has a random switcher until one is trained for it"
        )
        switcher, policy = SwitcherConfig(), policy.unfollowed
    entry = _entry(switcher, [candidate.name for candidate in candidates], output)
    new = replace(team, candidates=tuple(candidates), policy=policy)
    write_text(output / "team.yaml", team_yaml(new, entry, output, "distill"))


def _reads_states_of(name: str, switcher: SwitcherConfig) -> bool:
    """Whether the switcher has a head, folded or not, or a judge that reads this candidate's
    states."""
    if switcher.kind == "mentorcollab" and switcher.path is not None:
        return name in load_config(switcher.path, "judge").readers
    if switcher.kind in ("head", "deferral"):
        return name in load_config(switcher.path or "").readers
    return switcher.kind == "folded"


def _entry(switcher: SwitcherConfig, names: Sequence[str], folder: Path) -> dict[str, Any]:
    """The switcher's entry in the team file; empty for a random one, which is the default."""
    if switcher.kind == "random":
        return {}
    if switcher.kind == "fixed":
        return {"kind": "fixed", "sequence": [names[index] for index in switcher.sequence]}
    if switcher.kind == "head":
        return {"kind": "head", "path": switcher.path}
    if switcher.pair is not None:
        settings: dict[str, Any] = asdict(switcher.pair)
        if "base" in settings:
            settings["base"] = names[settings["base"]]
        if "content" in settings:
            settings["content"] = list(settings["content"])
        where = {} if switcher.path is None else {"path": switcher.path}
        return {"kind": switcher.kind, **where, **settings}
    if switcher.kind not in ("lm", "fusionroute"):
        return {"kind": switcher.kind, **switcher.settings}
    assert switcher.spec is not None
    entry = {"kind": switcher.kind, **spec_entry(switcher.spec, folder)}
    if switcher.path is not None:
        entry["path"] = switcher.path
    if switcher.candidates:
        entry["candidates"] = list(switcher.candidates)
    return entry | ({"chat_template": True} if switcher.chat_template else {})
