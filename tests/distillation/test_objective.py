"""The losses: what they are, on what they are, and where they pull."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import kl_div

from taketurns.training.distillation.objective import divergence


def some(tokens: int = 5, vocabulary: int = 11) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(tokens, vocabulary), torch.randn(tokens, vocabulary)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_over_all_tokens_it_is_the_divergence_of_the_student_from_the_speaker(
    temperature: float,
) -> None:
    student, speaker = some()
    most = (speaker / temperature).log_softmax(-1).topk(11)
    found = divergence(student, most.indices, most.values, temperature)
    expected = kl_div(
        (student / temperature).log_softmax(-1),
        (speaker / temperature).log_softmax(-1),
        log_target=True,
        reduction="none",
    ).sum(-1)
    torch.testing.assert_close(found, expected * temperature**2, atol=1e-4, rtol=1e-3)


def test_what_is_not_told_apart_is_one_outcome() -> None:
    """Three tokens and the rest: the divergence of those four outcomes, at most the whole one."""
    student, speaker = some()
    most = speaker.log_softmax(-1).topk(3)
    found = divergence(student, most.indices, most.values, 1.0)
    mine = student.softmax(-1).gather(-1, most.indices)
    four, four_mine = (
        torch.cat([part, 1 - part.sum(-1, keepdim=True)], -1) for part in (most.values.exp(), mine)
    )
    expected = (four * (four.log() - four_mine.log())).sum(-1)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    whole = speaker.log_softmax(-1).topk(11)
    assert (found <= divergence(student, whole.indices, whole.values, 1.0) + 1e-5).all()


def test_it_is_nothing_where_they_agree_and_pulls_together_where_they_do_not() -> None:
    student, speaker = some()
    most = speaker.log_softmax(-1).topk(4)
    assert divergence(speaker, most.indices, most.values, 1.0).abs().max() < 1e-5
    moving = student.clone().requires_grad_()
    optimizer = torch.optim.Adam([moving], 0.1)
    for _ in range(200):
        optimizer.zero_grad()
        divergence(moving, most.indices, most.values, 1.0).sum().backward()
        optimizer.step()
    told_apart = moving.detach().log_softmax(-1).gather(-1, most.indices)
    torch.testing.assert_close(told_apart, most.values, atol=0.02, rtol=0)


def test_a_speaker_that_was_sure_gives_no_infinite_loss() -> None:
    student = torch.tensor([[50.0, -50.0, 0.0]], requires_grad=True)
    loss = divergence(student, torch.tensor([[1, 0]]), torch.tensor([[0.0, -60.0]]), 1.0)
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()
