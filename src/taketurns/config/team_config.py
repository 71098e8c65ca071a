"""Team files: which checkpoints take turns, who decides, and by which rules.

A team file is YAML, loaded safely and strictly: a duplicate key, an unknown key or a value of the
wrong type is refused in one sentence that names the file, the line and the cure. The keys are the
fields of the records below, so a record and its keys cannot drift apart. docs/team-file.md lists
them.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from importlib.resources import files
from math import isfinite, nan
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar, get_type_hints
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from taketurns.checkpoints import gguf
from taketurns.config.policy import QUESTION, Guard, PatchRule, Policy
from taketurns.config.yaml_source import compose, construct, invalid, read_node
from taketurns.errors import ConfigError, one_line
from taketurns.types import Candidate, Endpoint, ModelSpec

SwitcherKind = Literal["random", "fixed", "lm", "head", "folded"]
EngineKind = Literal["local", "http"]
BUNDLED = "pocket"
JUDGE = "(judge)"
MOST_CANDIDATES = 64
MOST_MEMORY = 1 << 50  # bytes
_SHOWN = 200  # characters of a wrong value

Record = TypeVar("Record")


@dataclass(frozen=True, slots=True)
class SwitcherConfig:
    """Who decides. `spec` is the model of an "lm" switcher, `endpoint` where it is served and
    `candidates` whose its numbers are, from 0, where the team file says so; `sequence` the indices
    a "fixed" one cycles, `path` where a "head" is (a folder or a hub id).
    Of a "folded" one, `tokens` are those that stand for the candidates, in their order, and
    `reader` is the index of who is asked while nobody has spoken."""

    kind: SwitcherKind = "random"
    spec: ModelSpec | None = None
    chat_template: bool = False
    sequence: tuple[int, ...] = ()
    path: str | None = None
    endpoint: Endpoint | None = None
    tokens: tuple[int, ...] = ()
    reader: int | None = None
    candidates: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """What runs the models.

    Of "local" ones, `deterministic` None is on for float32 on a CPU and off elsewhere;
    `memory_bytes` bounds the KV caches and `threads` what one operation uses on a CPU; None leaves
    both to the engine. Of "http" ones, `concurrency` bounds the requests under way at a replica,
    `timeout` the seconds of a request, twice which all tries at it have together, and
    `token_timeout` those between two tokens of a stream; `retries` is how often a request is tried
    again.
    """

    kind: EngineKind = "local"
    deterministic: bool | None = None
    max_batch: int = 64
    memory_bytes: int | None = None
    threads: int | None = None
    concurrency: int = 64
    timeout: float = 300.0
    token_timeout: float = 30.0
    retries: int = 4


@dataclass(frozen=True, slots=True)
class TeamConfig:
    """A team file, checked and resolved: names are indices, relative model paths are absolute.
    `judge` is the model that the policy's guard asks."""

    candidates: tuple[Candidate, ...]
    switcher: SwitcherConfig = SwitcherConfig()
    policy: Policy = Policy()
    engine: EngineConfig = EngineConfig()
    source: Path | None = None
    judge: Candidate | None = None

    @property
    def writers_and_judge(self) -> tuple[Candidate, ...]:
        """The models of an engine that answers without the switcher's: the candidates, and the
        judge unless it is one of them."""
        if self.judge is None or self.judge in self.candidates:
            return self.candidates
        return (*self.candidates, self.judge)


def load_team_config(
    source: str | Path, overrides: Mapping[str, object] | None = None
) -> TeamConfig:
    """Read a team file, or a folder with a `team.yaml`; "pocket" is the bundled team.

    `overrides` change single settings by dotted path, `{"policy.patch_size": 32}`; a policy's
    setting may be named alone. Raises ConfigError.
    """
    path = find_team_file(source)
    document = _Document.read(path)
    for key, value in (overrides or {}).items():
        document.override(key, value)
    try:
        raw = json.dumps(document.data)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{path}: a value that a team file cannot have: {error}") from error
    try:
        team: Any = _TeamFile.model_validate_json(raw)
    except ValidationError as error:
        raise ConfigError(_explain(document, error)) from error
    return _Builder(document, team).build()


def change_policy(policy: Policy, changes: Mapping[str, object]) -> Policy:
    """A policy with other values for some of its fields. Raises ConfigError."""
    given = {key: tuple(v) if isinstance(v, list) else v for key, v in changes.items()}
    schema = _schema("Policy", Policy)
    try:
        checked = schema.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0])
        if first["type"] == "extra_forbidden":
            cure = _cure(key, list(schema.model_fields))
            raise ConfigError(f"unknown key {key!r} in policy; {cure}") from error
        message = first["msg"].removeprefix("Input ")
        raise ConfigError(f"policy.{key} {message}, not {changes[key]!r}") from error
    return dataclasses.replace(policy, **{key: getattr(checked, key) for key in given})


def load_settings(path: Path, record: type[Record], what: str) -> Record:
    """A YAML file whose keys are the fields of the dataclass `record`, read as strictly as a team
    file; `what` is how errors call it. Raises ConfigError."""
    document = _Document.read(path, what)
    schema = _schema(record.__name__, record)
    try:
        raw = json.dumps(document.data, default=str)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{path}: a value that a {what} cannot have: {error}") from error
    try:
        settings = schema.model_validate_json(raw)
    except ValidationError as error:
        raise ConfigError(_explain(document, error, list(schema.model_fields))) from error
    try:
        return record(**dict(settings))
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def parse_setting(text: str) -> tuple[str, object]:
    """`policy.patch_size=32` as a key and a value; the value is read as YAML. Raises
    ConfigError."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(
            f"a setting is written KEY=VALUE, for example policy.patch_size=32, not {text!r}"
        )
    try:
        return key.strip(), construct(compose(value))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"cannot read the value in {_shown(text)}: {one_line(error)}") from error


def parse_bytes(text: str | int) -> int:
    """`"4 GiB"`, `"500 MB"` or a number of bytes. Raises ConfigError."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(?:([kmgt])(i?)b?|b)?\s*", str(text), re.IGNORECASE)
    if match is None or (number := float(match[1])) <= 0:
        raise ConfigError(f'memory is written like "4 GiB" or "500 MB", not {_shown(text)}')
    power = " kmgt".index(match[2].lower()) if match[2] else 0
    size = number * (1024 if match[3] else 1000) ** power
    if size > MOST_MEMORY:
        raise ConfigError(f"memory is at most {MOST_MEMORY >> 40} TiB, not {_shown(text)}")
    return int(size)


def _shown(value: object) -> str:
    """A value as it was given, cut where it is longer than a sentence can hold."""
    shown = json.dumps(value)
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"


# The keys of a team file, taken from the records.


def _schema(title: str, record: type, /, **changes: Any) -> type[BaseModel]:
    """A strict schema with the fields of a dataclass; `changes` replace fields, None removes
    one."""
    hints = get_type_hints(record)
    fields: dict[str, Any] = {}
    for item in dataclasses.fields(record):
        default = ... if item.default is dataclasses.MISSING else item.default
        fields[item.name] = (hints[item.name], default)
    fields.update(changes)
    kept = {key: value for key, value in fields.items() if value is not None}
    strict = ConfigDict(extra="forbid", frozen=True, strict=True, protected_namespaces=())
    model: type[BaseModel] = create_model(title, __config__=strict, **kept)
    return model


_ENDPOINT = {
    "urls": (tuple[str, ...], ()),
    "served_as": (str | None, None),
    "api_key_env": (str | None, None),
}
_LOCAL_KEYS = ("deterministic", "max_batch", "memory", "threads")
_ENGINE_LIMITS = {
    "max_batch": (1, 1 << 16),
    "concurrency": (1, 1 << 16),
    "retries": (0, 1000),
    "threads": (1, 4096),
}
_LONGEST_TIME = 10**7  # seconds, some four months
_HTTP_KEYS = ("urls", "api_key_env", "concurrency", "timeout", "token_timeout", "retries")

_CandidateFile = _schema("Candidate", ModelSpec, name=(str, ...), **_ENDPOINT)
_SwitcherFile = _schema(
    "Switcher",
    ModelSpec,
    kind=(SwitcherKind, "random"),
    model=(str | None, None),
    chat_template=(bool, False),
    sequence=(tuple[str | int, ...], ()),
    path=(str | None, None),
    tokens=(dict[str, int], {}),
    reader=(str | int | None, None),
    candidates=(tuple[str, ...], ()),
    template=(str | None, None),
    prompt=None,
    **_ENDPOINT,
)
_PatchFile = _schema("Patch", PatchRule)
_PolicyFile = _schema(
    "Policy",
    Policy,
    opening=(str | int | None, None),
    closing=(str | int | None, None),
    max_share=(dict[str, float], {}),
    guard=None,
    patch=(_PatchFile | None, None),
)
_GuardFile = _schema(
    "Guard",
    ModelSpec,
    to=(str | int, ...),
    words=(tuple[str, ...], ()),
    patterns=(tuple[str, ...], ()),
    judge=(str | int | None, None),
    question=(str, QUESTION),
    threshold=(float, 0.5),
    model=(str | None, None),
    **_ENDPOINT,
)
_EngineFile = _schema(
    "Engine",
    EngineConfig,
    deterministic=(bool | Literal["auto"], "auto"),
    memory=(str | int | None, None),
    memory_bytes=None,
    urls=_ENDPOINT["urls"],
    api_key_env=_ENDPOINT["api_key_env"],
)
_TeamFile = create_model(
    "Team",
    __config__=ConfigDict(extra="forbid", frozen=True, strict=True),
    candidates=(tuple[_CandidateFile, ...], ...),  # type: ignore[valid-type]
    switcher=(_SwitcherFile, _SwitcherFile()),
    policy=(_PolicyFile, _PolicyFile()),
    guard=(_GuardFile | None, None),  # type: ignore[arg-type]
    engine=(_EngineFile, _EngineFile()),
)


@dataclass(frozen=True)
class _Builder:
    """Turns a validated file into records: names into indices, paths into absolute paths."""

    document: _Document
    team: Any

    def build(self) -> TeamConfig:
        if len(self.team.candidates) < 2:
            self._refuse("a team needs at least two candidates", "candidates")
        if len(self.team.candidates) > MOST_CANDIDATES:
            self._refuse(
                f"a team has at most {MOST_CANDIDATES} candidates, not {len(self.team.candidates)}",
                "candidates",
            )
        if repeated := [name for name in self._names if self._names.count(name) > 1]:
            self._refuse(f"two candidates are named {repeated[0]!r}", "candidates")
        if unnamed := [i for i, name in enumerate(self._names) if not name.strip()]:
            self._refuse("a candidate's name must not be empty", "candidates", unnamed[0], "name")
        candidates = tuple(
            Candidate(
                entry.name,
                self._spec(entry, "candidates", index),
                self._endpoint(entry, "candidates", index),
            )
            for index, entry in enumerate(self.team.candidates)
        )
        judge = self._judge(candidates)
        return TeamConfig(
            candidates=candidates,
            judge=judge,
            switcher=self._switcher(),
            policy=self._policy(judge),
            engine=self._engine(),
            source=self.document.path,
        )

    @property
    def _names(self) -> list[str]:
        return [entry.name for entry in self.team.candidates]

    def _switcher(self) -> SwitcherConfig:
        entry = self.team.switcher
        if (entry.kind == "lm") != (entry.model is not None):
            self._refuse('a switcher has a model exactly when its kind is "lm"', "switcher")
        if (entry.kind == "fixed") != bool(entry.sequence):
            self._refuse('a switcher has a sequence exactly when its kind is "fixed"', "switcher")
        if (entry.kind == "head") != (entry.path is not None):
            self._refuse('a switcher has a path exactly when its kind is "head"', "switcher")
        if (entry.kind == "folded") != bool(entry.tokens):
            self._refuse('a switcher has tokens exactly when its kind is "folded"', "switcher")
        if (entry.kind == "folded") != (entry.reader is not None):
            self._refuse('a switcher has a reader exactly when its kind is "folded"', "switcher")
        if entry.tokens and sorted(entry.tokens) != sorted(self._names):
            known = ", ".join(self._names)
            self._refuse(f"tokens must name every candidate: {known}", "switcher", "tokens")
        if (
            len(set(entry.tokens.values())) < len(entry.tokens)
            or min(entry.tokens.values(), default=0) < 0
        ):
            self._refuse("tokens must be token ids, each another", "switcher", "tokens")
        if entry.candidates and entry.kind != "lm":
            self._refuse('a switcher has candidates only when its kind is "lm"', "switcher")
        if entry.candidates and sorted(entry.candidates) != sorted(self._names):
            self._refuse(
                "candidates must name every candidate, in the order of the switcher's numbers: "
                + ", ".join(self._names),
                "switcher",
                "candidates",
            )
        return SwitcherConfig(
            kind=entry.kind,
            spec=self._spec(entry, "switcher") if entry.model is not None else None,
            chat_template=entry.chat_template,
            sequence=tuple(
                self._index(who, "switcher", "sequence", at)
                for at, who in enumerate(entry.sequence)
            ),
            path=self._locate(entry.path, "switcher", "path") if entry.path is not None else None,
            endpoint=self._endpoint(entry, "switcher"),
            tokens=tuple(entry.tokens[name] for name in self._names) if entry.tokens else (),
            reader=(
                self._index(entry.reader, "switcher", "reader")
                if entry.reader is not None
                else None
            ),
            candidates=entry.candidates,
        )

    def _policy(self, judge: Candidate | None) -> Policy:
        settings = dict(self.team.policy)
        for key in ("opening", "closing"):
            if settings[key] is not None:
                settings[key] = self._index(settings[key], "policy", key)
        settings["max_share"] = tuple(
            (self._index(who, "policy", "max_share", who), share)
            for who, share in settings["max_share"].items()
        )
        if len(settings["max_share"]) == len(self._names):
            self._refuse("somebody must be free to write any share", "policy", "max_share")
        settings["guard"] = self._guard(judge)
        if settings["patch"] is not None:
            try:
                settings["patch"] = PatchRule(**dict(settings["patch"]))
            except ConfigError as error:
                key = str(error).partition(" ")[0].removeprefix("patch.")
                self._refuse(str(error), "policy", "patch", key)
        try:
            return Policy(**settings)
        except ConfigError as error:
            self._refuse(str(error), "policy", str(error).partition(" ")[0])

    def _guard(self, judge: Candidate | None) -> Guard | None:
        entry = self.team.guard
        if entry is None:
            return None
        try:
            return Guard(
                to=self._index(entry.to, "guard", "to"),
                words=entry.words,
                patterns=entry.patterns,
                judge=None if judge is None else judge.name,
                question=entry.question,
                threshold=entry.threshold,
            )
        except ConfigError as error:
            self._refuse(str(error), "guard", str(error).partition(" ")[0].rstrip(":"))

    def _judge(self, candidates: Sequence[Candidate]) -> Candidate | None:
        """The model that a guard asks: one of its own, or a candidate. In this process that has a
        name of its own too, so that its caches as a judge and as a speaker are kept apart."""
        entry = self.team.guard
        if entry is None or (entry.judge is None and entry.model is None):
            return None
        if entry.judge is not None and entry.model is not None:
            self._refuse("a guard has a judge among the candidates or a model, not both", "guard")
        if entry.model is not None:
            return Candidate(JUDGE, self._spec(entry, "guard"), self._endpoint(entry, "guard"))
        chosen = candidates[self._index(entry.judge, "guard", "judge")]
        return chosen if self.team.engine.kind == "http" else replace(chosen, name=JUDGE)

    def _engine(self) -> EngineConfig:
        entry = self.team.engine
        foreign = _LOCAL_KEYS if entry.kind == "http" else _HTTP_KEYS
        for key in foreign:
            if getattr(entry, key) != type(entry).model_fields[key].default:
                other = "local" if entry.kind == "http" else "http"
                self._refuse(f'{key} is for an engine of kind "{other}"', "engine", key)
        for key, (least, most) in _ENGINE_LIMITS.items():
            value = getattr(entry, key)
            if value is not None and not least <= value <= most:
                limits = f"must be at least {least} and at most {most}"
                self._refuse(f"{key} {limits}, not {_shown(value)}", "engine", key)
        for key in ("timeout", "token_timeout"):
            if not 0 < getattr(entry, key) <= _LONGEST_TIME:
                self._refuse(
                    f"{key} must be more than 0 seconds and at most {_LONGEST_TIME}", "engine", key
                )
        try:
            memory = None if entry.memory is None else parse_bytes(entry.memory)
        except ConfigError as error:
            self._refuse(str(error), "engine", "memory")
        deterministic = None if entry.deterministic == "auto" else entry.deterministic
        return EngineConfig(
            kind=entry.kind,
            deterministic=deterministic,
            max_batch=entry.max_batch,
            memory_bytes=memory,
            threads=entry.threads,
            concurrency=entry.concurrency,
            timeout=entry.timeout,
            token_timeout=entry.token_timeout,
            retries=entry.retries,
        )

    def _endpoint(self, entry: Any, *path: str | int) -> Endpoint | None:
        """Where a model is served: its own `urls`, or else the engine's."""
        engine = self.team.engine
        given = [key for key in _ENDPOINT if getattr(entry, key)]
        if engine.kind != "http":
            if given:
                self._refuse(f'{given[0]} needs engine.kind "http"', *path, given[0])
            return None
        if entry.model is None:
            if given:
                self._refuse(f"{given[0]} needs a model", *path, given[0])
            return None
        where: Place = (*path, "urls") if entry.urls else ("engine", "urls")
        urls = tuple(self._url(url, where) for url in entry.urls or engine.urls)
        if not urls:
            self._refuse(
                "which servers? Give it urls, or give the engine urls for all models", *path
            )
        if len(set(urls)) < len(urls):
            self._refuse("the same server is listed twice", *where)
        variable = entry.api_key_env or engine.api_key_env
        if variable and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", variable):
            here = path if entry.api_key_env else ("engine",)
            self._refuse(
                "api_key_env is the name of an environment variable, not the key itself",
                *here,
                "api_key_env",
            )
        return Endpoint(urls, entry.served_as, variable)

    def _url(self, url: str, where: Place) -> str:
        parts = urlsplit(url)
        try:
            whole = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            whole = False
        if not whole or parts.query or parts.fragment:
            self._refuse(f'a server is written like "http://host:8000", not {url!r}', *where)
        if parts.username or parts.password:
            self._refuse("a URL must not hold a password; use api_key_env", *where)
        return url.rstrip("/").removesuffix("/v1")

    def _index(self, who: str | int, *path: str | int) -> int:
        if who in self._names:
            return self._names.index(str(who))
        if not isinstance(who, int) or not 0 <= who < len(self._names):
            known = ", ".join(f"{name} ({index})" for index, name in enumerate(self._names))
            self._refuse(f"there is no candidate {who!r}; the candidates are {known}", *path)
        return who

    def _spec(self, entry: Any, *path: str | int) -> ModelSpec:
        """A model's settings with its paths made absolute. Hub ids are left alone."""
        settings: dict[str, Any] = {
            item.name: getattr(entry, item.name, None) for item in dataclasses.fields(ModelSpec)
        }
        for key in ("model", "adapter", "tokenizer"):
            if settings[key] is not None:
                settings[key] = self._locate(settings[key], *path, key)
        if settings["template"] and settings["template"].endswith(".jinja"):
            settings["template"] = self._read(settings["template"], *path, "template")
        if settings["gguf_file"] is not None:
            self._check_gguf(settings, *path)
        if settings["prompt"] is not None and "{text}" not in settings["prompt"]:
            self._refuse("prompt must contain {text}, where the question goes", *path, "prompt")
        return ModelSpec(**settings)

    def _check_gguf(self, settings: Mapping[str, Any], *path: str | int) -> None:
        """A GGUF file is in the model's folder, and says itself in how many bits it is."""
        folder, name = Path(settings["model"] or ""), settings["gguf_file"]
        if settings["model"] is None:
            self._refuse("gguf_file needs a model: the folder or the hub id with it", *path)
        if folder.is_dir() and not (folder / name).is_file():
            self._refuse(gguf.missing_file(name, folder), *path, "gguf_file")
        if settings["quantization_config"] is not None:
            self._refuse(
                "a model in a GGUF file takes no quantization_config: it is quantised already",
                *path,
                "quantization_config",
            )

    def _locate(self, name: str, *path: str | int) -> str:
        place = self._path(name)
        if place.suffix == ".gguf" and place.is_file():
            self._refuse(
                f"{path[-1]} is the folder or hub id that a GGUF file is in, and gguf_file its "
                f"name: write model: {Path(name).parent} and gguf_file: {place.name}",
                *path,
            )
        if place.exists():
            return str(place)
        if name.startswith((".", "/", "~")) or name.count("/") > 1 or not name:
            what = "head" if path[-1] == "path" else "model"
            self._refuse(f"there is no {what} at {place}", *path)
        return name

    def _read(self, name: str, *path: str | int) -> str:
        try:
            return self._path(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            self._refuse(f"cannot read {self._path(name)}: {error}", *path)

    def _path(self, name: str) -> Path:
        return (self.document.path.parent / Path(name).expanduser()).resolve()

    def _refuse(self, sentence: str, *path: str | int) -> NoReturn:
        raise ConfigError(f"{self.document.where(path)}: {sentence}")


Place = tuple[str | int, ...]


@dataclass
class _Document:
    """A YAML file as plain data, and the line each of its keys stands on."""

    path: Path
    data: dict[str, Any]
    lines: dict[Place, int] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path, what: str = "team file") -> _Document:
        node = read_node(path, what)
        try:
            lines = dict(_lines(path, node)) if node is not None else {}
            data = construct(node)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise invalid(path, error) from error
        if not isinstance(data, dict):
            raise ConfigError(f"{path}: a {what} is a mapping of keys to values")
        return cls(path, {key: value for key, value in data.items() if value is not None}, lines)

    def override(self, key: str, value: object) -> None:
        """Set one value by its dotted path; candidates are reached by name or index."""
        parts = ["policy", key] if key in _PolicyFile.model_fields else key.split(".")
        here: Any = self.data
        place: Place = ()
        for part in parts[:-1]:
            step: str | int = part
            if isinstance(here, list):
                names = [entry.get("name") if isinstance(entry, dict) else None for entry in here]
                step = names.index(part) if part in names else int(part) if part.isdigit() else -1
                if not 0 <= step < len(here):
                    raise ConfigError(
                        f"{self.path}: nothing is called {part!r} in the setting {key!r}"
                    )
                here = here[step]
            elif isinstance(here, dict):
                if here.get(part) is None:
                    here[part] = {}
                here = here[part]
            else:
                break
            place += (step,)
        if not isinstance(here, dict):
            raise ConfigError(f"{self.path}: nothing can be set at {key!r}")
        here[parts[-1]] = value
        self.lines.pop((*place, parts[-1]), None)

    def where(self, place: Sequence[str | int]) -> str:
        """`file:line` of a key, or just the file when the key is not written in it."""
        line = self.lines.get(tuple(place))
        return f"{self.path}:{line}" if line is not None else str(self.path)


def _lines(path: Path, node: yaml.Node, place: Place = ()) -> Iterator[tuple[Place, int]]:
    """The line of every key, from the parsed nodes; refuses a key that is written twice."""
    if isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield (*place, index), value.start_mark.line + 1
            yield from _lines(path, value, (*place, index))
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise ConfigError(f"{path}:{line}: a key must be a word")
            if key.value in seen:
                raise ConfigError(f"{path}:{line}: the key {key.value!r} is written twice")
            seen.add(key.value)
            yield (*place, key.value), line
            yield from _lines(path, value, (*place, key.value))


def _explain(document: _Document, error: ValidationError, keys: Sequence[str] | None = None) -> str:
    """The first thing wrong with a file, in one sentence. `keys` are those of a flat file; None is
    a team file."""
    first = error.errors()[0]
    place: Place = first["loc"]
    if first["type"] == "extra_forbidden":
        *parents, key = place
        valid = keys or _keys(parents)
        inside = f" in {_dotted(parents)}" if parents else ""
        cure = _cure(str(key), valid, anywhere=not parents and keys is None)
        return f"{document.where(place)}: unknown key {str(key)!r}{inside}; {cure}"
    if first["type"] == "missing":
        *parents, key = place
        inside = _dotted(parents) or "the file"
        return f"{document.where(parents)}: {inside} needs the key {str(key)!r}"
    place, value = _existing(document.data, place)
    message = first["msg"].removeprefix("Input ").removeprefix("Value error, ")
    what = _dotted(place) or "the file"
    cure = _number(value) if first["type"] in ("float_type", "int_type") else ""
    return f"{document.where(place)}: {what} {message}, not {_shown(value)}{cure}"


def _cure(key: str, valid: Sequence[str], *, anywhere: bool = False) -> str:
    """Which key was meant: one of these or, `anywhere`, one of the policy's, since a setting of it
    may be named alone."""
    near = get_close_matches(key, valid, n=1, cutoff=0.5)
    if near:
        return f"did you mean {near[0]!r}?"
    if anywhere and (near := get_close_matches(key, _keys(["policy"]), n=1, cutoff=0.5)):
        return f"did you mean {near[0]!r}, a key of policy?"
    return f"the keys are {', '.join(valid)}"


def _number(value: Any) -> str:
    """How to write a number that YAML 1.1 takes for a word, as 1e-1."""
    try:
        number = float(value) if isinstance(value, str) else nan
    except ValueError:
        return ""
    if not isfinite(number):
        return ""
    text = str(int(number)) if number.is_integer() and abs(number) < 1e15 else str(number)
    return f"; write {text if '.' in text else text.replace('e', '.0e')}"  # it asks for the dot


def _keys(parents: Sequence[str | int]) -> list[str]:
    sections = {
        "candidates": _CandidateFile,
        "switcher": _SwitcherFile,
        "policy": _PolicyFile,
        "guard": _GuardFile,
        "engine": _EngineFile,
    }
    model = sections[str(parents[0])] if parents else _TeamFile
    if list(parents) == ["policy", "patch"]:
        model = _PatchFile
    return list(model.model_fields)


def _existing(data: Any, place: Place) -> tuple[Place, Any]:
    """The part of a place that is in the data (a union's place ends in the name of a type), and its
    value."""
    for depth, part in enumerate(place):
        inside = isinstance(data, dict) and part in data
        if not inside and not (isinstance(data, list) and isinstance(part, int)):
            return place[:depth], data
        data = data[part]
    return place, data


def _dotted(place: Sequence[str | int]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(
        "."
    )


def find_team_file(source: str | Path) -> Path:
    """The file that a team is read from: `source`, or the `team.yaml` in it. Raises ConfigError."""
    if source == BUNDLED:
        return Path(str(files("taketurns") / "pocket" / "weights" / "team.yaml"))
    path = Path(source).expanduser()
    if path.is_dir():
        path = path / "team.yaml"
    if not path.is_file():
        raise ConfigError(f'there is no team file {path}; "{BUNDLED}" names the bundled team')
    return path
