"""Old import paths: each still gives the same module from its new place, with a DeprecationWarning.

`install` puts one finder before Python's own. The order matters: in the folder of a moved package,
Python's finder would find a submodule under its old name and load it a second time. `import
taketurns` imports this module, so it must not import anything slow.
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import CodeType, ModuleType
    from typing import Any

MOVED = {
    "taketurns.draft": "taketurns.generation.state",
    "taketurns.ecosystem": "taketurns.integrations",
    "taketurns.heads": "taketurns.switchers.head",
    "taketurns.labels": "taketurns.training.labels.labels",
    "taketurns.launch": "taketurns.integrations.launch",
    "taketurns.policy": "taketurns.config.policy",
    "taketurns.prompts": "taketurns.checkpoints.prompts",
    "taketurns.scorers": "taketurns.tasks.scorers",
    "taketurns.scorers.table": "taketurns.tasks.scorers.registry",
    "taketurns.team": "taketurns.generation.team",
    "taketurns.text": "taketurns.checkpoints.text",
}

RENAMED = {
    "taketurns.generation.state": {"Draft": "GenerationState"},
    "taketurns.switchers": {"Follower": "TokenLevelSwitcher", "PartSwitcher": "SubsetSwitcher"},
}


def install() -> None:
    """Make old paths importable."""
    if not any(isinstance(finder, OldPathFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, OldPathFinder())


def old_name(package: str, name: str) -> Any:
    """The renamed object behind an old name of a package, with a DeprecationWarning; for the
    package's `__getattr__`. Raises AttributeError for a name that it never had."""
    new = RENAMED[package].get(name)
    if new is None:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    _warn(f"{package}.{name}", f"{package}.{new}", stacklevel=4)
    module = sys.modules[package]
    setattr(module, name, getattr(module, new))  # so that the warning comes only once
    return getattr(module, new)


class OldPathFinder:
    """Finds the modules that have moved, and nothing else. Submodules move with their package."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of an old path; None for any other path and for a module that does not exist."""
        new = _new_path(name)
        if new is None:
            return None
        from importlib.util import find_spec

        found = find_spec(new)
        if found is None:
            return None
        loader: Any = _MovedModule(found, warns=name in MOVED)  # importing Loader would cost time
        spec = ModuleSpec(name, loader, origin=found.origin)
        spec.submodule_search_locations = found.submodule_search_locations
        return spec


class _MovedModule:
    """Loads a module under its new path in place of the old one."""

    def __init__(self, new: ModuleSpec, *, warns: bool) -> None:
        self._new = new
        self._warns = warns

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        if self._warns:
            _warn(spec.name, self._new.name, stacklevel=3)
        from importlib import import_module

        return import_module(self._new.name)

    def exec_module(self, module: ModuleType) -> None:
        """Restore the spec, which the import machinery has replaced; the module has run already."""
        module.__spec__ = self._new
        for old, new in RENAMED.get(self._new.name, {}).items():
            setattr(module, old, getattr(module, new))

    def get_code(self, _: str) -> CodeType | None:
        """For `python -m` with the old path."""
        code: CodeType | None = self._new.loader.get_code(self._new.name)  # type: ignore[union-attr]
        return code


def _new_path(name: str) -> str | None:
    if name in MOVED:
        return MOVED[name]
    parent, _, last = name.rpartition(".")
    new = _new_path(parent) if parent.startswith("taketurns.") else None
    return None if new is None else f"{new}.{last}"


def _warn(old: str, new: str, *, stacklevel: int) -> None:
    import warnings

    warnings.warn(f"{old} is now {new}", DeprecationWarning, stacklevel=stacklevel)
