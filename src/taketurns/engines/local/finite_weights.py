"""Search the weights of a loaded model, or its files, for NaN and infinity."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from taketurns.errors import ConfigError

_WITH_INFINITY = frozenset({"F64", "F32", "F16", "BF16"})  # as safetensors calls them


def check_weights(model: Any, what: str, only: str = "") -> None:
    """Raise ConfigError, which names the first tensor, if parameters or buffers of a torch module
    hold NaN or infinity; only tensors with `only` in their names. It reads every weight once."""
    named = [*model.named_parameters(), *model.named_buffers()]
    check_tensors(((name, tensor) for name, tensor in named if only in name), what)


@torch.no_grad()  # not inference mode, which quantised tensors do not support
def check_tensors(named: Iterable[tuple[str, Tensor]], what: str) -> None:
    """`check_weights` for tensors with their names."""
    for name, tensor in _suspects(named):
        wrong = _no_numbers(tensor)
        if count := int(wrong.sum()):
            many = "number is" if count == 1 else "numbers are"
            raise ConfigError(
                f"{what} cannot be used: {count:,} of the {tensor.numel():,} {many} NaN or "
                f"infinite in {name}, as {str(tensor.dtype).removeprefix('torch.')}: fetch or save "
                "the checkpoint again, or set a wider dtype if this one is narrower than the file's"
            )


def check_files(files: Sequence[Path], what: str) -> None:
    """`check_weights` for safetensors files, with one tensor in memory at a time."""
    from safetensors import safe_open

    for file in files:
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118  # it is not a mapping
                if opened.get_slice(name).get_dtype() in _WITH_INFINITY:
                    check_tensors([(name, opened.get_tensor(name))], what)


def _suspects(named: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """The tensors whose sum is not finite; only they can hold NaN or infinity. All sums are fetched
    together, so that a GPU causes only one wait."""
    looked_at = [(name, tensor) for name, tensor in named if _has_numbers(tensor)]
    sums = [tensor.detach().sum(dtype=_wide(tensor)) for _, tensor in looked_at]
    devices = {total.device for total in sums}
    for device in devices:
        places = [place for place, total in enumerate(sums) if total.device == device]
        finite = torch.stack([sums[place].float() for place in places]).isfinite().tolist()
        yield from (
            looked_at[place]
            for place, is_finite in zip(places, finite, strict=True)
            if not is_finite
        )


def _has_numbers(tensor: Tensor) -> bool:
    """Whether a tensor is searched. Eight-bit formats are skipped: they have no infinity, and their
    scales are separate tensors."""
    there = tensor.device.type != "meta" and tensor.numel() > 0
    return there and tensor.is_floating_point() and tensor.itemsize > 1


def _wide(tensor: Tensor) -> torch.dtype:
    return torch.float32 if tensor.itemsize < 4 else tensor.dtype


def _no_numbers(tensor: Tensor) -> Tensor:
    """A mask of NaN and infinity in a tensor. Minus infinity is allowed in a vector, as a bias that
    forbids a token, and in a matrix of minus infinities and zeros, which is a mask."""
    wrong = ~tensor.isfinite()
    forbids = tensor == -torch.inf
    if tensor.dim() == 1 or not (forbids | (tensor == 0)).logical_not().any():
        wrong &= ~forbids
    return wrong
