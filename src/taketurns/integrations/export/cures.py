"""Commands that make an exportable checkpoint from one that cannot be exported."""

from __future__ import annotations

import shlex

from taketurns.types import ModelSpec

_IMPORTS = "from transformers import AutoModelForCausalLM as M, AutoTokenizer as T; "


def merge_command(spec: ModelSpec, out: str) -> str:
    """A command that writes an adapter and its base as one checkpoint to `out`."""
    return _python(
        f"from peft import PeftModel; {_IMPORTS}"
        f"m = PeftModel.from_pretrained(M.from_pretrained({_place(spec)}, dtype='auto'), "
        f"{spec.adapter!r}).merge_and_unload(); " + _saved(spec, out)
    )


def widen_command(spec: ModelSpec, rows: int, out: str) -> str:
    """A command that writes the checkpoint to `out` with `rows` rows in its embedding and output
    matrices; the new rows have no token."""
    return _python(
        f"{_IMPORTS}m = M.from_pretrained({_place(spec)}, dtype='auto'); "
        f"m.resize_token_embeddings({rows}, mean_resizing=False); " + _saved(spec, out)
    )


def _saved(spec: ModelSpec, out: str) -> str:
    source, revision = spec.tokenizer_source
    where = repr(source) if revision is None else f"{source!r}, revision={revision!r}"
    return f"m.save_pretrained({out!r}); T.from_pretrained({where}).save_pretrained({out!r})"


def _place(spec: ModelSpec) -> str:
    return (
        repr(spec.model) if spec.revision is None else f"{spec.model!r}, revision={spec.revision!r}"
    )


def _python(code: str) -> str:
    return f"python -c {shlex.quote(code)}" if set(code) & set('"$`\\!') else f'python -c "{code}"'
