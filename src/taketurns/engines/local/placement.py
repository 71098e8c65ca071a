"""Which models share a thread.

Models on one device take turns there, so a device needs one thread. A CPU has several cores, so its
models may be divided among several threads. Models that share weights always have one thread: they
share forwards too, or take turns as the active adapter."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from taketurns.engines.local.loading import base_of, choose_device
from taketurns.types import ModelSpec

CPU = "cpu"
_FIRST = {"cuda": "cuda:0", "cpu:0": CPU, "mps:0": "mps"}
_SPREADING = frozenset({"auto", "balanced", "balanced_low_0", "sequential", "disk"})


@dataclass(frozen=True, slots=True)
class Group:
    """The models of one thread; `device` is None for models that are spread over several."""

    device: str | None
    models: tuple[str, ...]


def group_models(specs: Mapping[str, ModelSpec], parallel: int) -> tuple[Group, ...]:
    """A group for each device, and on the CPU up to `parallel` groups, among which the weights are
    dealt out in the order of `specs`."""
    sharing: defaultdict[str, list[str]] = defaultdict(list)
    for name, spec in specs.items():
        sharing[base_of(spec)].append(name)
    groups: defaultdict[tuple[str | None, int], list[str]] = defaultdict(list)
    on_cpu = 0
    for names in sharing.values():
        device = device_of(specs[names[0]])
        number = 0
        if device == CPU:
            number, on_cpu = on_cpu % parallel, on_cpu + 1
        groups[device, number] += names
    return tuple(Group(device, tuple(names)) for (device, _), names in groups.items())


def device_of(spec: ModelSpec) -> str | None:
    """The device that a model is loaded to, as "cpu" or "cuda:0"; None if its `device_map` spreads
    it over several."""
    where = spec.device_map
    if where is None:
        return _plain(choose_device(spec.device))
    places = set(where.values()) if isinstance(where, dict) else {where}
    if len(places) > 1 or places & _SPREADING:
        return None
    (place,) = places
    return f"cuda:{place}" if isinstance(place, int) else _plain(str(place))


def _plain(device: str) -> str:
    """One name for each device: torch has two for most first ones."""
    return _FIRST.get(device, device)
