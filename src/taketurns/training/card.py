"""The model card of a trained switcher or student: README.md with the hub's front matter.

Each template in `cards` has the sections what, training, scores, use and limits.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from taketurns.utils.files import write_text

TEMPLATES = Path(__file__).parent / "cards"
SWITCHER = {"library_name": "taketurns", "tags": ["taketurns", "switch-generation"]}


def write_card(
    folder: Path,
    template: str,
    metrics: Mapping[str, Any],
    front: Mapping[str, Any],
    base: str | None = None,
    **more: Any,
) -> None:
    """Write the card into the folder. The template reads `metrics` and `more` by their keys; `base`
    is the hub id of the model that training started from. Raises DataError."""
    head = {**front, "base_model": base} if base is not None else front
    card = render(
        TEMPLATES / f"{template}.md.j2",
        metrics=metrics,
        front=yaml.safe_dump(dict(head), sort_keys=False).strip(),
        **metrics,
        **more,
    )
    write_text(folder / "README.md", card)


def render(template: Path, **values: Any) -> str:
    """The Markdown of a Jinja template. The filter `spec` formats a value as `format` does."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(template.parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # Markdown
    )
    environment.filters["spec"] = format
    return environment.get_template(template.name).render(values)
