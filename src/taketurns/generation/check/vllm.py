"""What stands in the way of a team in vLLM, as far as can be known before anything is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from taketurns.config.team_config import EngineConfig
from taketurns.engines.vllm.library import import_vllm
from taketurns.engines.vllm.starting import prepare_engines
from taketurns.errors import CapacityError, ConfigError
from taketurns.types import Candidate


def vllm_problems(models: Sequence[Candidate], settings: EngineConfig) -> Iterator[str]:
    """Yields why vLLM cannot run these models, if it cannot: vLLM makes its configurations of
    them, and their memory is divided. This imports vLLM."""
    try:
        prepare_engines(import_vllm(), models, settings)
    except (ConfigError, CapacityError) as error:
        yield str(error)
