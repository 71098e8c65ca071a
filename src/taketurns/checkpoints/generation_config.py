"""Saves generation_config.json as it was shipped.

transformers rewrites the file when a model is saved. It refuses to if a setting was changed and the
file has a meaningless combination, such as a temperature without `do_sample`; trainers change it,
and published checkpoints have such combinations. So a model that is loaded here is saved with its
original file, whatever was set on the model since.

Importing this module imports transformers, which takes seconds.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from transformers import GenerationConfig

from taketurns.checkpoints import hub
from taketurns.types import ModelSpec

FILE = "generation_config.json"


class ShippedGenerationConfig(GenerationConfig):  # type: ignore[misc]  # transformers has no types
    """A configuration that is saved as the bytes `shipped`."""

    shipped: bytes

    @classmethod
    def of(cls, config: GenerationConfig, shipped: bytes) -> ShippedGenerationConfig:
        """The settings of `config`, saved as `shipped`."""
        kept = cls()
        kept.__dict__.update(config.__dict__)
        kept.shipped = shipped
        return kept

    def to_dict(self) -> dict[str, Any]:
        """The settings."""
        settings: dict[str, Any] = super().to_dict()
        settings.pop("shipped", None)
        return settings

    def save_pretrained(self, save_directory: str | Path, *arguments: Any, **settings: Any) -> None:
        """Write the file into a folder. Raises OSError."""
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FILE).write_bytes(self.shipped)


def keep_shipped(model: Any, spec: ModelSpec) -> None:
    """Make `model` save the generation_config.json of its checkpoint; without this file, it saves
    the settings that transformers made of config.json or of a GGUF file's header."""
    config = getattr(model, "generation_config", None)
    if not isinstance(config, GenerationConfig):
        return
    file = None
    if spec.gguf_file is None:
        file = hub.fetch("the model", spec.model, FILE, spec.revision)
    shipped = _text(config.to_diff_dict()) if file is None else file.read_bytes()
    model.generation_config = ShippedGenerationConfig.of(config, shipped)


def change_shipped(model: Any, **changes: Any) -> None:
    """Change settings of the model, and only these in the file that is saved with it."""
    config = model.generation_config
    for key, value in changes.items():
        setattr(config, key, value)
    known = config.to_diff_dict()  # for a shipped file that is not JSON, which transformers ignores
    with suppress(ValueError):
        known = json.loads(getattr(config, "shipped", b""))
    model.generation_config = ShippedGenerationConfig.of(config, _text({**known, **changes}))


def _text(settings: dict[str, Any]) -> bytes:
    settings.pop("compile_config", None)
    return (json.dumps(settings, indent=2, sort_keys=True) + "\n").encode("utf-8")
