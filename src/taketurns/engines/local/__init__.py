"""The embedded engine: transformers models in this process.

Importing this package loads no torch; `LocalEngine` is loaded when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from taketurns.engines.local.engine import LocalEngine

__all__ = ["LocalEngine"]


def __getattr__(name: str) -> Any:
    if name != "LocalEngine":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from taketurns.engines.local.engine import LocalEngine

    return LocalEngine
