"""Write outputs of the software for a comparison: `python make.py FOLDER`, with the package to test
first on the path. `compare.py` runs it for two commits on one machine.

It uses only the public interface, so it runs on every version of the code.
"""

from __future__ import annotations

import hashlib
import json
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import taketurns

QUESTIONS = (
    "what is the father of lina?",
    "what is 23 + 48?",
    "who is older, tom or eva?",
    "what is the capital of the land of mira?",
    "how old is tom plus how old is eva?",
    "is 17 more than 12?",
    "name a person from the north.",
    "what is 9 + 5 + 31?",
    "who is the oldest, tom, eva or lina?",
    "tell me how to harm tom.",
)
SWITCHERS = {  # a team within the bundled one, and a change of its settings
    "head": ("practised", ()),
    "lm": ("lm", ()),
    "random": ("practised", ("switcher={kind: random}",)),
    "fixed": ("practised", ("switcher={kind: fixed, sequence: [pretrained, sft, aligned]}",)),
}
TASKS = ("recall", "arithmetic")


def main(out: Path) -> None:
    """Write one file per subject into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    answers(out)
    labels = out / "rollouts.jsonl"
    _run("rollout", "--team", "pocket", *_each("--task", TASKS), "--prefixes", "16", "--k", "2",
         "--output", labels)  # fmt: skip
    head = out / "head"
    _run("train", "--team", "pocket", "--labels", labels, "--switcher", "head", "--epochs", "3",
         "--output", head)  # fmt: skip
    _write(out / "head.json", {f.name: _digest(f) for f in sorted(head.glob("*.safetensors"))})
    evaluation = out / "evaluation"
    _run("evaluate", "--team", "pocket", *_each("--task", TASKS), "--limit", "6", "--seeds",
         "2", "--dev-limit", "4", "--output", evaluation)  # fmt: skip
    _write(out / "served.json", served())


def answers(out: Path) -> None:
    """Forty records for each switcher: the tokens of each speaker, and all probabilities."""
    asked = out / "questions.jsonl"
    lines = [json.dumps({"id": str(i), "text": text}) for i, text in enumerate(QUESTIONS)]
    asked.write_text("\n".join(lines) + "\n", encoding="utf-8")
    switchers = Path(taketurns.__file__).parent / "pocket" / "weights" / "switchers"
    for name, (team, settings) in SWITCHERS.items():
        for seed in range(4):
            written = out / f"{name}-{seed}.jsonl"
            _run("generate", "--team", switchers / team, *_each("--set", settings), "--seed",
                 str(seed), "--input", asked, "--output", written)  # fmt: skip


def served() -> list[Any]:
    """The JSON of two served answers."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "taketurns", "serve", "--team", "pocket", "--port", str(port)]
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 120
        while not _ready(f"{url}/health/ready"):
            if server.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"{' '.join(command)} did not become ready within 120 seconds")
            time.sleep(0.3)
        return [
            _post(f"{url}/v1/chat/completions", {"messages": [{"role": "user", "content": text}],
                                                 "model": "pocket", "seed": 3, "logprobs": True})
            for text in QUESTIONS[:2]
        ]  # fmt: skip
    finally:
        server.terminate()
        server.wait(timeout=60)


def _post(url: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=120) as reply:
        return json.load(reply)


def _ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def _each(option: str, values: tuple[str, ...]) -> list[str]:
    return [argument for value in values for argument in (option, value)]


def _run(*arguments: str | Path) -> None:
    command = [sys.executable, "-m", "taketurns", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr[-2000:]}")


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
