"""Convert a GGUF file to a folder that `from_pretrained` loads, in float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from taketurns.checkpoints.wheels import Say, WheelModel
from taketurns.errors import DataError
from taketurns.utils.files import atomic_folder
from taketurns.utils.json_files import read_json, write_json

SOURCE = "source.json"  # says which GGUF file a folder was made of
CONVERTER = 2  # increased when the folder's format changes: folders of an older one are made again


def converted(model: WheelModel, folder: Path) -> bool:
    """Does the model's folder exist, made from the pinned GGUF file?"""
    try:
        source = read_json(folder / SOURCE)
    except (OSError, ValueError):
        return False
    return isinstance(source, dict) and source.items() >= _source(model).items()


def convert(model: WheelModel, gguf: Path, folder: Path, say: Say, **about: str) -> Path:
    """The model's folder: configuration, dequantised weights, tokenizer with its chat template. If
    it does not exist, it is made, and appears when it is complete; its record has `about` too.
    Raises DataError if transformers cannot read the file."""
    if converted(model, folder):
        return folder
    say(f"{model.name}: converting {gguf.name} to float32, {model.converted_size / 1e9:.1f} GB")
    with atomic_folder(folder, replace=True) as draft:
        _convert(gguf, draft)
        write_json(draft / SOURCE, _source(model) | about)
    return folder


def _source(model: WheelModel) -> dict[str, Any]:
    return {"gguf": model.gguf, "sha256": model.sha256, "converter": CONVERTER}


def _convert(gguf: Path, folder: Path) -> None:
    from safetensors.torch import save_file

    model, tokenizer = _load(gguf)
    # `save_pretrained` refuses a model with a quantization_config, although it is dequantised.
    config = model.config
    config.architectures = [type(model).__name__]
    del config.quantization_config
    config.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)
    # As `save_pretrained` does: `safetensors.torch.save_model` would keep a tied output matrix and
    # leave out the embeddings; some servers then run the model without any.
    tied = model.all_tied_weights_keys
    weights = {name: t.contiguous() for name, t in model.state_dict().items() if name not in tied}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    tokenizer.save_pretrained(folder)


def _load(gguf: Path) -> tuple[Any, Any]:
    """Model and tokenizer as transformers reads them. Raises DataError if the file lacks weights,
    which would otherwise be random."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name}
    try:
        tokenizer = AutoTokenizer.from_pretrained(**source)
        model, report = AutoModelForCausalLM.from_pretrained(
            **source, dtype=torch.float32, output_loading_info=True
        )
    except ImportError as error:
        raise DataError(
            "reading GGUF files needs more packages: pip install 'taketurns[gguf]' "
            f"({str(error).strip().splitlines()[0]})"
        ) from error
    except Exception as error:
        reason = next(iter(str(error).strip().splitlines()), repr(error))
        raise DataError(
            f"transformers cannot read {gguf}: {reason}; remove the file to download it again"
        ) from error
    if missing := sorted(report["missing_keys"]):
        raise DataError(
            f"{gguf} lacks weights of the model, such as {missing[0]}: remove the file to download "
            "it again"
        )
    return model, tokenizer
