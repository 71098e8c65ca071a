"""How a team is served: every setting of `taketurns serve`, with its default.

The keys of a `--config` file are the fields of `ServeConfig`; docs/serving.md lists them.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from taketurns.config.loading import load_settings
from taketurns.errors import ConfigError, UsageError

_require = ConfigError.unless

KEY_VARIABLE = "TAKETURNS_API_KEY"

_ANYBODY = {"*", "null"}  # files are "null", and so is what any site shows in a sandbox
_ORIGIN = re.compile(  # as browsers send it
    r"(?!http:.*:80$|https:.*:443$)[a-z][a-z0-9+.-]*://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]+)?"
)
_LIMITS = {
    "max_running": (1, 1 << 16),
    "max_waiting": (0, 1 << 16),
    "max_body": (1, 1 << 30),
    "max_tokens": (1, 1 << 30),
    "max_choices": (1, 1 << 10),
}
_LONGEST_TIME = 10**7  # seconds, some four months
_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?")


@dataclass(frozen=True, slots=True)
class ServeConfig:
    """Times are in seconds, sizes in bytes.

    `name` is the team's in /v1/models, `api_keys` are the keys that clients may use (empty: no key
    is needed), `cors` the origins of other sites whose pages may ask. `allowed_hosts` are names,
    beside localhost and plain addresses, under which a server that listens on the loopback and
    needs no key may be called. `examples` are questions that the page offers.
    `max_running` answers are written at a time, if the engine has memory for so many, and
    `max_waiting` wait for that; a request with `n` choices counts as many answers. `timeout` bounds
    a request with its waiting, `stall` how long a client may not read, or take to send a request,
    `drain` how long answers under way may still take after SIGTERM.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    name: str | None = None
    api_keys: tuple[str, ...] = ()
    cors: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    page: bool = True
    examples: tuple[str, ...] = ()
    open_metrics: bool = False
    traces: bool = False
    log_text: bool = False
    max_running: int = 256
    max_waiting: int = 512
    timeout: float = 600.0
    stall: float = 60.0
    drain: float = 30.0
    max_body: int = 1 << 20
    max_prompt_tokens: int | None = None
    max_tokens: int = 4096
    max_choices: int = 16

    def __post_init__(self) -> None:
        _require(0 <= self.port < 65536, f"port must be from 0 to 65535, not {self.port}")
        for what, (least, most) in _LIMITS.items():
            _require(
                least <= getattr(self, what) <= most,
                f"{what} must be at least {least} and at most {most}",
            )
        _require(
            self.max_prompt_tokens is None or self.max_prompt_tokens >= 1,
            "max_prompt_tokens must be at least 1, or null for the models' own limit",
        )
        for what in ("timeout", "stall"):
            _require(
                0 < getattr(self, what) <= _LONGEST_TIME,
                f"{what} must be more than 0 seconds and at most {_LONGEST_TIME}",
            )
        _require(
            0 <= self.drain <= _LONGEST_TIME, f"drain must be from 0 to {_LONGEST_TIME} seconds"
        )
        _require(all(self.api_keys), "an API key must not be empty")
        _require(all(key.isascii() for key in self.api_keys), "an API key must be plain ASCII")
        _require(
            all(key.isprintable() and key == key.strip() for key in self.api_keys),
            "an API key must not begin or end with a blank, nor have a line break in it",
        )
        for origin in self.cors:
            _require(
                origin in _ANYBODY or _ORIGIN.fullmatch(origin) is not None,
                f"cors: no page comes from {origin!r}: an origin is as https://example.org or "
                "http://localhost:3000, in small letters, without a path or its scheme's own port",
            )
        _require(
            not (_ANYBODY & set(self.cors) and self.api_keys),
            'cors must name its origins where there are API keys; "*" would let every site in, and '
            '"null" too',
        )
        for name in self.allowed_hosts:
            _require(
                _NAME.fullmatch(name) is not None,
                f"allowed_hosts: nobody calls a server {name!r}: a name is as team.example.org, "
                'without scheme or port, and "*" is not one',
            )

    @property
    def most_choices(self) -> int:
        """Of a request: with more than can be written and wait it would be turned away for ever."""
        return min(self.max_choices, self.max_running + self.max_waiting)


def read_settings(
    path: Path | None, *, api_keys: list[str] | None = None, **options: Any
) -> ServeConfig:
    """Settings from `options` (those that are not None), else from the YAML file at `path`, else
    the defaults. Keys come from `api_keys`, else the file, else the environment.

    Raises UsageError for an empty variable, ConfigError for a file or a value that is wrong.
    """
    settings = ServeConfig() if path is None else load_settings(path, ServeConfig, "serve file")
    keys = tuple(api_keys or ()) or settings.api_keys
    if not keys and (key := os.environ.get(KEY_VARIABLE)) is not None:
        if not key.strip():
            raise UsageError(
                f"the variable {KEY_VARIABLE} is empty: give it a key, or unset it to serve without"
            )
        keys = (key,)
    changes = {key: value for key, value in options.items() if value is not None}
    return replace(settings, **changes, api_keys=keys)


def default_name(team: str) -> str:
    """The name of a team that is given as a file: the file's, or that of the folder of a
    `team.yaml`."""
    path = Path(team).absolute()
    return path.parent.name if path.name == "team.yaml" else path.stem
