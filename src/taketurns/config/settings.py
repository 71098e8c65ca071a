"""Single settings as users write them: `KEY=VALUE` of `--set`, and an amount of memory."""

from __future__ import annotations

import json
import re

import yaml

from taketurns.config.yaml_source import compose, construct
from taketurns.errors import ConfigError, one_line

MOST_MEMORY = 1 << 50  # bytes
_MOST_SHOWN = 200  # characters of a wrong value


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
        raise ConfigError(
            f"cannot read the value in {shortened(text)}: {one_line(error)}"
        ) from error


def parse_bytes(text: str | int) -> int:
    """`"4 GiB"`, `"500 MB"` or a number of bytes. Raises ConfigError."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(?:([kmgt])(i?)b?|b)?\s*", str(text), re.IGNORECASE)
    if match is None or (number := float(match[1])) <= 0:
        raise ConfigError(f'memory is written like "4 GiB" or "500 MB", not {shortened(text)}')
    power = " kmgt".index(match[2].lower()) if match[2] else 0
    size = number * (1024 if match[3] else 1000) ** power
    if size > MOST_MEMORY:
        raise ConfigError(f"memory is at most {MOST_MEMORY >> 40} TiB, not {shortened(text)}")
    return int(size)


def shortened(value: object) -> str:
    """A value as JSON, cut to a length that fits a sentence."""
    text = json.dumps(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"
