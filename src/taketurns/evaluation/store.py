"""The folder of an evaluation.

`answers/METHOD.jsonl` has a record an answer, `dev/NAME.jsonl` the dev answers that methods chose
by, each with a manifest beside it; `chosen/METHOD.json` says what was chosen, `models/` has merged
checkpoints, `shards/METHOD/` what Ray answered, before it stands beside the other answers.
`results.json`, `report.html`, `report.md` and `figures/` are made from them. Answers can be added
to: more methods, questions, seeds or tasks go into the same folder. What a method chose, and what
it answered then, is kept by the dev questions that it chose by, as `METHOD@DIGEST`.
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
"""Of the folder and of `results.json` in it."""
SWITCHERS = "trained switchers"
"""The part of a manifest that has a switcher for each task."""
TEAM_INPUTS = ("candidates", "switcher", "policy", "engine")
"""What of a team decides its answers."""


class Store:
    """`folder` for the answers of the team `config` to `tasks`."""

    def __init__(self, folder: Path, config: TeamConfig, tasks: Iterable[Task] = ()) -> None:
        self.folder = folder
        self._config = config
        self._manifest = describe_run("evaluate", config, b"")
        self._parts = own_parts(tasks, by_version=True)
        claim_folder(folder, "the results", {"answers"}, ("answers", "dev", "chosen"))

    @property
    def models(self) -> Path:
        """Where merged checkpoints go."""
        return self.folder / "models"

    def answers(self, method: str, dev: str | None = None) -> Path:
        """`dev` is a digest of the questions that the method chose by, if it chose anything."""
        return self.folder / "answers" / f"{_file(method, dev)}.jsonl"

    def shards(self, method: str) -> Path:
        """The folder of what Ray answered."""
        return self.folder / "shards" / _file(method)

    def dev(self, name: str) -> Path:
        return self.folder / "dev" / f"{_file(name)}.jsonl"

    def choice(self, method: str, dev: str | None) -> Path:
        return self.folder / "chosen" / f"{_file(method, dev)}.json"

    def begin(self, clock: Clock) -> None:
        """Make the folder this version's, with seconds by this clock. Raises DataError where it has
        answers of an older one, or by the other clock."""
        path, mine = self.folder / "folder.json", {"schema": SCHEMA, "clock": clock}
        known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        if known != mine and any((self.folder / "answers").glob("*.jsonl")):
            raise DataError(
                f"{self.folder} has seconds by the {known['clock']} clock: go on with --clock "
                f"{known['clock']}, or choose another output"
                if known.get("schema") == SCHEMA
                else f"{self.folder} has answers of an older taketurns, which kept them by other "
                "rules; choose another output"
            )
        write_json(path, mine)

    def about(self) -> dict[str, Any]:
        """The team, its models' contents, and versions, as they stand in every manifest."""
        return dict(self._manifest.about)

    def claim(
        self,
        path: Path,
        switchers: Mapping[str, SwitcherConfig],
        dev: str | None,
        method: Mapping[str, Any] | None = None,
    ) -> Manifest:
        """Make a file of answers this team's, or raise DataError if it is another's. `switchers`
        decide them beside the team's own, those of other tasks other answers in it, and `dev` is a
        digest of the questions that the method chose by. `method` describes one of the user's
        own."""
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
        """Write down what a method chose on dev."""
        write_json(self.choice(method, dev), chosen)

    def chosen(self, method: str, dev: str | None) -> Mapping[str, Any]:
        """What a method chose on dev; nothing if it chooses nothing."""
        path = self.choice(method, dev)
        if not path.exists():
            return {}
        record: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return record

    def _switcher(self, config: SwitcherConfig) -> Any:
        team = replace(self._config, switcher=config)
        return describe_run("evaluate", team, b"").inputs["switcher"]


def records(path: Path) -> Iterator[Mapping[str, Any]]:
    """The whole records of a file of answers, each once, failures among them."""
    if path.exists():
        with path.open("rb") as file:
            lines = (line for line in file if line.endswith(b"\n"))
            yield from without_repeats(decode_records(lines, str(path)))


def whole_records(path: Path) -> list[dict[str, Any]]:
    """The answers of a file that are there, without failures."""
    return [dict(record) for record in records(path) if not failed(record)]


def _file(name: str, dev: str | None = None) -> str:
    """A file's name for a method's and the dev questions': equal only for equal ones."""
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", name)
    safe = plain if plain == name else f"{plain}-{sha256(name.encode()).hexdigest()[:8]}"
    return safe if dev is None else f"{safe}@{dev[:12]}"
