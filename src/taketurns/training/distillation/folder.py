"""The folder a distillation writes: its own from the first moment, whole at the last.

`answers.jsonl` is what the team wrote, `kept.jsonl` what is learned of it, `student/` the model
with its card, `evaluation/` what student, aligned checkpoint and team answered, `team.yaml` the
team with the student in it. `work/` is what a killed run goes on from; `metrics.json` is last.
Answers of the team and the aligned checkpoint may be kept elsewhere, for several students.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from taketurns.errors import DataError
from taketurns.runs.manifest import Manifest, path_for
from taketurns.runs.records import to_line
from taketurns.training.distillation.comparison import ALIGNED, STUDENT, TEAM
from taketurns.training.distillation.sampling import TeamAnswer
from taketurns.training.folder import read_metrics, write_metrics
from taketurns.utils.files import entries, write_whole
from taketurns.utils.locks import alone

SCHEMA = "taketurns.student/1"


class DistillationFolder:
    """`path` as the output of the run that `manifest` describes. The team's and the aligned
    checkpoint's answers are in `shared`, if there is one."""

    def __init__(self, path: Path, manifest: Manifest, shared: Path | None = None) -> None:
        self.path = path
        self._shared = shared or path
        self.answers = self._shared / "answers.jsonl"
        self.student = path / "student"
        self.work = path / "work"
        self._kept = path / "kept.jsonl"
        self._metrics = path / "metrics.json"
        self._manifest = manifest

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Make the folder this run's and hold it against other processes. Raises DataError if it
        holds something else, or another process is writing it."""
        if self.path.exists() and not self.path.is_dir():
            raise DataError(f"{self.path} is a file; name a folder for the student")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            names = entries(self.path)
            self._shared.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"cannot write to {self.path}: {error.strerror}") from error
        # The manifest is the first thing that a run writes here.
        if names and path_for(self._kept).name not in names:
            raise DataError(f"{self.path} holds other files already; choose another output")
        with alone(self._kept):
            self._manifest = self._manifest.claim(self._kept)
            if self.metrics is None:
                self.work.mkdir(exist_ok=True)
            yield

    def compared(self) -> dict[str, Path]:
        """Where each method's answers to the comparison's questions are."""
        files = {
            STUDENT: self.path / "evaluation" / "student.jsonl",
            ALIGNED: self._shared / "evaluation" / "aligned.jsonl",
            TEAM: self._shared / "evaluation" / "team.jsonl",
        }
        for file in files.values():
            file.parent.mkdir(exist_ok=True)
        return files

    def write_kept(self, answers: Sequence[TeamAnswer]) -> None:
        """What is learned, a line an answer, for the reader."""
        records = (
            {"id": x.id, "task": x.task, "utility": x.utility, "text": x.trace.text}
            for x in answers
        )
        write_whole(self._kept, map(to_line, records))

    @property
    def metrics(self) -> Mapping[str, Any] | None:
        """What a finished run measured; None while it is not finished."""
        return read_metrics(self._metrics)

    def finish(self, metrics: Mapping[str, Any]) -> None:
        """Everything else is written: say so, and drop what only a killed run needs."""
        write_metrics(self._metrics, {**metrics, "schema": SCHEMA})
        self._manifest.finish(self._kept)
        shutil.rmtree(self.work, ignore_errors=True)
