"""What each causal language model of transformers gets from the local engine, as a page.

A small copy of every architecture (`engines/local/small_copy.py`) goes through the proof that the
engine makes before a model's first answer (`engines/local/equivalence.py`); no weights are
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

from taketurns.utils.markdown import table_lines

# What a default configuration lacks, or has no layer of.
SETTINGS: dict[str, dict[str, Any]] = {
    "bamba": {"num_hidden_layers": 2, "attn_layer_indices": [1]},
    "deepseek_v2": {"n_group": 2, "topk_group": 1, "num_experts_per_tok": 2, "n_routed_experts": 4},
    "granitemoehybrid": {"num_hidden_layers": 2, "layer_types": ["mamba", "attention"]},
    "hunyuan_v1_dense": {"head_dim": 128},
    "hunyuan_v1_moe": {"head_dim": 128},
    "ministral": {"head_dim": 128},
    "nemotron": {"head_dim": 128},
    "qwen2": {"use_sliding_window": True, "sliding_window": 4096, "max_window_layers": 14},
}
REASONS = {"sliding window": "window", "recurrent state": "state", "an index": "index"}


@dataclass(frozen=True, slots=True)
class ArchitectureRow:
    """One architecture; `gets` is None where no small copy could be made."""

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
    from taketurns.engines.local.mode_selection import Architecture, fastest
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
            architecture = Architecture(
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
    """A way in a word or two, with the kind of layers that a re-encoded model has."""
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
    summary = "; ".join(f"{number} {name}" for name, number in counts.most_common())
    lines = [
        "# Which models run, and how",
        "",
        "Made by `make models` on "
        f"{date.today().isoformat()} with transformers {transformers.__version__} and torch "
        f"{torch.__version__.split('+')[0]}. Do not edit it by hand.",
        "",
        *TEXT.strip().splitlines(),
        "",
        f"## {len(tried)} architectures: {summary}",
        "",
        *table_lines(
            ["`model_type`", "architecture", "between turns", "why not faster"],
            [[row.kind, row.architecture, str(row.gets), _cell(row.why)] for row in tried],
        ),
        "",
        f"No small copy could be made of {', '.join(without)}: their default configurations are "
        "incomplete, or are parts of a model that reads more than text. A checkpoint of theirs is "
        "proved on its weights alone.",
        "",
    ]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


TEXT = """
Before a model's first answer the local engine proves that its own way of running it gives the
logits of the model's plain forward: on a copy of its configuration with few layers, small widths,
random weights and a window of 8 tokens (past the window, after other tokens were appended at
once, after a rewind, in a batch of unlike lengths, with answers that take turns), and then with
at most 64 tokens on the weights themselves, with the adapter that was loaded. It takes the first
of these ways that is proved:

- **cache kept**: a turn encodes only what is new, and answers share batches.
- **re-encoded**: each turn reads its whole prompt anew into a cache of the model's own kind and
  writes from there; in brackets the layers for which no cache is kept yet: sliding windows,
  recurrent states, indexed attention.
- **re-encoded, one answer at a time**: the same for models that keep a state in their modules; an
  answer waits for the turn of another.
- **whole forward a token**: no cache is right, so the whole text is read for every token.
- **refused**: even two plain forwards of the same text differ, or the model does not write left
  to right. The error is one sentence and says what to do.

The table says what the architecture allows, float32 on a CPU. A checkpoint may get less (another
attention, other settings, adapters): `taketurns check` says what each of a team gets, and loading
one that is slower than *cache kept* prints a line. What was found is kept in
`$TAKETURNS_CACHE/proofs`, by default `~/.cache/taketurns/proofs` (`$XDG_CACHE_HOME` counts), for
as long as the files, the settings and the versions of torch, transformers, peft and taketurns are
the same; delete the folder to have everything proved again.

How far apart may two right ways be? The measure is the root mean square of the difference between
two rows of logits over that of the logits about their mean. In float32 on a CPU at most 0.0005
(right ways differ by 1e-7 to 1e-4; looking in a wrong place costs 0.01 and more), on a GPU 0.002,
in float16 0.02, in bfloat16 and in fewer bits 0.05. Where it is more, the plain forward is run
once more beside another text, and four times what that changes is allowed.
"""


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
