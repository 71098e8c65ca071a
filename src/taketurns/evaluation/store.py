"""The folder of an evaluation.

`answers/METHOD.jsonl` has one record per answer, `dev/NAME.jsonl` the dev answers on which methods
choose their settings, each with a manifest beside it. `chosen/METHOD.json` has the choices,
`models/` merged checkpoints, `shards/METHOD/` the answers from Ray before they are copied to the
others. `results.json`, `report.html`, `report.md` and `figures/` are made from them. More methods,
questions, seeds or tasks can be added in the same folder. A method that chooses on dev has its
choices and answers stored as `METHOD@DIGEST`, by the digest of its dev questions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from taketurns.config.team_config import SwitcherConfig, TeamConfig
from taketurns.errors import DataError
from taketurns.evaluation.stopwatch import Clock
from taketurns.runs.description import describe_run
from taketurns.runs.folder import claim_folder
from taketurns.runs.manifest import Manifest
from taketurns.runs.output import failed, without_repeats
from taketurns.runs.records import decode_records
from taketurns.tasks.base import Task
from taketurns.tasks.own_parts import own_parts
from taketurns.utils.json_files import write_json

SCHEMA = "taketurns.evaluation/2"
"""The schema of the folder and of `results.json` in it."""
SWITCHERS = "trained switchers"
"""The key of a manifest under which each task has its switcher."""
TEAM_INPUTS = ("candidates", "switcher", "policy", "engine")
"""The inputs of a manifest by which a team decides its answers."""


class Store:
    """The `folder` with the answers of the team `config` to `tasks`."""

    def __init__(self, folder: Path, config: TeamConfig, tasks: Iterable[Task] = ()) -> None:
        self.folder = folder
        self._config = config
        self._manifest = describe_run("evaluate", config, b"")
        self._parts = own_parts(tasks, by_version=True)
        claim_folder(folder, "the results", {"answers"}, ("answers", "dev", "chosen"))

    @property
    def models(self) -> Path:
        """The folder of merged checkpoints."""
        return self.folder / "models"

    def answers(self, method: str, dev: str | None = None) -> Path:
        """The file of a method's answers; `dev` is the digest of the dev questions that it chose
        on, if it chose anything."""
        return self.folder / "answers" / f"{_file(method, dev)}.jsonl"

    def shards(self, method: str) -> Path:
        """The folder of a method's answers from Ray."""
        return self.folder / "shards" / _file(method)

    def dev(self, name: str) -> Path:
        return self.folder / "dev" / f"{_file(name)}.jsonl"

    def choice(self, method: str, dev: str | None) -> Path:
        return self.folder / "chosen" / f"{_file(method, dev)}.json"

    def begin(self, clock: Clock) -> None:
        """Mark the folder with this version's schema and with the clock of its seconds. Raises
        DataError if it has answers of an older version, or measured with the other clock."""
        path, mine = self.folder / "folder.json", {"schema": SCHEMA, "clock": clock}
        known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        if known != mine and any((self.folder / "answers").glob("*.jsonl")):
            raise DataError(
                f"{self.folder} has seconds measured with the {known['clock']} clock: continue "
                f"with --clock {known['clock']}, or choose another output"
                if known.get("schema") == SCHEMA
                else f"{self.folder} has answers of an older version of taketurns, which stored "
                "them in another way: choose another output"
            )
        write_json(path, mine)

    def about(self) -> dict[str, Any]:
        """The team, its models' fingerprints, and versions, as every manifest has them."""
        return dict(self._manifest.about)

    def claim(
        self,
        path: Path,
        switchers: Mapping[str, SwitcherConfig],
        dev: str | None,
        method: Mapping[str, Any] | None = None,
    ) -> Manifest:
        """Claim a file of answers for this team, or raise DataError if it holds another team's.
        `switchers` are trained switchers by task that decide the answers; those of further tasks
        can be added later. `dev` is the digest of the dev questions that the method chose on, and
        `method` describes the code of a user's own method."""
        manifest = self._manifest.with_inputs_of(*TEAM_INPUTS).with_inputs(**self._parts)
        if switchers:
            trained = {task: self._switcher(config) for task, config in switchers.items()}
            manifest = manifest.with_inputs(**{SWITCHERS: trained})
        if dev is not None:
            manifest = manifest.with_inputs(**{"dev questions": dev})
        if method is not None:
            manifest = manifest.with_inputs(method=method)
        return manifest.claim(path, SWITCHERS)

    def choose(self, method: str, dev: str | None, chosen: Mapping[str, Any]) -> None:
        """Store the choices of a method on dev."""
        write_json(self.choice(method, dev), chosen)

    def chosen(self, method: str, dev: str | None) -> Mapping[str, Any]:
        """The choices of a method on dev; empty if it chooses nothing."""
        path = self.choice(method, dev)
        if not path.exists():
            return {}
        record: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return record

    def _switcher(self, config: SwitcherConfig) -> Any:
        team = replace(self._config, switcher=config)
        return describe_run("evaluate", team, b"").inputs["switcher"]


def records(path: Path) -> Iterator[Mapping[str, Any]]:
    """The complete records of a file of answers, each once, including failures."""
    if path.exists():
        with path.open("rb") as file:
            lines = (line for line in file if line.endswith(b"\n"))
            yield from without_repeats(decode_records(lines, str(path)))


def whole_records(path: Path) -> list[dict[str, Any]]:
    """The records of a file of answers, without failures."""
    return [dict(record) for record in records(path) if not failed(record)]


def _file(name: str, dev: str | None = None) -> str:
    """A file name from a method's name and the digest of its dev questions; different names give
    different file names."""
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", name)
    safe = plain if plain == name else f"{plain}-{sha256(name.encode()).hexdigest()[:8]}"
    return safe if dev is None else f"{safe}@{dev[:12]}"
