"""Parses a harness's generation settings, and refuses unsupported ones by name.

A setting that a team does not follow is accepted with the value that has no effect. A value may be
text ("3"), as in YAML and on command lines.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from taketurns.errors import UsageError

LENGTH_NAMES = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
"""Names of the maximal length of an answer, in tokens; the first one that is set counts."""
WITHOUT_EFFECT: Mapping[str, tuple[Any, ...]] = MappingProxyType(
    {
        "num_beams": (1,),
        "best_of": (0, 1),
        "n": (1,),
        "num_return_sequences": (1,),
        "num_choices": (1,),
        "repetition_penalty": (1,),
        "length_penalty": (1,),
        "frequency_penalty": (0,),
        "presence_penalty": (0,),
        "no_repeat_ngram_size": (0,),
        "min_new_tokens": (0,),
        "top_k": (0, -1),
        "min_p": (0,),
        "typical_p": (1,),
        "early_stopping": (False,),
        "use_cache": (True, False),
        "logprobs": (False, 0),
    }
)
"""Settings that a team does not have, with the values that have no effect."""
SAMPLING = frozenset({"top_k", "min_p", "typical_p"})
"""Settings without effect on a greedy answer."""


def check_settings(
    settings: Mapping[str, Any], followed: Iterable[str], where: str, *, greedy: bool
) -> None:
    """Raise UsageError, which names `where`, for a setting that is neither `followed` nor without
    effect."""
    for key, value in settings.items():
        if key in followed or value is None or (greedy and key in SAMPLING):
            continue
        allowed = WITHOUT_EFFECT.get(key, ())
        if value not in allowed:
            cure = f" or set it to {allowed[0]}" if allowed else ""
            raise UsageError(
                f"{where}: a team does not follow the generation setting {key}={value!r}; remove "
                f"it{cure}"
            )


def max_length(settings: Mapping[str, Any], where: str) -> int | None:
    """The maximal length in tokens, by any of its names; None if it is not set."""
    for name in LENGTH_NAMES:
        if settings.get(name) is not None:
            return parse_int(settings[name], name, where, least=1)
    return None


def parse_int(value: Any, name: str, where: str, *, least: int | None = None) -> int:
    """A whole number. Raises UsageError for anything else, and for less than `least`."""
    try:
        number = int(value) if not isinstance(value, float) or value.is_integer() else None
    except (TypeError, ValueError):
        number = None
    if number is None or isinstance(value, bool) or (least is not None and number < least):
        bound = "" if least is None else f" of at least {least}"
        raise UsageError(f"{where}: {name} must be a whole number{bound}, not {value!r}")
    return number


def parse_float(value: Any, name: str, where: str) -> float:
    """A number. Raises UsageError for anything else."""
    try:
        if not isinstance(value, bool):
            return float(value)
    except (TypeError, ValueError):
        pass
    raise UsageError(f"{where}: {name} must be a number, not {value!r}")


def parse_bool(value: Any, name: str, where: str) -> bool:
    """True or false. Raises UsageError for anything else."""
    known = {"true": True, "false": False, "1": True, "0": False}
    if (result := known.get(str(value).casefold())) is None:
        raise UsageError(f"{where}: {name} must be true or false, not {value!r}")
    return result
