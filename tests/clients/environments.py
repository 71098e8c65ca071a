"""Runs clients in their environments, and keeps what came of it."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from .recorder import Exchange, Recorder

PROGRAMS = Path(__file__).with_name("programs")
TRIES = 5
TIMEOUT = 900  # seconds that a client may take; real models on a processor are slow
_QUIET = {
    "HF_DATASETS_OFFLINE": "1",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "AGNO_TELEMETRY": "false",
    "AI_SDK_LOG_WARNINGS": "false",
    "PROMPTFOO_DISABLE_TELEMETRY": "1",
    "PROMPTFOO_DISABLE_UPDATE": "1",
}


@dataclass(frozen=True)
class Outcome:
    """What came of asking: the `output` of the client, whether it `failed`, the `result` of a
    program, and the requests that were sent meanwhile."""

    failed: bool
    output: str
    exchanges: list[Exchange]
    result: Any = None

    @property
    def refusals(self) -> list[str]:
        return [refusal for exchange in self.exchanges if (refusal := exchange.refusal)]

    @property
    def answers(self) -> list[Exchange]:
        return [exchange for exchange in self.exchanges if exchange.is_answer]

    @property
    def last_line(self) -> str:
        """Of the output: where a client failed, its error."""
        return next((line for line in reversed(self.output.splitlines()) if line.strip()), "")


@dataclass(frozen=True)
class Environments:
    """The environments of clients, one a client, in `folder`. They ask the server at `url`, and
    what came of it is in `outcomes`."""

    folder: Path
    url: str
    recorder: Recorder
    outcomes: list[Outcome] = field(default_factory=list)
    _running: dict[tuple[str, ...], subprocess.Popen[str]] = field(default_factory=dict)

    def command(self, client: str, name: str) -> str:
        """A command of a client, as pip or npm put it there. Without it the test is skipped."""
        home = self.folder / client
        for found in (home / "bin" / name, home / "node_modules" / ".bin" / name):
            if found.exists():
                return str(found)
        pytest.skip(f"{client} has no {name} in {self.folder}: `make test-clients` installs it")

    def run(self, command: Sequence[str | Path], cwd: Path | None = None, **more: str) -> Outcome:
        """Run a command to its end, with `more` in its environment."""
        before = len(self.recorder.exchanges)
        done = subprocess.run(
            [str(part) for part in command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=cwd,
            env=self._environment(more),
            timeout=TIMEOUT,
            check=False,
        )
        return self._kept(
            Outcome(done.returncode != 0, done.stdout, self.recorder.exchanges[before:])
        )

    def ask(self, client: str, program: str, mode: str, **more: str) -> Outcome:
        """Have a program beside this file ask in one of its ways. It goes on running. Models with
        random weights may reach their budget before an object is whole; then it asks again."""
        for _ in range(TRIES):
            outcome = self._asked(client, program, mode, more)
            if not (outcome.failed and any(one.finish == "length" for one in outcome.answers)):
                break
        return outcome

    def _asked(self, client: str, program: str, mode: str, more: dict[str, str]) -> Outcome:
        process = self._program(client, program, more)
        assert process.stdin is not None
        assert process.stdout is not None
        before = len(self.recorder.exchanges)
        process.stdin.write(f"{mode}\n")
        process.stdin.flush()
        timer = threading.Timer(TIMEOUT, process.kill)
        timer.start()
        output, report = "", {"error": "it ended"}
        for line in process.stdout:
            if line.startswith("REPORT "):
                report = json.loads(line.removeprefix("REPORT "))
                break
            output += line
        timer.cancel()
        exchanges = self.recorder.exchanges[before:]
        output += report.get("error", "")
        return self._kept(Outcome("error" in report, output, exchanges, report.get("result")))

    def close(self) -> None:
        """End the programs."""
        for process in self._running.values():
            self._close(process)

    @staticmethod
    def _close(process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        with process:  # closes its pipes and waits
            process.stdin.close()

    def _kept(self, outcome: Outcome) -> Outcome:
        self.outcomes.append(outcome)
        return outcome

    def _program(self, client: str, program: str, more: dict[str, str]) -> subprocess.Popen[str]:
        key = (client, program, *more.values())
        if (ended := self._running.get(key)) is not None and ended.poll() is not None:
            self._close(self._running.pop(key))
        if key not in self._running:
            runner = "node" if program.endswith(".mjs") else "python"
            self._running[key] = subprocess.Popen(
                [self.command(client, runner), str(self._source(client, program))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env=self._environment(more),
            )
        return self._running[key]

    def _source(self, client: str, program: str) -> Path:
        """A program. node finds packages in the folders above a program alone."""
        if not program.endswith(".mjs"):
            return PROGRAMS / program
        for name in (program, "shared.mjs"):
            (self.folder / client / name).write_bytes((PROGRAMS / name).read_bytes())
        return self.folder / client / program

    def _environment(self, more: dict[str, str]) -> dict[str, str]:
        # Where the hub is offline, huggingface_hub's client asks no server at all, be it one's own.
        ours = ("PYTHONPATH", "HF_HUB_OFFLINE")
        inherited = {key: value for key, value in os.environ.items() if key not in ours}
        where = {"CLIENT_URL": f"{self.url}/v1", "CLIENT_MODEL": "team"}
        return {**inherited, **_QUIET, **where, **more}
