"""A user's own parts, found by name: "package.module:Name", or an installed entry point.

An entry point of the group `taketurns.switchers`, `.engines`, `.scorers`, `.methods` or `.tasks`
gives a part a short name. A module in the current folder is found too, as by `python -m`. Loading a
part runs its code.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points, packages_distributions, version
from pathlib import Path
from typing import Any, Literal

from taketurns.errors import UsageError

Group = Literal["switchers", "engines", "scorers", "methods", "tasks"]


def part_names(group: Group) -> list[str]:
    """The names of the parts of this group in installed packages."""
    return sorted({point.name for point in _points(group)})


def names_part(group: Group, name: str) -> bool:
    """Whether a name belongs to a part, as far as can be known without importing it."""
    return ":" in name or name in part_names(group)


def load_part(group: Group, name: str) -> Any:
    """Import the part with this name. Raises UsageError, which says what is missing."""
    kind = group.removesuffix("s")
    for point in _points(group):
        if point.name == name:
            try:
                return point.load()
            except Exception as error:
                raise UsageError(
                    f"the {kind} {name!r} cannot be imported: its entry point {point.value!r} "
                    f"raised {_told(error)}; reinstall or remove {_package_of(point)}"
                ) from error
    module, _, path = name.partition(":")
    if not module or not path:
        raise UsageError(f"a {kind} of your own is named package.module:Name, not {name!r}")
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)  # last, so that it hides no installed package
    try:
        part: Any = import_module(module)
    except ModuleNotFoundError as error:
        missing = str(error.name)
        if module == missing or module.startswith(f"{missing}."):
            raise UsageError(
                f"the {kind} {name!r}: there is no module {missing!r} here; install its package, "
                "or run in its folder"
            ) from error
        raise UsageError(
            f"the {kind} {name!r}: its module needs {missing!r}, which is not installed"
        ) from error
    except Exception as error:
        raise UsageError(f"the {kind} {name!r}: its module raised {_told(error)}") from error
    for attribute in path.split("."):
        try:
            part = getattr(part, attribute)
        except AttributeError as error:
            raise UsageError(
                f"the {kind} {name!r}: the module {module} has no {path!r}; correct the name"
            ) from error
    return part


def make_part(group: Group, name: str, settings: Mapping[str, Any], *arguments: Any) -> Any:
    """Make a part from the framework's `arguments` and its settings. Raises UsageError if the part
    cannot be called, and for unknown or missing settings."""
    kind, part = group.removesuffix("s"), load_part(group, name)
    if not callable(part):
        raise UsageError(f"the {kind} {name!r} is not a class or function: name one")
    check_settings(f"the {kind} {name!r}", part, settings, len(arguments))
    try:
        return part(*arguments, **settings)
    except TypeError as error:
        if error.__traceback__ is None or error.__traceback__.tb_next is not None:
            raise  # from within the part
        raise UsageError(f"the {kind} {name!r} cannot be made: {error}") from error


def check_settings(
    what: str, part: Callable[..., Any], settings: Mapping[str, Any], given: int = 0
) -> None:
    """Raise UsageError, which calls the part `what`, for unknown or missing settings. The first
    `given` parameters are not settings."""
    try:
        parameters = list(inspect.signature(part).parameters.values())[given:]
    except (TypeError, ValueError):
        return  # a class in C may have no signature
    named = {
        p.name: p.default is p.empty
        for p in parameters
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    }
    open_to_all = any(p.kind is p.VAR_KEYWORD for p in parameters)
    if not open_to_all and (unknown := [key for key in settings if key not in named]):
        has = f"its keys are {', '.join(named)}" if named else "it takes none"
        raise UsageError(f"{what} has no key {unknown[0]!r}; {has}")
    if missing := [key for key, needed in named.items() if needed and key not in settings]:
        raise UsageError(f"{what} needs the key {missing[0]!r}")


def require_methods(what: str, part: object, methods: Iterable[str]) -> None:
    """Raise UsageError, which calls the part `what`, if it lacks a method of its protocol."""
    if lacking := [name for name in methods if not callable(getattr(part, name, None))]:
        raise UsageError(f"{what} has no method {lacking[0]}(); docs/extending.md lists them")


def describe_part(group: Group, name: str) -> dict[str, str | None]:
    """`describe_code` of the part with this name. Raises UsageError."""
    return describe_code(load_part(group, name), name)


def describe_code(part: object, name: str | None = None) -> dict[str, str | None]:
    """The code of a part, for a manifest: its name (None: "module:Class"), its module, its
    package's version, and a digest of the module's file."""
    module = _module_of(part)
    packages = packages_distributions().get(module.partition(".")[0], [])
    file = getattr(sys.modules.get(module), "__file__", None)
    return {
        "name": name or f"{module}:{getattr(part, '__qualname__', type(part).__qualname__)}",
        "module": module,
        "version": version(packages[0]) if packages else None,
        "digest": sha256(Path(file).read_bytes()).hexdigest() if file else None,
    }


def is_own(part: object) -> bool:
    """Is a part the user's own: neither of this package nor of Python?"""
    package = _module_of(part).partition(".")[0]
    return package != "taketurns" and package not in sys.stdlib_module_names - {"__main__"}


def _module_of(part: object) -> str:
    return str(getattr(part, "__module__", type(part).__module__))


def _points(group: Group) -> Iterable[EntryPoint]:
    return entry_points(group=f"taketurns.{group}")


def _package_of(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else "its package"


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error)[:200]}"
