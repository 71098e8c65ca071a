"""The output folder of a distillation.

`answers.jsonl` has the team's answers, `kept.jsonl` those that the student is trained on,
`student/` the model with its card, `evaluation/` the answers of student, aligned checkpoint and
team, `team.yaml` the team with the student in it. A killed run continues from `work/`;
`metrics.json` is written last. The answers of the team and of the aligned checkpoint may be in
another folder, which several students share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from taketurns.runs.folder import RunFolder
from taketurns.runs.manifest import Manifest
from taketurns.runs.records import encode_record
from taketurns.training.distillation.comparison import ALIGNED, STUDENT, TEAM
from taketurns.training.distillation.sampling import TeamAnswer
from taketurns.utils.files import make_folder, write_bytes

SCHEMA = "taketurns.student/1"


class DistillationFolder(RunFolder):
    """`path` as the output of the run that `manifest` describes. The answers of the team and of the
    aligned checkpoint are in `shared` (None: in `path`)."""

    def __init__(self, path: Path, manifest: Manifest, shared: Path | None = None) -> None:
        super().__init__(path, manifest, first="kept.jsonl", work="work", purpose="the student")
        self._shared = shared or path
        self.answers = self._shared / "answers.jsonl"
        self.student = path / "student"

    @contextmanager
    def open(self, write_first: Callable[[Path], None] | None = None) -> Iterator[None]:
        with super().open(write_first):
            make_folder(self._shared)
            yield

    def compared(self) -> dict[str, Path]:
        """The file with each method's answers to the comparison's questions."""
        files = {
            STUDENT: self.path / "evaluation" / "student.jsonl",
            ALIGNED: self._shared / "evaluation" / "aligned.jsonl",
            TEAM: self._shared / "evaluation" / "team.jsonl",
        }
        for file in files.values():
            file.parent.mkdir(exist_ok=True)
        return files

    def write_kept(self, answers: Sequence[TeamAnswer]) -> None:
        """Write one line per answer that the student is trained on. Raises OSError."""
        records = (
            {"id": x.id, "task": x.task, "utility": x.utility, "text": x.trace.text}
            for x in answers
        )
        write_bytes(self.first, map(encode_record, records))

    def finish(self, metrics: Mapping[str, Any]) -> None:
        super().finish({**metrics, "schema": SCHEMA})
