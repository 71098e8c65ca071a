"""The block `policy.sampling` of a team file: its limits, and how it is written down.

The names and limits are those of vLLM's sampling parameters. A repetition penalty has narrower
ones here: beyond them its products are beyond float32, and no token could be drawn.
"""

from __future__ import annotations

import dataclasses
from math import isfinite
from typing import Any

from taketurns.errors import ConfigError
from taketurns.types import SamplingOptions

BIAS = 100.0
PENALTY = 2.0
REPETITION = (0.01, 100.0)
MOST_TOKENS = 1 << 30  # no context is as long, and no vocabulary as large

_require = ConfigError.unless


def check_sampling(options: SamplingOptions) -> None:
    """Raise ConfigError for a value beyond its limits; the message begins with
    `sampling.NAME`."""
    _require(
        -1 <= options.top_k <= MOST_TOKENS,
        f"sampling.top_k must be at least 1, or 0 for all tokens, not {options.top_k}",
    )
    _require(
        0 <= options.min_p <= 1, f"sampling.min_p must be between 0 and 1, not {options.min_p}"
    )
    for name in ("presence_penalty", "frequency_penalty"):
        value = getattr(options, name)
        _require(
            -PENALTY <= value <= PENALTY,
            f"sampling.{name} must be between -{PENALTY:g} and {PENALTY:g}, not {value}",
        )
    least, most = REPETITION
    _require(
        least <= options.repetition_penalty <= most,
        f"sampling.repetition_penalty must be between {least:g} and {most:g} (1 changes nothing), "
        f"not {options.repetition_penalty}",
    )
    for token, bias in options.logit_bias:
        _require(
            0 <= token <= MOST_TOKENS,
            f"sampling.logit_bias must have token ids, which are 0 or more, not {token}",
        )
        _require(
            isfinite(bias) and abs(bias) <= BIAS,
            f"sampling.logit_bias of token {token} must be between -{BIAS:g} and {BIAS:g}, "
            f"not {bias}",
        )
    tokens = [token for token, _ in options.logit_bias]
    _require(len(set(tokens)) == len(tokens), "sampling.logit_bias must list each token once")
    _require(
        0 <= options.min_tokens <= MOST_TOKENS,
        f"sampling.min_tokens must be 0 or more, not {options.min_tokens}",
    )
    for token in options.stop_token_ids:
        _require(
            0 <= token <= MOST_TOKENS,
            f"sampling.stop_token_ids must be 0 or more, not {token}",
        )


def canonical(options: SamplingOptions | None) -> SamplingOptions | None:
    """The one form of options that ask for the same: None where they ask for nothing."""
    if options is None:
        return None
    options = dataclasses.replace(
        options,
        top_k=max(options.top_k, 0),  # vLLM takes -1 for all tokens too
        logit_bias=tuple(sorted((t, float(b)) for t, b in options.logit_bias if b)),
        stop_token_ids=tuple(sorted(set(options.stop_token_ids))),
    )
    return None if options == SamplingOptions() else options


def sampling_entry(options: SamplingOptions | None) -> dict[str, Any]:
    """The keys of the block in a team file; what changes nothing is left out."""
    entry: dict[str, Any] = {}
    for item in dataclasses.fields(SamplingOptions):
        value = item.default if options is None else getattr(options, item.name)
        if value != item.default:
            entry[item.name] = list(value) if isinstance(value, tuple) else value
    if "logit_bias" in entry:
        entry["logit_bias"] = dict(entry["logit_bias"])
    return entry
