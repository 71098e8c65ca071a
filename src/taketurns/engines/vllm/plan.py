"""Which models share an engine, and what memory each engine has.

The sizes come from files and from the configurations that vLLM makes of its arguments, so a team
that does not fit is refused before anything is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from taketurns.errors import CapacityError
from taketurns.types import Candidate

_PROCESS = 1 << 30  # bytes: the libraries in an engine's processes on a CPU
_CPU_SHARE = 0.5  # of the memory that is free beside weights and processes
_GPU_SHARE = 0.9  # of a GPU's memory, for all its engines together
_MOST_ANSWERS = 64  # of full length: the most for which memory is taken unasked
_GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class EnginePlan:
    """One engine: the models that it runs, and the `further` arguments that the team file gives it.
    The models differ only in their adapters, or not at all."""

    models: tuple[Candidate, ...]
    further: Mapping[str, Any]

    @property
    def names(self) -> str:
        """The models' names, for messages."""
        return ", ".join(model.name for model in self.models)

    @property
    def adapted(self) -> tuple[Candidate, ...]:
        """The models with an adapter."""
        return tuple(model for model in self.models if model.spec.adapter is not None)


@dataclass(frozen=True, slots=True)
class EngineNeed:
    """What an engine needs: `weights` bytes (None: unknown), `token` bytes for the keys and values
    of a token, for prompts and continuations of up to `context` tokens. `device` is a GPU's index,
    or "cpu". `bounded`: a token may need less, as with sliding windows, or the team file says what
    memory the engine has, so that a lack of it is for vLLM to find."""

    names: str
    weights: int | None
    token: int
    context: int
    device: int | str
    bounded: bool = False


def plan_engines(
    models: Sequence[Candidate], further: Mapping[str, Mapping[str, Any]], *, cpu: bool
) -> tuple[EnginePlan, ...]:
    """The engines for these models. Adapters on one model share its engine; on a CPU each has its
    own, because there vLLM 0.32 mixes up the adapters of a batch."""
    groups: dict[str, list[Candidate]] = {}
    for model in models:
        groups.setdefault(_key(model, cpu=cpu), []).append(model)
    return tuple(EnginePlan(tuple(group), further[group[0].name]) for group in groups.values())


def _key(model: Candidate, *, cpu: bool) -> str:
    adapter = model.spec.adapter if cpu else None
    return repr(replace(model.spec, adapter=adapter, template=None, prompt=None))


def cpu_caches(needs: Sequence[EngineNeed], free: int, wanted: int | None) -> list[int]:
    """The bytes of each engine's keys and values on a CPU with `free` bytes free; `wanted` is the
    team file's limit for all of them. Each has room for the same number of tokens. Raises
    CapacityError if they do not fit."""
    used = sum((need.weights or 0) + _PROCESS for need in needs)
    if used + (wanted or 0) > free:
        raise CapacityError(
            f"{len(needs)} vLLM engines need {_gib(used + (wanted or 0))}, and {_gib(free)} are "
            "free: use smaller models, fewer of them, or less engine.memory"
        )
    sizes = divide(needs, int((free - used) * _CPU_SHARE) if wanted is None else wanted)
    if wanted is None:
        full = [need.token * need.context * _MOST_ANSWERS for need in needs]
        sizes = list(map(min, sizes, full))
    for need, size in zip(needs, sizes, strict=True):
        _check_room(need, size)
    return sizes


def divide(needs: Sequence[EngineNeed], total: int) -> list[int]:
    """The parts of `total` bytes in which the engines have room for equal numbers of tokens."""
    whole = sum(need.token for need in needs)
    return [total * need.token // whole for need in needs]


def gpu_shares(needs: Sequence[EngineNeed], totals: Mapping[int, int]) -> list[float]:
    """The share of its GPU's memory, whose bytes are in `totals`, that each engine may use. Beside
    their weights, the engines of a GPU have equal parts. Raises CapacityError if they do not fit.
    """
    shares = []
    for need in needs:
        assert isinstance(need.device, int)
        there = [other for other in needs if other.device == need.device]
        usable = int(totals[need.device] * _GPU_SHARE)
        rest = usable - sum(other.weights or 0 for other in there)
        if rest <= 0:
            raise CapacityError(
                f"the weights of {', '.join(other.names for other in there)} do not fit the "
                f"{_gib(usable)} of GPU {need.device}: put some on another device, or set "
                "tensor_parallel_size in vllm"
            )
        part = (need.weights or 0) + rest // len(there)
        _check_room(need, rest // len(there))
        shares.append(part / totals[need.device])
    return shares


def _check_room(need: EngineNeed, size: int) -> None:
    """Raise CapacityError if not even one answer of full length has room."""
    if not need.bounded and size < need.token * need.context:
        raise CapacityError(
            f"an answer of {need.context} tokens, the context of {need.names}, needs "
            f"{_gib(need.token * need.context)} for its keys and values, and {_gib(size)} are "
            "left for them: set max_model_len in vllm, or give the engine more memory"
        )


def _gib(size: int) -> str:
    return f"{size / _GIB:.1f} GiB"
