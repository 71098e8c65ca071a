"""Packages that only some commands need, and the extras of this package that install them.

A command checks here for its packages before it starts, so that no run fails with a
ModuleNotFoundError after hours.
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
    "vllm": ("vllm",),
}
"""The modules of each extra."""
REPORT = ("matplotlib", "scipy", "statsmodels")
"""The modules that compute statistics and draw their figures."""
TUNING = EXTRAS["train"]
"""The modules that train a language model."""


def require(what: str, *modules: str) -> None:
    """Raise UsageError, with the command that installs them, if modules that `what` needs are
    missing."""
    missing = [module for module in modules if not installed(module)]
    if missing:
        names = ", ".join(module.partition(".")[0] for module in missing)
        raise UsageError(f"{what} needs {names}: {install_command(*missing)}")


def installed(module: str) -> bool:
    """Whether a module can be imported, as far as can be known without importing it."""
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):  # its parent fails; or the module was made by hand
        return False


def install_command(*modules: str) -> str:
    """The command that installs the extras with these modules."""
    wanted = [extra for extra, own in EXTRAS.items() if set(own) & set(modules)]
    return f"pip install 'taketurns[{','.join(wanted)}]'"
