"""From a checked team file to records: names become indices, relative paths become absolute."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

from taketurns.checkpoints import gguf
from taketurns.config.answer_format import read_format
from taketurns.config.own_parts import OwnPart
from taketurns.config.pair_rules import BacoRule, DeferralRule, MentorRule, NudgingRule, PairRule
from taketurns.config.policy import Guard, PatchRule, Policy
from taketurns.config.sampling import check_sampling
from taketurns.config.schema import ENDPOINT
from taketurns.config.settings import parse_bytes, shortened
from taketurns.config.team_config import JUDGE, EngineConfig, SwitcherConfig, TeamConfig
from taketurns.config.yaml_document import Place, YamlDocument
from taketurns.errors import ConfigError
from taketurns.types import Candidate, Endpoint, ModelSpec, SamplingOptions

MOST_CANDIDATES = 64
_KINDS_OF_KEY: Mapping[str, tuple[str, ...]] = {  # the kinds of engine that have a key
    **dict.fromkeys(("deterministic", "max_batch", "threads", "parallel"), ("local",)),
    **dict.fromkeys(
        ("urls", "api_key_env", "concurrency", "timeout", "token_timeout", "retries"), ("http",)
    ),
    "memory": ("local", "vllm"),
    **dict.fromkeys(("open_requests", "vllm"), ("vllm",)),
}
_ENGINE_LIMITS = {
    "max_batch": (1, 1 << 16),
    "concurrency": (1, 1 << 16),
    "retries": (0, 1000),
    "threads": (1, 4096),
    "parallel": (1, MOST_CANDIDATES),
}
_ENGINE_FIELDS = {item.name for item in dataclasses.fields(EngineConfig)}
_LONGEST_TIME = 10**7  # seconds, some four months
_KEY_OF_KINDS: Mapping[str, tuple[str, ...]] = {  # a key of a switcher, and the kinds that have it
    "model": ("lm", "fusionroute"),
    "sequence": ("fixed",),
    "path": ("head", "deferral", "mentorcollab", "fusionroute"),
    "tokens": ("folded",),
    "reader": ("folded",),
    "candidates": ("lm",),
    "prompt": ("fusionroute",),
}
_OPTIONAL = {  # without a trained judge the writer judges
    ("mentorcollab", "path"),
    ("lm", "candidates"),
    ("fusionroute", "prompt"),
}
_PAIR_KEYS: Mapping[str, tuple[str, ...]] = {  # the kinds of switcher for two candidates
    "nudging": ("base", "gamma"),
    "baco": ("base", "gamma", "uncertainty", "content"),
    "mentorcollab": ("base", "rate", "lookahead"),
    "deferral": ("threshold",),
}
_PAIR_RULES: Mapping[str, type[PairRule]] = {
    "nudging": NudgingRule,
    "baco": BacoRule,
    "mentorcollab": MentorRule,
    "deferral": DeferralRule,
}


@dataclass(frozen=True)
class TeamResolver:
    """Makes the records of a file that its schema accepts; refuses what a schema cannot check."""

    document: YamlDocument
    team: Any
    parts: Mapping[str, OwnPart] = field(default_factory=dict)

    def resolve(self) -> TeamConfig:
        """The team. Raises ConfigError."""
        if len(self.team.candidates) < 2:
            self._refuse(
                f"a team needs at least two candidates, not {len(self.team.candidates)}",
                "candidates",
            )
        if len(self.team.candidates) > MOST_CANDIDATES:
            self._refuse(
                f"a team has at most {MOST_CANDIDATES} candidates, not {len(self.team.candidates)}",
                "candidates",
            )
        if repeated := [name for name in self._names if self._names.count(name) > 1]:
            self._refuse(
                f"two candidates are named {repeated[0]!r}: rename one of them", "candidates"
            )
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

    @cached_property
    def _names(self) -> list[str]:
        return [entry.name for entry in self.team.candidates]

    def _switcher(self) -> SwitcherConfig:
        if (part := self.parts.get("switcher")) is not None:
            return SwitcherConfig(kind=part.kind, settings=part.settings)
        entry = self.team.switcher
        for key, kinds in _KEY_OF_KINDS.items():
            allowed, given = entry.kind in kinds, getattr(entry, key) not in (None, (), {})
            if allowed != given and (entry.kind, key) not in _OPTIONAL:
                every = " or ".join(f'"{kind}"' for kind in kinds)
                self._refuse(
                    f'a switcher of kind "{entry.kind}" needs the key {key}'
                    if allowed
                    else f"{key} is a key of kind {every}, but this switcher has the kind "
                    f'"{entry.kind}": remove {key}, or change the kind',
                    "switcher",
                )
        if entry.tokens and sorted(entry.tokens) != sorted(self._names):
            known = ", ".join(self._names)
            self._refuse(f"tokens must name every candidate: {known}", "switcher", "tokens")
        if (
            len(set(entry.tokens.values())) < len(entry.tokens)
            or min(entry.tokens.values(), default=0) < 0
        ):
            self._refuse("tokens must be different token ids, each 0 or more", "switcher", "tokens")
        if entry.candidates and sorted(entry.candidates) != sorted(self._names):
            self._refuse(
                "candidates must name each candidate once, in the order of the switcher's numbers: "
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
            pair=self._pair(entry),
        )

    def _pair(self, entry: Any) -> PairRule | None:
        """The settings of a switcher for two candidates; None for other kinds."""
        known = _PAIR_KEYS.get(entry.kind, ())
        every = dict.fromkeys(key for keys in _PAIR_KEYS.values() for key in keys)
        given = {key: value for key in every if (value := getattr(entry, key)) is not None}
        for key in given:
            if key not in known:
                kinds = " or ".join(f'"{kind}"' for kind, keys in _PAIR_KEYS.items() if key in keys)
                self._refuse(
                    f"{key} is a key of kind {kinds}, but this switcher has the kind "
                    f'"{entry.kind}": remove {key}, or change the kind',
                    "switcher",
                    key,
                )
        if not known:
            return None
        if len(self._names) != 2:
            self._refuse(
                f'a switcher of kind "{entry.kind}" is for two candidates, not {len(self._names)}: '
                "name two candidates, or change the kind",
                "switcher",
                "kind",
            )
        if "base" in given:
            given["base"] = self._index(given["base"], "switcher", "base")
        with self._located("switcher"):
            return _PAIR_RULES[entry.kind](**given)

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
            self._refuse(
                f"max_share caps all {len(self._names)} candidates: leave out at least one of "
                "them, so that it can always write",
                "policy",
                "max_share",
            )
        settings["guard"] = self._guard(judge)
        if settings["patch"] is not None:
            with self._located("policy", "patch"):
                settings["patch"] = PatchRule(**dict(settings["patch"]))
        with self._located("policy", "format"):
            settings["format"] = read_format(settings["format"])
        if settings["sampling"] is not None:
            options = dict(settings["sampling"])
            options["logit_bias"] = tuple(options["logit_bias"].items())
            settings["sampling"] = SamplingOptions(**options)
            with self._located("policy", "sampling"):
                check_sampling(settings["sampling"])
        with self._located("policy"):
            return Policy(**settings)

    def _guard(self, judge: Candidate | None) -> Guard | None:
        entry = self.team.guard
        if entry is None:
            return None
        to = self._index(entry.to, "guard", "to")
        judge_name = None if judge is None else judge.name
        with self._located("guard"):
            return Guard(
                to, entry.words, entry.patterns, judge_name, entry.question, entry.threshold
            )

    def _judge(self, candidates: Sequence[Candidate]) -> Candidate | None:
        """The model that a guard asks: the guard's own model, or a candidate. In this process a
        candidate gets a second name as the judge, so that its caches as a judge and as a speaker
        are kept apart."""
        entry = self.team.guard
        if entry is None or (entry.judge is None and entry.model is None):
            return None
        if entry.judge is not None and entry.model is not None:
            self._refuse(
                "a guard has the key judge (a candidate) or model (another model), not both: "
                "remove one of them",
                "guard",
            )
        if entry.model is not None:
            return Candidate(JUDGE, self._spec(entry, "guard"), self._endpoint(entry, "guard"))
        chosen = candidates[self._index(entry.judge, "guard", "judge")]
        return chosen if self.team.engine.kind == "http" else replace(chosen, name=JUDGE)

    def _engine(self) -> EngineConfig:
        if (part := self.parts.get("engine")) is not None:
            return EngineConfig(kind=part.kind, settings=part.settings)
        entry = self.team.engine
        for key, kinds in _KINDS_OF_KEY.items():
            default = type(entry).model_fields[key].default
            if entry.kind not in kinds and getattr(entry, key) != default:
                others = " and ".join(f'"{kind}"' for kind in kinds)
                self._refuse(
                    f"{key} is a key of kind {others}, but this engine has the kind "
                    f'"{entry.kind}": remove {key}, or change the kind',
                    "engine",
                    key,
                )
        for key, (least, most) in _ENGINE_LIMITS.items():
            value = getattr(entry, key)
            if value is not None and not least <= value <= most:
                limits = f"must be at least {least} and at most {most}"
                self._refuse(f"{key} {limits}, not {shortened(value)}", "engine", key)
        for key in ("timeout", "token_timeout"):
            if not 0 < getattr(entry, key) <= _LONGEST_TIME:
                self._refuse(
                    f"{key} must be more than 0 seconds and at most {_LONGEST_TIME}, not "
                    f"{getattr(entry, key)}",
                    "engine",
                    key,
                )
        with self._located("engine"):
            memory = None if entry.memory is None else parse_bytes(entry.memory)
        settings = {key: value for key, value in entry if key in _ENGINE_FIELDS}
        for key in ("deterministic", "open_requests"):
            if settings[key] == "auto":
                settings[key] = None
        return EngineConfig(**settings, memory_bytes=memory)

    def _endpoint(self, entry: Any, *path: str | int) -> Endpoint | None:
        """Where a model is served: its own `urls` if it has them, else the engine's."""
        engine = self.team.engine
        set_keys = [key for key in ENDPOINT if getattr(entry, key)]
        if engine.kind != "http":
            if set_keys:
                self._refuse(f'{set_keys[0]} needs engine.kind "http"', *path, set_keys[0])
            return None
        if entry.model is None:
            if set_keys:
                self._refuse(
                    f"{set_keys[0]} needs the key model beside it, or remove {set_keys[0]}",
                    *path,
                    set_keys[0],
                )
            return None
        where: Place = (*path, "urls") if entry.urls else ("engine", "urls")
        urls = tuple(self._url(url, where) for url in entry.urls or engine.urls)
        if not urls:
            self._refuse(
                "no server for this model: give it urls, or give the engine urls for all models",
                *path,
            )
        if repeated := [url for url in urls if urls.count(url) > 1]:
            self._refuse(f"the server {repeated[0]} is listed twice: remove one entry", *where)
        variable = entry.api_key_env or engine.api_key_env
        if variable and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", variable):
            here = path if entry.api_key_env else ("engine",)
            self._refuse(
                "api_key_env must be the name of an environment variable, not the key itself",
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
        """A model's settings with absolute paths. Hub ids stay as they are."""
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
        if settings["vllm"] and self.team.engine.kind != "vllm":
            self._refuse('vllm needs engine.kind "vllm"', *path, "vllm")
        if settings["prompt"] is not None and "{text}" not in settings["prompt"]:
            self._refuse("prompt must contain {text}, where the question goes", *path, "prompt")
        return ModelSpec(**settings)

    def _check_gguf(self, settings: Mapping[str, Any], *path: str | int) -> None:
        """Refuse a GGUF file that is not in the model's folder, and settings for its precision: the
        file determines that."""
        folder, name = Path(settings["model"] or ""), settings["gguf_file"]
        if settings["model"] is None:
            self._refuse(
                "gguf_file needs the key model, the folder or hub id that holds the file", *path
            )
        if folder.is_dir() and not (folder / name).is_file():
            self._refuse(gguf.missing_file(name, folder), *path, "gguf_file")
        if settings["quantization_config"] is not None:
            self._refuse(
                "a GGUF file is quantised already: remove quantization_config",
                *path,
                "quantization_config",
            )

    def _locate(self, name: str, *path: str | int) -> str:
        place = self._path(name)
        if place.suffix == ".gguf" and place.is_file():
            self._refuse(
                f"{path[-1]} must be the folder or hub id of a GGUF file, and gguf_file the "
                f"file's name: write model: {Path(name).parent} and gguf_file: {place.name}",
                *path,
            )
        if place.exists():
            return str(place)
        if name.startswith((".", "/", "~")) or name.count("/") > 1 or not name:
            what = "model"
            if path[-1] == "path":
                what = "judge" if self.team.switcher.kind == "mentorcollab" else "head"
            self._refuse(
                f"there is no {what} at {place}: {path[-1]} must be a hub id, or relative to this "
                "file",
                *path,
            )
        return name

    def _read(self, name: str, *path: str | int) -> str:
        try:
            return self._path(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            self._refuse(f"cannot read {self._path(name)}: {error}", *path)

    def _path(self, name: str) -> Path:
        return (self.document.path.parent / Path(name).expanduser()).resolve()

    @contextmanager
    def _located(self, *section: str) -> Iterator[None]:
        """Put the file and the line in front of a record's error, which begins with the key."""
        try:
            yield
        except ConfigError as error:
            key = str(error).partition(" ")[0].rstrip(":").removeprefix(f"{section[-1]}.")
            place = (*section, key)
            self._refuse(str(error), *(place if place in self.document.lines else section))

    def _refuse(self, sentence: str, *path: str | int) -> NoReturn:
        raise ConfigError(f"{self.document.where(path)}: {sentence}")
