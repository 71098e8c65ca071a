"""Switch Generation: the checkpoints of a training pipeline take turns writing one answer.

The public names, loaded when first used, so that `import taketurns` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from taketurns.utils import old_paths

if TYPE_CHECKING:
    from taketurns.config.policy import Policy
    from taketurns.engines.base import Engine, ModelInfo, Session
    from taketurns.engines.http.engine import HttpEngine
    from taketurns.engines.local.engine import LocalEngine
    from taketurns.engines.scripted import ScriptedEngine
    from taketurns.errors import (
        CapacityError,
        ConfigError,
        DataError,
        EngineError,
        FormatError,
        LengthError,
        NotANumberError,
        PromptError,
        TakeTurnsError,
        UnavailableError,
        UsageError,
    )
    from taketurns.evaluation.methods.base import Dev, DevAnswer, Method, MethodContext
    from taketurns.generation.team import Team
    from taketurns.switchers.base import (
        ComparingDecide,
        CorrectingDecide,
        Decide,
        GenerationView,
        PatchEndingDecide,
        Switcher,
    )
    from taketurns.tasks.base import Split, Task
    from taketurns.tasks.scorers.base import Scorer
    from taketurns.types import (
        AnswerFormat,
        Candidate,
        Completion,
        Delta,
        Endpoint,
        Message,
        ModelSpec,
        NextToken,
        NextTokenCriterion,
        Patch,
        Query,
        Sampling,
        SamplingOptions,
        Score,
        StoppingCriterion,
        Token,
        TokenConstraint,
        Trace,
    )

__version__ = "0.1.0"

_HOME = {
    "AnswerFormat": "types",
    "Candidate": "types",
    "CapacityError": "errors",
    "Completion": "types",
    "ConfigError": "errors",
    "DataError": "errors",
    "Decide": "switchers.base",
    "Delta": "types",
    "Dev": "evaluation.methods.base",
    "DevAnswer": "evaluation.methods.base",
    "Endpoint": "types",
    "Engine": "engines.base",
    "EngineError": "errors",
    "FormatError": "errors",
    "GenerationView": "switchers.base",
    "HttpEngine": "engines.http.engine",
    "LengthError": "errors",
    "LocalEngine": "engines.local.engine",
    "Message": "types",
    "Method": "evaluation.methods.base",
    "MethodContext": "evaluation.methods.base",
    "ModelInfo": "engines.base",
    "ModelSpec": "types",
    "NextToken": "types",
    "NextTokenCriterion": "types",
    "NotANumberError": "errors",
    "Patch": "types",
    "ComparingDecide": "switchers.base",
    "CorrectingDecide": "switchers.base",
    "PatchEndingDecide": "switchers.base",
    "Policy": "config.policy",
    "PromptError": "errors",
    "Query": "types",
    "Sampling": "types",
    "SamplingOptions": "types",
    "Score": "types",
    "Scorer": "tasks.scorers.base",
    "ScriptedEngine": "engines.scripted",
    "Session": "engines.base",
    "Split": "tasks.base",
    "StoppingCriterion": "types",
    "Switcher": "switchers.base",
    "TakeTurnsError": "errors",
    "Task": "tasks.base",
    "Team": "generation.team",
    "Token": "types",
    "TokenConstraint": "types",
    "Trace": "types",
    "UnavailableError": "errors",
    "UsageError": "errors",
}

__all__ = [
    "AnswerFormat",
    "Candidate",
    "CapacityError",
    "ComparingDecide",
    "Completion",
    "ConfigError",
    "CorrectingDecide",
    "DataError",
    "Decide",
    "Delta",
    "Dev",
    "DevAnswer",
    "Endpoint",
    "Engine",
    "EngineError",
    "FormatError",
    "GenerationView",
    "HttpEngine",
    "LengthError",
    "LocalEngine",
    "Message",
    "Method",
    "MethodContext",
    "ModelInfo",
    "ModelSpec",
    "NextToken",
    "NextTokenCriterion",
    "NotANumberError",
    "Patch",
    "PatchEndingDecide",
    "Policy",
    "PromptError",
    "Query",
    "Sampling",
    "SamplingOptions",
    "Score",
    "Scorer",
    "ScriptedEngine",
    "Session",
    "Split",
    "StoppingCriterion",
    "Switcher",
    "TakeTurnsError",
    "Task",
    "Team",
    "Token",
    "TokenConstraint",
    "Trace",
    "UnavailableError",
    "UsageError",
]

old_paths.install()


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'taketurns' has no attribute {name!r}")
    value = getattr(import_module(f"taketurns.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
