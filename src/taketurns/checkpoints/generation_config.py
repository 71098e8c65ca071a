"""generation_config.json as it was shipped.

transformers writes the file anew with a model that is saved, and refuses to once anything in it was
touched and it holds a combination that means nothing, such as a temperature without `do_sample`.
Trainers touch it. Published checkpoints hold such combinations, so what is loaded here saves the
file that came with it, whatever was set on the model since.

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
    """Saved as the bytes `shipped`."""

    shipped: bytes

    @classmethod
    def of(cls, config: GenerationConfig, shipped: bytes) -> ShippedGenerationConfig:
        """The same settings, to be saved as `shipped`."""
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
    """Have `model` saved with the generation_config.json of its checkpoint; with what transformers
    made of config.json or of a GGUF file's header where there is none."""
    config = getattr(model, "generation_config", None)
    if not isinstance(config, GenerationConfig):
        return
    file = None
    if spec.gguf_file is None:
        file = hub.fetch("the model", spec.model, FILE, spec.revision)
    shipped = _text(config.to_diff_dict()) if file is None else file.read_bytes()
    model.generation_config = ShippedGenerationConfig.of(config, shipped)


def change_shipped(model: Any, **changes: Any) -> None:
    """Change settings of the model, and these alone in the file that it is saved with."""
    config = model.generation_config
    for key, value in changes.items():
        setattr(config, key, value)
    known = config.to_diff_dict()  # of a file that is no JSON, which transformers passes over
    with suppress(ValueError):
        known = json.loads(getattr(config, "shipped", b""))
    model.generation_config = ShippedGenerationConfig.of(config, _text({**known, **changes}))


def _text(settings: dict[str, Any]) -> bytes:
    settings.pop("compile_config", None)
    return (json.dumps(settings, indent=2, sort_keys=True) + "\n").encode("utf-8")
