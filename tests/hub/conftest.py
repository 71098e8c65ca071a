"""A Hugging Face hub in this process, and the software in another one that is pointed to it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha1, sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote

import pytest

LARGE = 20_000  # bytes from which a file is kept apart, as the hub keeps weights
GOOD, STRANGER = "hf_good", "hf_stranger"  # tokens of one who has accepted licences, and of another


@dataclass
class Repository:
    """Files by commit, and which commit a branch or tag is. `gated`: read by GOOD alone."""

    commits: dict[str, dict[str, bytes]]
    refs: dict[str, str]
    gated: bool = False


@dataclass
class FakeHub:
    """What the hub answers to those who fetch models: resolve, revision info and trees; headers
    and error codes as huggingface_hub reads them."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)  # method and path
    sent: Counter[str] = field(default_factory=Counter)  # bytes of bodies by file name
    break_after: dict[str, int] = field(default_factory=dict)  # bytes of a file before a cut, once
    always_break: bool = False
    pause: float = 0.0  # seconds after each part of a large file
    down: bool = False
    url: str = ""
    cdn: str = ""  # another host, as far as clients can see

    def add(self, name: str, *folders: Path, gated: bool = False) -> list[str]:
        """A repository with one commit a folder, the last of them main; the commits."""
        commits = {}
        for folder in folders:
            files = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
            commits[sha1(repr((name, sorted(files.items()))).encode()).hexdigest()] = files
        self.repositories[name] = Repository(commits, {"main": list(commits)[-1]}, gated)
        return list(commits)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: FakeHub

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, *arguments: object) -> None:
        """Nothing is said."""

    def _answer(self) -> None:
        if self.hub.down:
            self.close_connection = True
            return None
        path = unquote(self.path.partition("?")[0])
        self.hub.asked.append((self.command, path))
        parts = path.strip("/").split("/")
        if parts[0] == "blobs":
            return self._blob(parts[1])
        api = parts[:2] == ["api", "models"]
        owner, name, *rest = parts[2:] if api else parts
        repository = self.hub.repositories.get(f"{owner}/{name}")
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if token not in ("", GOOD, STRANGER):
            return self._refuse(401, "", "Invalid credentials in Authorization header")
        if repository is None:
            if token:
                return self._refuse(404, "RepoNotFound", "Repository not found")
            return self._refuse(401, "", "Invalid username or password.")
        if repository.gated and token != GOOD and not (api and rest[:1] != ["tree"]):
            if token:
                said = f"Access to model {owner}/{name} is restricted and you are not in the list."
                return self._refuse(403, "GatedRepo", said)
            said = f"Access to model {owner}/{name} is restricted. You must be authenticated."
            return self._refuse(401, "GatedRepo", said)
        revision = rest[1] if len(rest) > 1 else "main"
        commit = repository.refs.get(revision, revision)
        if commit not in repository.commits:
            return self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        files = repository.commits[commit]
        if api and rest[:1] == ["tree"]:
            return self._refuse(404, "EntryNotFound", "Entry not found", commit)
        if api:
            names = [{"rfilename": file} for file in files]
            about = {"id": f"{owner}/{name}", "sha": commit, "siblings": names}
            return self._send(200, json.dumps(about).encode(), {"X-Repo-Commit": commit})
        file = "/".join(rest[2:])
        if file not in files:
            return self._refuse(404, "EntryNotFound", "Entry not found", commit)
        return self._resolve(file, files[file], commit)

    def _resolve(self, name: str, content: bytes, commit: str) -> None:
        kept = {"X-Repo-Commit": commit, "ETag": f'"{sha1(content).hexdigest()}"'}
        if len(content) < LARGE:
            return self._send(200, content, kept, name)
        digest = sha256(content).hexdigest()
        linked = {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(content))}
        place = {"Location": f"{self.hub.cdn}/blobs/{digest}"}
        return self._send(302, b"", {**kept, **linked, **place})

    def _blob(self, digest: str) -> None:
        for repository in self.hub.repositories.values():
            for files in repository.commits.values():
                for name, content in files.items():
                    if sha256(content).hexdigest() == digest:
                        return self._send(200, content, {"ETag": f'"{digest}"'}, name)
        return self._refuse(404, "EntryNotFound", "Entry not found")

    def _refuse(self, status: int, code: str, said: str, commit: str | None = None) -> None:
        headers = {"X-Error-Message": said}
        if code:
            headers["X-Error-Code"] = code
        if commit is not None:
            headers["X-Repo-Commit"] = commit
        self._send(status, b"", headers)

    def _send(
        self, status: int, content: bytes, headers: Mapping[str, str], name: str = ""
    ) -> None:
        if status == 200 and (wanted := self.headers.get("Range")):
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            end = min(int(last) + 1 if last else len(content), len(content))
            headers = {**headers, "Content-Range": f"bytes {first}-{end - 1}/{len(content)}"}
            status, content = 206, content[int(first) : end]
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        limit = self.hub.break_after.get(name)
        if limit is not None and not self.hub.always_break:
            del self.hub.break_after[name]
        part = 4096
        for start in range(0, len(content), part):
            piece = content[start : start + part]
            if limit is not None:
                piece = piece[: max(0, limit - start)]
            self.wfile.write(piece)
            self.hub.sent[name] += len(piece)
            if limit is not None and start + part >= limit:
                self.close_connection = True
                return
            if self.hub.pause and len(content) >= LARGE:
                time.sleep(self.hub.pause)


@pytest.fixture(scope="module")
def hub() -> Iterator[FakeHub]:
    fake = FakeHub()
    handler = type("Handler", (_Handler,), {"hub": fake})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    fake.url = f"http://127.0.0.1:{server.server_address[1]}"
    fake.cdn = fake.url.replace("127.0.0.1", "localhost")
    Thread(target=server.serve_forever, daemon=True).start()
    yield fake
    server.shutdown()
    server.server_close()


# huggingface_hub reads its settings when it is imported, so commands run in a process that was
# started with them: one for many, since importing takes seconds.
_SERVE = """
import contextlib, io, json, os, sys, time
import taketurns.engines.local.engine
from taketurns import cli
from taketurns.checkpoints import hub
from transformers import AutoModelForCausalLM, LlamaForCausalLM, PreTrainedTokenizerFast
waits, wait = [], time.sleep
def sleep(seconds):
    waits.append(seconds)
    wait(seconds)
time.sleep = sleep
for line in sys.stdin:
    waits.clear()
    hub._on_the_hub.cache_clear()  # every command stands for a process of its own
    asked = json.loads(line)
    os.environ.update(asked["environment"])
    sys.argv = ["taketurns", *asked["arguments"]]
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            if asked["arguments"][0] == "-c":
                exec(asked["arguments"][1])
            else:
                cli.main()
        except SystemExit as end:
            code = end.code or 0
    for name in asked["environment"]:
        del os.environ[name]
    print(json.dumps([code, out.getvalue(), err.getvalue(), sum(waits)]), flush=True)
"""


@dataclass(frozen=True)
class Run:
    """What a command did; `waited` are the seconds between tries, which do not depend on how busy
    the machine is."""

    code: int
    out: str
    err: str
    waited: float

    @property
    def sentence(self) -> str:
        """What was said last."""
        return self.err.strip().splitlines()[-1]


class Commands:
    """`taketurns`, run again and again in one process with these settings of the hub."""

    def __init__(self, home: Path, **settings: str) -> None:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "TRANSFORMERS_"))}
        settings = {"HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1", **settings}
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SERVE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**kept, **settings, "PYTHONPATH": os.pathsep.join(sys.path)},
        )

    def __call__(self, *arguments: object, **environment: str) -> Run:
        asked = {"arguments": [str(part) for part in arguments], "environment": environment}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        answer: Any = json.loads(self._process.stdout.readline())
        run = Run(*answer)
        assert "Traceback" not in run.err
        return run

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """HF_HOME: the cache."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def taketurns(hub: FakeHub, home: Path) -> Iterator[Commands]:
    """The command, with the fake hub within reach."""
    commands = Commands(home, HF_ENDPOINT=hub.url)
    commands("--version")
    yield commands
    commands.close()


@pytest.fixture
def write_team(tmp_path: Path) -> Callable[..., Path]:
    """A team file in which "a" is a folder's model and "b" is given by its keys. Its rounds are not
    exact: to measure what they need takes longer than to fetch such small models."""

    def write(sound: str | Path, **keys: Any) -> Path:
        candidates = [{"name": "a", "model": str(sound)}, {"name": "b", **keys}]
        switcher = {"kind": "fixed", "sequence": ["b", "a"]}
        policy = {"patch_size": 4, "max_tokens": 8}
        file = tmp_path / "team.yaml"
        engine = {"deterministic": False}
        team = {"candidates": candidates, "policy": policy, "switcher": switcher, "engine": engine}
        file.write_text(json.dumps(team))
        (tmp_path / "prompts.jsonl").write_text('{"id": "1", "text": "hi"}\n')
        return file

    return write
