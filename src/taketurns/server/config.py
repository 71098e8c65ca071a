"""Every setting of `taketurns serve`, with its default.

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

_ANYBODY = {"*", "null"}  # local files are "null", and so are sandboxed frames of any site
_ORIGIN = re.compile(  # the form that browsers send
    r"(?!http:.*:80$|https:.*:443$)[a-z][a-z0-9+.-]*://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]+)?"
)
_LIMITS = {
    "max_running": (1, 1 << 16),
    "max_waiting": (0, 1 << 16),
    "max_body": (1, 1 << 30),
    "max_tokens": (1, 1 << 30),
    "max_choices": (1, 1 << 10),
    "stored_responses": (0, 1 << 20),
    "stored_bytes": (0, 1 << 40),
}
_LONGEST_TIME = 10**7  # seconds, some four months
_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?")


@dataclass(frozen=True, slots=True)
class ServeConfig:
    """Times are in seconds, sizes in bytes.

    `name` is the team's name in /v1/models. `api_keys` are the valid keys (empty: no key is
    needed). `cors` has the origins of other sites whose pages may send requests. `allowed_hosts`
    are host names that are allowed besides localhost and plain addresses, on a server that listens
    on the loopback and needs no key. `examples` are questions that the page offers.

    Up to `max_running` answers are written at a time, if the engine has memory for them, and up to
    `max_waiting` more wait; a request with `n` choices counts as `n` answers. `timeout` limits a
    request, with its time in the queue. `stall` limits the time in which a client reads nothing or
    sends its request. `drain` limits the time for running answers after SIGTERM. So many
    `stored_responses` of /v1/responses, of so many `stored_bytes`, are kept in memory.
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
    stored_responses: int = 1000
    stored_bytes: int = 1 << 26

    def __post_init__(self) -> None:
        _require(0 <= self.port < 65536, f"port must be from 0 to 65535, not {self.port}")
        for what, (least, most) in _LIMITS.items():
            _require(
                least <= getattr(self, what) <= most,
                f"{what} must be at least {least} and at most {most}, not {getattr(self, what)}",
            )
        _require(
            self.max_prompt_tokens is None or self.max_prompt_tokens >= 1,
            f"max_prompt_tokens must be at least 1, or null for the models' own limit, not "
            f"{self.max_prompt_tokens}",
        )
        for what in ("timeout", "stall"):
            _require(
                0 < getattr(self, what) <= _LONGEST_TIME,
                f"{what} must be more than 0 seconds and at most {_LONGEST_TIME}, not "
                f"{getattr(self, what)}",
            )
        _require(
            0 <= self.drain <= _LONGEST_TIME,
            f"drain must be from 0 to {_LONGEST_TIME} seconds, not {self.drain}",
        )
        _require(all(self.api_keys), "an API key must not be empty")
        _require(all(key.isascii() for key in self.api_keys), "an API key must be plain ASCII")
        _require(
            all(key.isprintable() and key == key.strip() for key in self.api_keys),
            "an API key must not begin or end with a space, and must have no line break",
        )
        for origin in self.cors:
            _require(
                origin in _ANYBODY or _ORIGIN.fullmatch(origin) is not None,
                f"cors: {origin!r} is not an origin: write it like https://example.org or "
                "http://localhost:3000, in lower case, without a path or the scheme's default port",
            )
        _require(
            not (_ANYBODY & set(self.cors) and self.api_keys),
            'cors must list origins if there are API keys: "*" and "null" would admit every site',
        )
        for name in self.allowed_hosts:
            _require(
                _NAME.fullmatch(name) is not None,
                f"allowed_hosts: {name!r} is not a host name: write it like team.example.org, "
                'without a scheme or port; "*" is not allowed',
            )

    @property
    def most_choices(self) -> int:
        """The most choices of a request. A request with more answers than can run and wait together
        would always be refused."""
        return min(self.max_choices, self.max_running + self.max_waiting)


def read_settings(
    path: Path | None, *, api_keys: list[str] | None = None, **options: Any
) -> ServeConfig:
    """Settings from `options` (those that are not None), else from the YAML file at `path`, else
    the defaults. API keys come from `api_keys`, else from the file, else from the environment.

    Raises UsageError for an empty variable, ConfigError for a wrong file or value.
    """
    settings = ServeConfig() if path is None else load_settings(path, ServeConfig, "serve file")
    keys = tuple(api_keys or ()) or settings.api_keys
    if not keys and (key := os.environ.get(KEY_VARIABLE)) is not None:
        if not key.strip():
            raise UsageError(
                f"the variable {KEY_VARIABLE} is empty: set it to a key, or unset it to serve "
                "without one"
            )
        keys = (key,)
    changes = {key: value for key, value in options.items() if value is not None}
    return replace(settings, **changes, api_keys=keys)


def default_name(team: str) -> str:
    """The name of a team from its file: the file's name, or for `team.yaml` its folder's name."""
    path = Path(team).absolute()
    return path.parent.name if path.name == "team.yaml" else path.stem
