"""The costs of serving a model, measured on one server (`benchmarks/servers/calibrate.py`)."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Any

from taketurns.errors import DataError

BUNDLED = ("pocket-cpu", "8b-h100")


@dataclass(frozen=True, slots=True)
class Costs:
    """The costs of one server of a model; all times are in seconds.

    `decode` has pairs (sequences in a step, seconds of the step), interpolated linearly. A step
    takes `prefill` more for each prompt token that it reads, and `context` more for each token of
    the answers that it continues. A request takes `request` and each token takes `token` of the
    server's front end (HTTP, text), and a request takes `client` of the client process; `network`
    is the latency in one direction. `block` (tokens of a cache block), `cache` (tokens of keys and
    values), `sequences` and `budget` (tokens of a step) are the server's limits; without `chunked`
    a prompt is read in one step. `about` is the origin of the numbers. Raises ValueError for values
    out of range.
    """

    about: str
    decode: tuple[tuple[int, float], ...]
    prefill: float
    context: float = 0.0
    request: float = 0.0
    token: float = 0.0
    client: float = 0.0
    network: float = 0.0
    block: int = 16
    cache: int = 400_000
    sequences: int = 256
    budget: int = 8192
    chunked: bool = True

    def __post_init__(self) -> None:
        sizes = [sequences for sequences, _ in self.decode]
        if not sizes or sizes != sorted(set(sizes)) or sizes[0] < 1:
            raise ValueError(
                f"decode must list increasing numbers of sequences, from 1 on, not {sizes}"
            )
        if min(self.block, self.cache, self.sequences, self.budget) < 1:
            raise ValueError("block, cache, sequences and budget must be at least 1")
        times = [seconds for _, seconds in self.decode]
        others = (self.prefill, self.context, self.request, self.token, self.client, self.network)
        if not all(0 <= seconds < float("inf") for seconds in (*times, *others)):
            raise ValueError("all times must be finite and 0 or more")

    def step(self, sequences: int, read: int, context: int) -> float:
        """Seconds of a step with `sequences` answers of `context` tokens together, which reads
        `read` prompt tokens."""
        return self._decode(sequences) + self.prefill * read + self.context * context

    def _decode(self, sequences: int) -> float:
        if len(self.decode) == 1:
            return self.decode[0][1]
        sizes = [size for size, _ in self.decode]
        right = min(max(bisect_left(sizes, sequences), 1), len(sizes) - 1)
        (low, fast), (high, slow) = self.decode[right - 1], self.decode[right]
        return max(0.0, fast + (slow - fast) * (sequences - low) / (high - low))


def load_costs(source: str | Path) -> Costs:
    """Costs by the name of a bundled file, or from a file. Raises DataError."""
    if source in BUNDLED:
        text = (files(__package__) / "costs" / f"{source}.json").read_text("utf-8")
    else:
        try:
            text = Path(source).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8"
            names = " and ".join(BUNDLED)
            raise DataError(
                f"cannot read the costs {source}: {reason}; {names} are bundled"
            ) from error
    try:
        return read_costs(json.loads(text))
    except (ValueError, TypeError) as error:
        raise DataError(f"{source}: {error}") from error


def read_costs(data: Any) -> Costs:
    """Costs from their JSON object. Raises ValueError for anything else."""
    if not isinstance(data, Mapping):
        raise ValueError("costs must be a JSON object")
    known = {field.name: field for field in fields(Costs)}
    for key, value in data.items():
        if key not in known:
            near = get_close_matches(str(key), known, n=1, cutoff=0.5)
            cure = f"did you mean {near[0]!r}?" if near else f"the keys are {', '.join(known)}"
            raise ValueError(f"unknown key {key!r}; {cure}")
        if not _fits(value, str(known[key].type)):
            raise ValueError(f"{key} has the wrong type: {json.dumps(value)}")
    if missing := [key for key in ("about", "decode", "prefill") if key not in data]:
        raise ValueError(f"{missing[0]} is missing")
    return Costs(**{**data, "decode": tuple((int(size), float(s)) for size, s in data["decode"])})


def _fits(value: Any, kind: str) -> bool:
    """Whether a JSON value fits a field of the type `kind`."""
    if kind in ("bool", "str", "int"):
        return type(value).__name__ == kind
    if kind == "float":
        return type(value) in (int, float)
    return isinstance(value, list) and all(
        isinstance(pair, list) and list(map(type, pair)) in ([int, int], [int, float])
        for pair in value
    )
