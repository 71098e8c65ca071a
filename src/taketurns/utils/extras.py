"""Packages that only some commands need, and the extras of this package that bring them.

Whoever needs one asks for it here before anything is begun, so that nothing ends after hours in a
ModuleNotFoundError.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec

from taketurns.errors import UsageError

EXTRAS: Mapping[str, tuple[str, ...]] = {
    "train": ("accelerate", "datasets", "peft", "trl"),
    "serve": ("fastapi", "prometheus_client", "uvicorn"),
    "eval": ("lm_eval", "math_verify", "matplotlib", "sacrebleu", "scipy", "statsmodels"),
    "gguf": ("gguf", "sentencepiece"),
    "plan": ("simpy",),
    "ray": ("ray",),
    "traces": ("opentelemetry.exporter", "opentelemetry.sdk"),
}
"""The modules of each extra."""
REPORT = ("matplotlib", "scipy", "statsmodels")
"""What statistics and their figures are made with."""
TUNING = EXTRAS["train"]
"""What a language model is trained with."""


def require(what: str, *modules: str) -> None:
    """Raise UsageError, which says how to install them, where modules that `what` needs are
    missing."""
    missing = [module for module in modules if not installed(module)]
    if missing:
        names = ", ".join(module.partition(".")[0] for module in missing)
        raise UsageError(f"{what} needs {names}: {install_command(*missing)}")


def installed(module: str) -> bool:
    """Can it be imported, as far as can be known without importing it?"""
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):  # of its parent; and of a module that was made by hand
        return False


def install_command(*modules: str) -> str:
    """The command that installs the extras with these modules."""
    wanted = [extra for extra, own in EXTRAS.items() if set(own) & set(modules)]
    return f"pip install 'taketurns[{','.join(wanted)}]'"
