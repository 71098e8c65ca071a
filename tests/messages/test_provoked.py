"""Mistakes that people make, each made for real: the message has the wrong value or key, the place
where it stands, and a cure.

A case is what a person writes and what the message must have; the place (file and line, option, id)
is held for all cases of a door alike. No model is loaded.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from taketurns.config.loading import load_team_config
from taketurns.config.settings import parse_setting
from taketurns.errors import TakeTurnsError
from taketurns.integrations.planning.costs import load_costs
from taketurns.runs.manifest import Manifest, path_for
from taketurns.runs.records import InvalidLine, read_queries
from taketurns.server.config import KEY_VARIABLE, read_settings
from taketurns.switchers.head import load_config as load_head
from taketurns.tasks.custom import load_task_file
from taketurns.tasks.registry import Choices, find_task
from taketurns.tasks.scorers.registry import make_scorer
from taketurns.training.distillation.settings import (
    ComparisonConfig,
    FilterConfig,
    SamplingConfig,
    StudentConfig,
)
from taketurns.training.labels.labels import read_labels
from taketurns.training.policy_gradient.settings import PolicyGradientConfig
from taketurns.training.supervised.settings import Selection, TrainingConfig

Faults = Callable[..., list[str]]
Invoke = Callable[..., tuple[int, str, str]]

BASE = "candidates:\n  - {name: a, model: org/a}\n  - {name: b, model: org/b}\n"
HTTP = (
    "candidates:\n  - {name: a, model: org/a}\n  - {name: b, model: org/b}\n"
    "engine: {kind: http, urls: ['http://h:1'], "
)
LINE = 4  # of what follows BASE


def said(provoke: Callable[[], object]) -> str:
    with pytest.raises(TakeTurnsError) as caught:
        provoke()
    return str(caught.value)


def holds(message: str, faults: Faults, *parts: object) -> None:
    """One sentence, with these parts and a cure."""
    assert "\n" not in message
    for part in parts:
        assert str(part) in message, (part, message)
    assert faults(message, given=True) == [], message


# A team file: the message has the file, the line, and the key or value.

TEAM: Mapping[str, tuple[str, int | None, Sequence[str]]] = {
    # Keys that there are not.
    "top key": ("polcy: {}\n", LINE, ["polcy", "policy"]),
    "policy key": ("policy: {patchsize: 3}\n", LINE, ["patchsize", "patch_size"]),
    "policy key at the top": ("patch_size: 3\n", LINE, ["patch_size", "policy"]),
    "switcher key": ("switcher: {kid: lm}\n", LINE, ["kid", "kind"]),
    "engine key": ("engine: {batch: 3}\n", LINE, ["batch", "max_batch"]),
    "guard key": ("guard: {to: a, word: [x]}\n", LINE, ["word", "words"]),
    "patch key": ("policy: {patch: {until: sentence, mix: 3}}\n", LINE, ["mix", "min"]),
    "far key": ("zzzzzz: {}\n", LINE, ["zzzzzz", "candidates"]),
    # Values of the policy.
    "patch_size word": ("policy: {patch_size: fifty}\n", LINE, ["patch_size", "fifty"]),
    "patch_size 0": ("policy: {patch_size: 0}\n", LINE, ["patch_size", "not 0"]),
    "patch_size huge": ("policy: {patch_size: 2000000000}\n", LINE, ["patch_size"]),
    "max_tokens": ("policy: {max_tokens: -1}\n", LINE, ["max_tokens", "-1"]),
    "max_tokens huge": ("policy: {max_tokens: 2000000000}\n", LINE, ["max_tokens"]),
    "top_p 0": ("policy: {top_p: 0}\n", LINE, ["top_p", "not 0"]),
    "top_p": ("policy: {top_p: 1.5}\n", LINE, ["top_p", "1.5"]),
    "speaker_top_p": ("policy: {speaker_top_p: 2}\n", LINE, ["speaker_top_p", "2"]),
    "temperature": ("policy: {temperature: -1}\n", LINE, ["temperature", "-1"]),
    "temperature inf": ("policy: {temperature: .inf}\n", LINE, ["temperature", "inf"]),
    "seed": ("policy: {seed: -1}\n", LINE, ["seed", "-1"]),
    "seed text": ("policy: {seed: 1e-1}\n", LINE, ["seed", "1e-1"]),
    "temperature text": ("policy: {temperature: 1e-1}\n", LINE, ["temperature", "1e-1", "0.1"]),
    "stop": ("policy: {stop: ['']}\n", LINE, ["stop"]),
    "stop type": ("policy: {stop: 3}\n", LINE, ["stop", "3"]),
    "opening": ("policy: {opening: c}\n", LINE, ["'c'", "a (0), b (1)"]),
    "closing": ("policy: {closing: 7}\n", LINE, ["7", "a (0), b (1)"]),
    "closing_cue alone": ("policy: {closing_cue: So}\n", LINE, ["closing_cue", "closing"]),
    "closing_on_end alone": ("policy: {closing_on_end: true}\n", LINE, ["closing_on_end"]),
    "closing_cue empty": ("policy: {closing: a, closing_cue: ''}\n", LINE, ["closing_cue"]),
    "max_share": ("policy: {max_share: {a: 2}}\n", LINE, ["max_share", "2"]),
    "max_share all": ("policy: {max_share: {a: .5, b: .5}}\n", LINE, ["max_share"]),
    "max_share opening": ("policy: {opening: a, max_share: {a: .5}}\n", LINE, ["opening"]),
    "max_share who": ("policy: {max_share: {c: .5}}\n", LINE, ["'c'", "a (0), b (1)"]),
    "greedy": ("policy: {greedy_switcher: maybe}\n", LINE, ["greedy_switcher", "maybe"]),
    "patch until": ("policy: {patch: {until: line}}\n", LINE, ["until", "line", "sentence"]),
    "patch min": ("policy: {patch: {until: random, min: 0}}\n", LINE, ["min", "not 0"]),
    "patch max": ("policy: {patch: {until: random, max: 2}}\n", LINE, ["max", "8", "2"]),
    "patch rise": ("policy: {patch: {until: uncertainty, rise: 0}}\n", LINE, ["rise", "not 0"]),
    "patch margin": ("policy: {patch: {until: switcher, margin: 1}}\n", LINE, ["margin", "1"]),
    "patch dwell": ("policy: {patch: {until: switcher, dwell: 0}}\n", LINE, ["dwell", "not 0"]),
    # The guard.
    "guard without to": ("guard: {words: [x]}\n", LINE, ["guard", "'to'"]),
    "guard to": ("guard: {to: c, words: [x]}\n", LINE, ["'c'", "a (0), b (1)"]),
    "guard nothing": ("guard: {to: a}\n", LINE, ["words", "patterns", "judge"]),
    "guard words": ("guard: {to: a, words: ['']}\n", LINE, ["words"]),
    "guard patterns": ("guard: {to: a, patterns: ['(']}\n", LINE, ["patterns", "'('"]),
    "guard threshold": ("guard: {to: a, words: [x], threshold: 0}\n", LINE, ["threshold"]),
    "guard question": ("guard: {to: a, judge: b, question: Bad}\n", LINE, ["question", "answer"]),
    "guard two judges": ("guard: {to: a, judge: b, model: org/j}\n", LINE, ["judge", "model"]),
    "guard judge": ("guard: {to: a, judge: c}\n", LINE, ["'c'", "a (0), b (1)"]),
    # The switcher.
    "kind": ("switcher: {kind: magic}\n", LINE, ["kind", "magic", "random"]),
    "lm": ("switcher: {kind: lm}\n", LINE, ['"lm"', "model"]),
    "fixed": ("switcher: {kind: fixed}\n", LINE, ['"fixed"', "sequence"]),
    "head": ("switcher: {kind: head}\n", LINE, ['"head"', "path"]),
    "folded": ("switcher: {kind: folded}\n", LINE, ['"folded"', "tokens"]),
    "sequence of random": ("switcher: {sequence: [a]}\n", LINE, ["sequence", '"fixed"']),
    "model of random": ("switcher: {model: org/s}\n", LINE, ["model", '"lm"']),
    "sequence": ("switcher: {kind: fixed, sequence: [c]}\n", LINE, ["'c'", "a (0), b (1)"]),
    "tokens names": (
        "switcher: {kind: folded, tokens: {a: 1, c: 2}, reader: a}\n", LINE, ["tokens", "a, b"]
    ),
    "tokens equal": (
        "switcher: {kind: folded, tokens: {a: 1, b: 1}, reader: a}\n", LINE, ["tokens"]
    ),
    "tokens negative": (
        "switcher: {kind: folded, tokens: {a: -1, b: 1}, reader: a}\n", LINE, ["tokens"]
    ),
    "reader": (
        "switcher: {kind: folded, tokens: {a: 1, b: 2}, reader: c}\n", LINE, ["'c'", "a (0)"]
    ),
    "gamma of random": ("switcher: {gamma: 0.4}\n", LINE, ["gamma", '"nudging"', '"random"']),
    "content of nudging": (
        "switcher: {kind: nudging, content: [punctuation]}\n", LINE, ["content", '"baco"']
    ),
    "nudging gamma": ("switcher: {kind: nudging, gamma: 1.5}\n", LINE, ["gamma", "1.5"]),
    "baco gamma": ("switcher: {kind: baco, gamma: -0.1}\n", LINE, ["gamma", "-0.1"]),
    "baco entropy": (
        "switcher: {kind: baco, uncertainty: entropy, gamma: -2}\n", LINE, ["gamma", "nats", "-2"]
    ),
    "baco nothing": (
        "switcher: {kind: baco, uncertainty: none, content: []}\n", LINE, ["content", "none"]
    ),
    "deferral without a head": ("switcher: {kind: deferral}\n", LINE, ["deferral", "path"]),
    "fusionroute without a router": (
        "switcher: {kind: fusionroute, path: org/x}\n", LINE, ["fusionroute", "model"]
    ),
    "prompt of lm": (
        "switcher: {kind: lm, model: org/x, prompt: '{text}'}\n", LINE, ["prompt", '"fusionroute"']
    ),
    "threshold of nudging": (
        "switcher: {kind: nudging, threshold: 0.5}\n", LINE, ["threshold", '"deferral"']
    ),
    "mentor rate": ("switcher: {kind: mentorcollab, rate: 1.5}\n", LINE, ["rate", "1.5"]),
    "judge gone": (
        "switcher: {kind: mentorcollab, path: ./gone}\n", LINE, ["gone", "judge"]
    ),
    "mentor lookahead": ("switcher: {kind: mentorcollab, lookahead: 0}\n", LINE, ["lookahead"]),
    "rate of nudging": (
        "switcher: {kind: nudging, rate: 0.5}\n", LINE, ["rate", '"mentorcollab"', '"nudging"']
    ),
    "nudging base": ("switcher: {kind: nudging, base: c}\n", LINE, ["'c'", "a (0), b (1)"]),
    "nudging of three": (
        "  - {name: c, model: org/c}\nswitcher: {kind: nudging}\n",
        LINE + 1,
        ["nudging", "two candidates", "not 3"],
    ),
    "candidates of random": ("switcher: {candidates: [a, b]}\n", LINE, ["candidates", '"lm"']),
    "candidates": (
        "switcher: {kind: lm, model: org/s, candidates: [a, a]}\n", LINE, ["candidates", "a, b"]
    ),
    "head gone": ("switcher: {kind: head, path: ./gone}\n", LINE, ["gone", "head"]),
    # The engine.
    "engine kind": ("engine: {kind: gpu}\n", LINE, ["kind", "gpu", "local"]),
    "urls": ("engine: {urls: ['http://h:1']}\n", LINE, ["urls", '"http"']),
    "max_batch": ("engine: {max_batch: 0}\n", LINE, ["max_batch", "0"]),
    "threads": ("engine: {threads: 9999}\n", LINE, ["threads", "9999"]),
    "parallel": ("engine: {parallel: 0}\n", LINE, ["parallel", "0"]),
    "deterministic": ("engine: {deterministic: maybe}\n", LINE, ["deterministic", "maybe"]),
    "memory": ("engine: {memory: much}\n", LINE, ["memory", "much", "4 GiB"]),
    "memory 0": ("engine: {memory: 0 GB}\n", LINE, ["memory", "0 GB"]),
    "memory huge": ("engine: {memory: 9000 TiB}\n", LINE, ["memory", "9000 TiB"]),
    "timeout of local": ("engine: {timeout: 9}\n", LINE, ["timeout", '"http"']),
    "no urls": ("engine: {kind: http}\n", None, ["urls"]),
}  # fmt: skip
WHOLE: Mapping[str, tuple[str | bytes, int | None, Sequence[str]]] = {
    "http memory": (HTTP + "memory: 1 GB}\n", LINE, ["memory", '"local"']),
    "http timeout": (HTTP + "timeout: 0}\n", LINE, ["timeout", "0"]),
    "http token_timeout": (HTTP + "token_timeout: -1}\n", LINE, ["token_timeout", "-1"]),
    "http retries": (HTTP + "retries: -1}\n", LINE, ["retries", "-1"]),
    "http concurrency": (HTTP + "concurrency: 0}\n", LINE, ["concurrency", "0"]),
    "http key": (HTTP + "api_key_env: sk-123 4}\n", LINE, ["api_key_env", "environment variable"]),
    "url twice": (
        BASE + "engine: {kind: http, urls: ['http://h:1', 'http://h:1/v1']}\n", LINE, ["http://h:1"]
    ),
    "url scheme": (BASE + "engine: {kind: http, urls: ['h:1']}\n", LINE, ["'h:1'", "http://"]),
    "url port": (
        BASE + "engine: {kind: http, urls: ['http://h:x']}\n", LINE, ["http://h:x", "http://host"]
    ),
    "url query": (BASE + "engine: {kind: http, urls: ['http://h/?q=1']}\n", LINE, ["?q=1"]),
    "url password": (
        BASE + "engine: {kind: http, urls: ['http://u:p@h:1']}\n", LINE, ["password", "api_key_env"]
    ),
    "one candidate": ("candidates:\n  - {name: a, model: org/a}\n", 1, ["two candidates", "1"]),
    "no candidates": ("policy: {}\n", None, ["'candidates'"]),
    "many candidates": (
        "candidates:\n" + "".join(f"  - {{name: c{n}, model: m}}\n" for n in range(65)),
        1,
        ["64", "65"],
    ),
    "same names": (BASE + "  - {name: a, model: org/c}\n", 1, ["'a'"]),
    "empty name": (BASE + "  - {name: ' ', model: org/c}\n", None, ["name"]),
    "no name": (BASE + "  - {model: org/c}\n", 4, ["'name'", "candidates[2]"]),
    "no model": (BASE + "  - {name: c}\n", 4, ["'model'", "candidates[2]"]),
    "candidate key": (BASE + "  - {name: c, model: m, promt: x}\n", 4, ["promt", "prompt"]),
    "model type": (BASE + "  - {name: c, model: 3}\n", 4, ["model", "3"]),
    "candidates type": ("candidates: a\n", 1, ["candidates", '"a"']),
    "model gone": (BASE + "  - {name: c, model: ./gone}\n", 4, ["gone", "model"]),
    "prompt": (BASE + "  - {name: c, model: m, prompt: Q}\n", 4, ["prompt", "{text}"]),
    "template gone": (
        BASE + "  - {name: c, model: m, template: gone.jinja}\n", 4, ["gone.jinja"]
    ),
    "local urls": (BASE + "  - {name: c, model: m, urls: ['http://h']}\n", 4, ["urls", '"http"']),
    "quantised GGUF": (
        BASE + "  - {name: c, model: m, gguf_file: f.gguf, quantization_config: {x: 1}}\n",
        4,
        ["quantization_config"],
    ),
    "key twice": (BASE + "policy: {seed: 1}\npolicy: {seed: 2}\n", 5, ["'policy'"]),
    "syntax": (BASE + "policy: {seed: 1\n", None, ["YAML"]),
    "tab": (BASE + "policy:\n\tseed: 1\n", 5, ["YAML"]),
    "list key": (BASE + "? [a, b]\n: 1\n", 4, ["key"]),
    "list": ("- a\n- b\n", None, ["mapping", "team file"]),
    "word": ("hello\n", None, ["mapping", "team file"]),
    "empty": ("", None, ["team file"]),
    "bytes": (b"candidates: \xff\n", None, ["UTF-8", "team file"]),
    "circle": ("candidates: &a [*a]\n", None, ["alias"]),
    "deep": ("candidates: " + "[" * 70 + "]" * 70 + "\n", None, ["deep"]),
    "long": ("candidates: []\n" + "# " * 600_000, None, ["1,048,576"]),
    "wide": (
        "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
        + "".join(
            f"{key}: &{key} [{','.join([f'*{before}'] * 10)}]\n"
            for before, key in zip("abcd", "bcde", strict=True)
        ),
        None,
        ["100,000"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TEAM)
def test_a_team_file(name: str, tmp_path: Path, faults: Faults) -> None:
    text, line, parts = TEAM[name]
    _team(BASE + text, line, parts, tmp_path, faults)


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_team_file(name: str, tmp_path: Path, faults: Faults) -> None:
    _team(*WHOLE[name], tmp_path, faults)


def _team(
    text: str | bytes, line: int | None, parts: Sequence[str], folder: Path, faults: Faults
) -> None:
    path = folder / "team.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    message = said(lambda: load_team_config(path))
    holds(message, faults, path if line is None else f"{path}:{line}", *parts)


@pytest.mark.parametrize("name", ["gone.yaml", "folder", "model.gguf"])
def test_a_team_that_is_not_there(name: str, tmp_path: Path, faults: Faults) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    if name == "model.gguf":
        path = tmp_path / "team.yaml"
        path.write_text(BASE + "  - {name: c, model: m.gguf}\n")
        holds(said(lambda: load_team_config(path)), faults, f"{path}:4", "gguf_file", "m.gguf")
        return
    path = tmp_path / name
    holds(said(lambda: load_team_config(path)), faults, path, "pocket")


# --set KEY=VALUE, on the command line.


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("patch_size", ["'patch_size'", "KEY=VALUE"]),
        ("=3", ["'=3'", "KEY=VALUE"]),
        ("policy.stop=[", ["policy.stop=["]),
        ("candidates.c.model=x", ["candidates.c.model", "'c'", "a, b"]),
        ("candidates.9.model=x", ["candidates.9.model", "'9'", "a, b"]),
        ("policy.seed.x=1", ["policy.seed.x"]),
        ("policy.sed=1", ["sed", "seed"]),
        ("policy.seed=-1", ["seed", "-1"]),
        ("top_p=2", ["top_p", "2"]),
        ("candidates.a.model=3", ["candidates[0].model", "3"]),
        ("engine.memory=lots", ["memory", "lots"]),
        ("seed=[1", ["seed=[1"]),
    ],
)
def test_a_setting(text: str, parts: list[str], tmp_path: Path, faults: Faults) -> None:
    path = tmp_path / "team.yaml"
    path.write_text(BASE + "policy: {seed: 1}\n")
    message = said(lambda: load_team_config(path, dict([parse_setting(text)])))
    holds(message, faults, *parts)


# A line of prompts: the command line puts the file and the line before the reason.


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        (b"\xff", ["UTF-8"]),
        (b"{", ["JSON"]),
        (b"[1]", ["object"]),
        (b'{"id": "x"}', ['"text"', '"messages"']),
        (b'{"id": "x", "text": "a", "messages": []}', ['"text"', '"messages"']),
        (b'{"text": 3}', ['"text"']),
        (b'{"id": [1], "text": "a"}', ['"id"']),
        (b'{"id": "", "text": "a"}', ['"id"']),
        (b'{"text": "a", "metadata": 3}', ['"metadata"']),
        (b'{"messages": []}', ['"messages"']),
        (b'{"messages": [3]}', ['"role"', '"content"']),
        (b'{"messages": [{"role": "user"}]}', ['"role"', '"content"']),
        (b'{"messages": [{"role": "boss", "content": "a"}]}', ["boss", "user"]),
        (b'{"messages": [{"role": "user", "content": 3}]}', ['"content"']),
        (b'{"messages": [{"role": "assistant", "content": "a"}]}', ["user"]),
        (b'{"text": "\\ud800"}', ["surrogate"]),
        (b'{"text": "a", "x": NaN}', ["NaN"]),
        (b'{"text": "a", "x": 1e999}', ["1e999"]),
    ],
)
def test_a_prompt(line: bytes, parts: list[str], faults: Faults) -> None:
    (invalid,) = read_queries(line + b"\n", "prompts.jsonl")
    assert isinstance(invalid, InvalidLine)
    assert invalid.line == 1
    for part in parts:
        assert part in invalid.reason


@pytest.mark.parametrize(
    ("data", "parts"),
    [
        (b"", ["prompts.jsonl", "one prompt"]),
        (b'{"id": "x", "text": "a"}\n{"id": "x", "text": "b"}\n', ["prompts.jsonl:2", "'x'", "1"]),
    ],
)
def test_prompts(data: bytes, parts: list[str], faults: Faults) -> None:
    holds(said(lambda: list(read_queries(data, "prompts.jsonl"))), faults, *parts)


# Labels: the message has the file and the line.

LABEL = {
    "schema": "taketurns.rollouts/1", "id": "q#0", "task": "t", "category": "c",
    "candidates": ["a", "b"], "query": {"id": "q", "text": "?"}, "prefix": [], "best": [0],
    "branches": [
        {"speaker": 0, "utilities": [1.0]}, {"speaker": 1, "utilities": [0.0]},
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("lines", "parts"),
    [
        ([], ["taketurns rollout"]),
        (["{"], [":1", "record"]),
        ([{**LABEL, "schema": "other/1"}], [":1", "other/1", "taketurns.rollouts/1"]),
        ([{**LABEL, "candidates": ["a", "c"]}], [":1", "a, c", "a, b"]),
        ([{**LABEL, "branches": LABEL["branches"][:1]}], [":1"]),  # type: ignore[index]
        ([{**LABEL, "branches": 3}], [":1"]),
        ([{key: value for key, value in LABEL.items() if key != "query"}], [":1", "query"]),
        ([LABEL, {**LABEL, "task": "u"}], [":2", "q#0"]),
        ([{**LABEL, "id": [1]}], [":1"]),
    ],
)
def test_labels(lines: list[Any], parts: list[str], tmp_path: Path, faults: Faults) -> None:
    path = tmp_path / "labels.jsonl"
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("".join(f"{text}\n" for text in texts))
    message = said(lambda: list(read_labels(path, ["a", "b"])))
    holds(message, faults, *(f"{path}{part}" if part[0] == ":" else part for part in parts))


def test_labels_that_are_not_there(tmp_path: Path, faults: Faults) -> None:
    path = tmp_path / "gone.jsonl"
    message = said(lambda: list(read_labels(path, ["a", "b"])))
    assert str(path) in message
    assert "No such file" in message


# A task file and its data.

TASK = "name: t\ndata: data.jsonl\nscorer: exact\n"
ROW = {"id": "1", "text": "q?", "reference": "a"}


@pytest.mark.parametrize(
    ("file", "rows", "parts"),
    [
        ("data: data.jsonl\nscorer: exact\n", [ROW], ["task.yaml", "'name'"]),
        ("name: t\nscorer: exact\n", [ROW], ["task.yaml", "'data'"]),
        ("name: t\ndata: data.jsonl\n", [ROW], ["task.yaml", "'scorer'"]),
        (TASK + "promt: x\n", [ROW], ["task.yaml", "promt", "prompt"]),
        (TASK + "zzzz: x\n", [ROW], ["task.yaml", "zzzz", "scorer"]),
        (TASK + "fields: {txt: q}\n", [ROW], ["task.yaml", "txt", "text"]),
        (TASK + "prompt: Q\n", [ROW], ["task.yaml", "prompt", "{text}"]),
        (TASK + "prompt: '{text} {topic}'\n", [ROW], ["data.jsonl:1", "topic", "text"]),
        (TASK + "category: 3\n", [ROW], ["task.yaml", "category"]),
        ("name: ''\ndata: data.jsonl\nscorer: exact\n", [ROW], ["task.yaml", "name"]),
        ("- a\n", [ROW], ["task.yaml", "mapping"]),
        ("name: [\n", [ROW], ["task.yaml", "YAML"]),
        ("name: t\ndata: data.jsonl\nscorer: exakt\n", [ROW], ["task.yaml", "exakt", "exact"]),
        (
            "name: t\ndata: data.jsonl\nscorer: {name: reward, modle: x}\n",
            [ROW],
            ["task.yaml", "modle", "model"],
        ),
        ("name: t\ndata: data.jsonl\nscorer: reward\n", [ROW], ["task.yaml", "reward", "model"]),
        ("name: t\ndata: data.jsonl\nscorer: {name: exact, x: 1}\n", [ROW], ["task.yaml", "'x'"]),
        ("name: t\ndata: gone.jsonl\nscorer: exact\n", [ROW], ["gone.jsonl"]),
        ("name: t\ndata: {final: data.jsonl}\nscorer: exact\n", [ROW], ["task.yaml", "data"]),
        (TASK, [], ["task.yaml"]),
        (TASK, ["{"], ["data.jsonl:1", "JSON"]),
        (TASK, [[1]], ["data.jsonl:1", "object"]),
        (TASK, [{**ROW, "split": "final"}], ["data.jsonl:1", "'split'", "final", "test"]),
        (TASK, [{**ROW, "id": None}], ["data.jsonl:1", "'id'"]),
        (TASK, [{**ROW, "text": " "}], ["data.jsonl:1", "'text'"]),
        (TASK, [{**ROW, "choices": [1]}], ["data.jsonl:1", "'choices'"]),
        (TASK, [ROW, ROW], ["data.jsonl:2", "'1'", "data.jsonl:1"]),
        (TASK, [{**ROW, "reference": None}], ["data.jsonl:1"]),
        (TASK.replace("exact", "choice"), [ROW], ["data.jsonl:1", "choices"]),
        (
            TASK.replace("exact", "choice"),
            [{**ROW, "choices": {"A": "x", "B": "y"}}],
            ["data.jsonl:1", "'a'", "A, B"],
        ),
        (TASK.replace("exact", "alias"), [{**ROW, "reference": 3}], ["data.jsonl:1"]),
        (TASK.replace("exact", "alias"), [{**ROW, "reference": []}], ["data.jsonl:1"]),
        (TASK.replace("exact", "mathematics"), [{**ROW, "reference": []}], ["data.jsonl:1"]),
        (TASK.replace("exact", "f1"), [{**ROW, "reference": ""}], ["data.jsonl:1"]),
    ],
)
def test_a_task_file(
    file: str, rows: list[Any], parts: list[str], tmp_path: Path, faults: Faults
) -> None:
    path = tmp_path / "task.yaml"
    path.write_text(file)
    texts = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (tmp_path / "data.jsonl").write_text("".join(f"{text}\n" for text in texts))
    place, *rest = parts
    holds(said(lambda: load_task_file(path)), faults, tmp_path / place, *rest)


@pytest.mark.parametrize(
    ("name", "choices", "parts"),
    [
        ("recal", Choices(), ["'recal'", "'recall'"]),
        ("gsm9k", Choices(), ["'gsm9k'", "gsm8k"]),
        ("gsm8k", Choices(data=Path("/gone")), ["/gone", "--data"]),
        ("recall", Choices(data=Path("/gone")), ["'recall'", "--data"]),
        ("recall", Choices(scoring="moco"), ["'recall'"]),
        ("recall", Choices(settings={"x": 1}), ["'recall'"]),
        ("/gone.yaml", Choices(), ["/gone.yaml"]),
        ("no_such_module:Task", Choices(), ["no_such_module"]),
        ("json:dumps_all", Choices(), ["json", "dumps_all"]),
        (":Task", Choices(), ["':Task'", "package.module:Name"]),
        ("json:JSONDecodeError", Choices(), ["json:JSONDecodeError"]),
        ("string:digits", Choices(), ["string:digits"]),
    ],
)
def test_a_task_by_name(name: str, choices: Choices, parts: list[str], faults: Faults) -> None:
    holds(said(lambda: find_task(name, choices)), faults, *parts)


@pytest.mark.parametrize(
    ("name", "settings", "parts"),
    [
        ("exakt", {}, ["'exakt'", "'exact'"]),
        ("reward", {}, ["'reward'", "'model'"]),
        ("reward", {"modle": 1}, ["'reward'", "'modle'", "model"]),
        ("exact", {"x": 1}, ["'exact'", "'x'"]),
        ("diversity", {"measure": "colour"}, ["colour", "self-bleu"]),
        ("diversity", {"measure": "self-bleu", "model": "m"}, ["model", "measure"]),
        ("no_such_module:score", {}, ["no_such_module"]),
        ("json:dumps_all", {}, ["json", "dumps_all"]),
        ("string:digits", {}, ["string:digits"]),
        ("math:isclose", {"tol": 1}, ["math:isclose", "'tol'"]),
    ],
)
def test_a_scorer(name: str, settings: dict[str, Any], parts: list[str], faults: Faults) -> None:
    holds(said(lambda: make_scorer(name, settings)), faults, *parts)


# An output that is another run's, and a head that is none.


def _claim(output: Path, **inputs: object) -> Manifest:
    return Manifest("generate", inputs, {}, "now").claim(output)


@pytest.mark.parametrize("fault", ["folder", "no manifest", "other", "command", "torn", "list"])
def test_an_output(fault: str, tmp_path: Path, faults: Faults) -> None:
    output = tmp_path / "out.jsonl"
    parts = ["out.jsonl"]
    if fault == "folder":
        output.mkdir()
    else:
        _claim(output, policy=1)
        output.write_text("{}\n")
    if fault == "no manifest":
        path_for(output).unlink()
        parts += ["manifest"]
    if fault == "torn":
        path_for(output).write_text("{")
        parts = ["out.jsonl.manifest.json"]
    if fault == "list":
        path_for(output).write_text("[]")
        parts = ["out.jsonl.manifest.json"]
    if fault == "command":
        manifest = Manifest("rollout", {"policy": 1}, {}, "now")
        holds(said(lambda: manifest.claim(output)), faults, output, "command")
        return
    changed = 2 if fault == "other" else 1
    parts += ["policy"] if fault == "other" else []
    place, *rest = parts
    holds(said(lambda: _claim(output, policy=changed)), faults, tmp_path / place, *rest)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (None, ["head.json"]),
        ("{", ["head.json"]),
        ('{"schema": "other/1"}', ["head.json", "taketurns.head/1"]),
        ('{"schema": "taketurns.head/1", "mode": "speaker"}', ["head.json", "candidates"]),
        ("[]", ["head.json"]),
    ],
)
def test_a_head(text: str | None, parts: list[str], tmp_path: Path, faults: Faults) -> None:
    if text is not None:
        (tmp_path / "head.json").write_text(text)
    holds(said(lambda: load_head(str(tmp_path))), faults, tmp_path, *parts)


# How a team is served.


@pytest.fixture
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)


@pytest.mark.usefixtures("_no_key")
@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("port: 70000\n", ["port", "70000"]),
        ("port: many\n", ["port", "many"]),
        ("prt: 1\n", ["prt", "port"]),
        ("max_running: 0\n", ["max_running"]),
        ("max_waiting: -1\n", ["max_waiting"]),
        ("max_body: 0\n", ["max_body"]),
        ("max_tokens: 0\n", ["max_tokens"]),
        ("max_choices: 5000\n", ["max_choices"]),
        ("max_prompt_tokens: 0\n", ["max_prompt_tokens"]),
        ("timeout: 0\n", ["timeout"]),
        ("stall: -1\n", ["stall"]),
        ("drain: -1\n", ["drain"]),
        ("api_keys: ['']\n", ["key"]),
        ("api_keys: ['é']\n", ["ASCII"]),
        ("api_keys: [' a']\n", ["key"]),
        ("cors: ['example.org/path']\n", ["cors", "example.org/path", "https://example.org"]),
        ("cors: ['*']\napi_keys: [a]\n", ["cors", '"*"']),
        ("allowed_hosts: ['http://a']\n", ["allowed_hosts", "http://a", "team.example.org"]),
        ("- a\n", ["mapping"]),
    ],
)
def test_a_serve_file(text: str, parts: list[str], tmp_path: Path, faults: Faults) -> None:
    path = tmp_path / "serve.yaml"
    path.write_text(text)
    holds(said(lambda: read_settings(path)), faults, path, *parts)


def test_an_empty_key_variable(monkeypatch: pytest.MonkeyPatch, faults: Faults) -> None:
    monkeypatch.setenv(KEY_VARIABLE, " ")
    holds(said(lambda: read_settings(None)), faults, KEY_VARIABLE)


# Settings of training: the message has the name and the value.


@pytest.mark.parametrize(
    ("config", "settings"),
    [
        (TrainingConfig, {"epochs": 0}),
        (TrainingConfig, {"learning_rate": 0.0}),
        (TrainingConfig, {"batch_size": 0}),
        (TrainingConfig, {"weight_decay": -1.0}),
        (TrainingConfig, {"seed": -1}),
        (TrainingConfig, {"patience": 0}),
        (Selection, {"temperature": 0.0}),
        (Selection, {"min_margin": 2.0}),
        (Selection, {"validation": 1.0}),
        (PolicyGradientConfig, {"steps": 0}),
        (PolicyGradientConfig, {"questions": 0}),
        (PolicyGradientConfig, {"answers": 1}),
        (PolicyGradientConfig, {"learning_rate": -1.0}),
        (PolicyGradientConfig, {"kl": -1.0}),
        (PolicyGradientConfig, {"switch_cost": -1.0}),
        (PolicyGradientConfig, {"check_every": 0}),
        (PolicyGradientConfig, {"checked": 0}),
        (PolicyGradientConfig, {"seed": -1}),
        (SamplingConfig, {"answers": 0}),
        (FilterConfig, {"min_score": 0.0}),
        (StudentConfig, {"temperature": 0.0}),
        (StudentConfig, {"top": 0}),
        (StudentConfig, {"held_out": 1.0}),
        (ComparisonConfig, {"seeds": 0}),
        (ComparisonConfig, {"limit": 0}),
    ],
)
def test_a_setting_of_training(
    config: Callable[..., object], settings: dict[str, Any], faults: Faults
) -> None:
    ((name, value),) = settings.items()
    message = said(lambda: config(**settings))
    assert faults(f"{message} of --{name}", given=True) == []  # the command line's name for it
    assert name in message
    assert str(value) in message


def test_a_price(faults: Faults) -> None:
    holds(said(lambda: PolicyGradientConfig(prices={"a_b": -1.0})), faults, "a_b", "-1.0")


# Costs of a deployment.


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (None, ["pocket-cpu", "8b-h100"]),
        ("{", []),
        ("[]", ["object"]),
        ('{"about": "x", "decode": [[1, 0.1]]}', ["prefill"]),
        ('{"abuot": "x"}', ["abuot", "about"]),
        ('{"about": 3}', ["about", "3"]),
        ('{"about": "x", "decode": [], "prefill": 0.1}', ["decode"]),
        ('{"about": "x", "decode": [[1, -1]], "prefill": 0.1}', ["time"]),
        ('{"about": "x", "decode": [[1, 0.1]], "prefill": 0.1, "block": 0}', ["block"]),
    ],
)
def test_costs(text: str | None, parts: list[str], tmp_path: Path, faults: Faults) -> None:
    path = tmp_path / "costs.json"
    if text is not None:
        path.write_text(text)
    message = said(lambda: load_costs(path))
    assert str(path) in message
    for part in parts:
        assert part in message


# The command line: exit code 2, and one sentence that names the option.


@dataclass(frozen=True)
class Mistake:
    """A command with `{folder}` filled in, and what is said of it."""

    command: str
    parts: tuple[str, ...]


@pytest.mark.parametrize(
    "mistake",
    [
        Mistake("generate -t pocket -o x", ("--input", "--task")),
        Mistake("generate -t pocket -o x -i a --task recall", ("--input", "--task")),
        Mistake("generate -t pocket -o - --task recall --runner ray", ("--runner ray", "--output")),
        Mistake("generate -t pocket -o x -i {folder}/gone.jsonl", ("{folder}/gone.jsonl",)),
        Mistake("generate -t pocket -o x --task recal", ("'recal'", "'recall'")),
        Mistake("generate -t {folder}/gone.yaml -o x --task recall", ("{folder}/gone.yaml",)),
        Mistake("generate -t pocket -o x --task recall --set patchsize=3", ("patchsize",)),
        Mistake("generate -t pocket -o x --task recall --seed -4", ("seed", "-4")),
        Mistake("chat --speaker nova", ("'nova'", "pretrained")),
        Mistake("train -t pocket -o x", ("--labels",)),
        Mistake("train -t pocket -o x --method policy-gradient --labels a", ("--labels",)),
        Mistake("train -t pocket -o x --method policy-gradient --price sft", ("NAME=PRICE", "sft")),
        Mistake("train -t pocket -o x --labels {folder}/gone.jsonl", ("{folder}/gone.jsonl",)),
        Mistake("experiment -o x --only sequence", ("'sequence'", "sequences")),
        Mistake("export -t pocket -o x", ("--fold-switcher",)),
        Mistake("evaluate -o x --runner ray --workers 2", ("--workers", "--actors")),
        Mistake("score --task recal --answers a", ("'recal'", "'recall'")),
        Mistake("score --task recall --answers {folder}/gone", ("{folder}/gone",)),
        Mistake("score --task recall --answers a --with x=1", ("'recall'",)),
        Mistake("safety -o {folder}/s --task harm --data {folder}", ("--data",)),
        Mistake("plan --rate 1 --at-a-time 1", ("--rate", "--at-a-time")),
        Mistake("plan --replicas few", ("--replicas", "'few'")),
        Mistake("plan --patch 0", ("--patch", "'0'")),
        Mistake("plan --costs {folder}/gone.json", ("{folder}/gone.json", "8b-h100")),
        Mistake("plan --rate 1 --answers {folder}/gone", ("{folder}/gone",)),
        Mistake("launch -t pocket", ("engine.kind", "http")),
        Mistake("analyze --run {folder}/gone", ("{folder}/gone",)),
        Mistake("rollout -t pocket -o x --task recal", ("'recal'", "'recall'")),
        Mistake("rollout -t pocket -o x --task recall --with x=1", ("'recall'",)),
        Mistake("serve --config {folder}/gone.yaml", ("{folder}/gone.yaml",)),
        Mistake("bench overhead", ("bench", "make bench")),
    ],
    ids=lambda mistake: mistake.command,
)
def test_a_command(
    mistake: Mistake, invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    faults: Faults,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    folder = str(tmp_path)
    code, out, err = invoke(*mistake.command.format(folder=folder).split())
    assert (code, out) == (2, "")
    *_, message = [line for line in err.splitlines() if line.startswith("taketurns")]
    parts = [part.format(folder=folder) for part in mistake.parts]
    holds(message.partition(": ")[2], faults, *parts)
