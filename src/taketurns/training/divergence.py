"""Checks that stop a training which has diverged, before it damages the weights."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from taketurns.errors import NotANumberError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

CURE = "lower the learning rate and train into another folder"


def check_loss(loss: Tensor, when: str, kept: str = "") -> None:
    """Raise NotANumberError if a loss is NaN or infinite. `when` names the step, and `kept` says
    where the last good checkpoint is."""
    if not loss.isfinite().all():
        raise NotANumberError(
            f"training diverged in {when}: the loss is {float(loss.detach())}{kept}; {CURE}"
        )


def check_gradients(parameters: Iterable[Tensor], when: str, kept: str = "") -> None:
    """Raise NotANumberError for NaN or infinite gradients; called before the optimizer step."""
    gradients = (weight.grad for weight in parameters if weight.grad is not None)
    _check(gradients, "a gradient", when, kept)


def checked_step(
    optimizer: Optimizer,
    parameters: Iterable[Tensor],
    losses: Iterable[Tensor],
    when: str,
    kept: str = "",
) -> None:
    """One optimizer step on the sum of `losses`. Each loss is freed before the next is computed.
    Raises NotANumberError."""
    learned = list(parameters)
    optimizer.zero_grad()
    for loss in losses:
        check_loss(loss, when, kept)
        loss.backward()  # type: ignore[no-untyped-call]
    check_gradients(learned, when, kept)
    optimizer.step()
    _check((weight.detach() for weight in learned), "a weight", when, kept)


def _check(tensors: Iterable[Tensor], what: str, when: str, kept: str) -> None:
    import torch

    sums = [tensor.sum(dtype=torch.float64).cpu() for tensor in tensors]
    if sums and not torch.stack(sums).isfinite().all():
        raise NotANumberError(
            f"training diverged in {when}: {what} is NaN or infinite{kept}; {CURE}"
        )
