"""The way in which the local engine runs each causal language model of transformers, as a page.

A small copy of every architecture (`engines/local/small_copy.py`) goes through the proof that the
engine makes before a model's first answer (`engines/local/equivalence.py`). No weights are
downloaded.

    python -m benchmarks.models.survey docs/models.md      # two minutes on one core
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from taketurns.utils.markdown import table

PAGE = Path(__file__).with_name("page.md")  # with fields for what is found
# Settings that a default configuration lacks, or that give it layers of every kind.
SETTINGS: dict[str, dict[str, Any]] = {
    "bamba": {"num_hidden_layers": 2, "attn_layer_indices": [1]},
    "deepseek_v2": {"n_group": 2, "topk_group": 1, "num_experts_per_tok": 2, "n_routed_experts": 4},
    "granitemoehybrid": {"num_hidden_layers": 2, "layer_types": ["mamba", "attention"]},
    "lfm2": {"num_hidden_layers": 2, "layer_types": ["conv", "full_attention"]},
    "lfm2_moe": {"num_hidden_layers": 2, "layer_types": ["conv", "full_attention"]},
    "hunyuan_v1_dense": {"head_dim": 128},
    "hunyuan_v1_moe": {"head_dim": 128},
    "ministral": {"head_dim": 128},
    "nemotron": {"head_dim": 128},
    "qwen2": {"use_sliding_window": True, "sliding_window": 4096, "max_window_layers": 14},
}
REASONS = {"indexed attention": "index"}


@dataclass(frozen=True, slots=True)
class ArchitectureRow:
    """One architecture and the way that it `gets`; None if no small copy could be made."""

    kind: str
    architecture: str
    gets: str | None
    why: str


def survey(kinds: Sequence[str]) -> Iterator[ArchitectureRow]:
    """The rows of some kinds of model, by the `model_type` of their configurations."""
    import torch
    from transformers import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    from taketurns.engines.local.equivalence_records import ProofRecords
    from taketurns.engines.local.mode_selection import ArchitectureProof, fastest
    from taketurns.engines.local.modes import Running, Way

    with tempfile.TemporaryDirectory() as folder:
        for kind in kinds:
            try:
                config = CONFIG_MAPPING[kind](**SETTINGS.get(kind, {}))
                if hasattr(config, "is_decoder"):
                    config.is_decoder = True
                model_class = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
            except Exception as error:  # a configuration's own checks
                yield ArchitectureRow(kind, kind, None, type(error).__name__)
                continue
            architecture = ArchitectureProof(
                model_class,
                config,
                attention=None,
                dtype=torch.float32,
                device=torch.device("cpu"),
                running=Running(True, 64),
                records=ProofRecords(Path(folder)),
            )
            first = architecture.why_not(Way.KEPT)
            if not architecture.copied:
                yield ArchitectureRow(kind, model_class.__name__, None, "")
                continue
            outcome = fastest(architecture)
            yield ArchitectureRow(
                kind, model_class.__name__, _gets(outcome.way, first or ""), outcome.why
            )


def _gets(way: str | None, first: str) -> str:
    """The name of a way, with the kind of layers of a re-encoded model."""
    if way is None:
        return "refused"
    layers = next((name for text, name in REASONS.items() if text in first), None)
    return f"{way} ({layers})" if layers and way.startswith("re-encoded") else way


def page(rows: Sequence[ArchitectureRow]) -> str:
    """The page in Markdown."""
    import torch
    import transformers

    tried = [row for row in rows if row.gets is not None]
    without = [row.kind for row in rows if row.gets is None]
    counts = Counter(row.gets for row in tried)
    header = ["`model_type`", "architecture", "between turns", "why not faster"]
    listed = [[row.kind, row.architecture, str(row.gets), _cell(row.why)] for row in tried]
    return PAGE.read_text(encoding="utf-8").format(
        date=date.today().isoformat(),
        transformers=transformers.__version__,
        torch=torch.__version__.split("+")[0],
        count=len(tried),
        summary="; ".join(f"{number} {name}" for name, number in counts.most_common()),
        table=table(header, listed).strip(),
        without=", ".join(without),
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> None:
    """Write the page."""
    from transformers import logging
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("page", type=Path)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.set_verbosity_error()
    rows = []
    for row in survey(sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)):
        print(f"{row.kind}: {row.gets or 'no copy'}", flush=True)
        rows.append(row)
    arguments.page.write_text(page(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
