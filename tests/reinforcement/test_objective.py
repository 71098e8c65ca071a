"""The gradient points where the rewards say, and no further than it may."""

from __future__ import annotations

import pytest
import torch

from taketurns.training.policy_gradient.objective import Batch, advantages, loss
from taketurns.training.policy_gradient.sampling import RewardedAnswer, SwitchDecision


def answer(reward: float, *speakers: int) -> RewardedAnswer:
    decisions = tuple(
        SwitchDecision((number, who), who, -1.0) for number, who in enumerate(speakers)
    )
    return RewardedAnswer("task", "q", decisions, reward, reward, 10, 0)


def test_each_answer_stands_beside_the_others() -> None:
    assert advantages([1.0, 0.0, 0.5]) == pytest.approx([0.75, -0.75, 0.0])
    assert advantages([1.0, 0.0]) == [1.0, -1.0]
    assert advantages([0.3] * 4) == pytest.approx([0.0] * 4)


def test_a_batch_holds_every_decision_of_groups_that_say_something() -> None:
    batch = Batch.of([[answer(1.0, 0, 2), answer(0.0, 1)], [answer(0.5, 0), answer(0.5, 1)]])
    assert batch.observations == ((0, 0), (1, 2), (0, 1))
    assert batch.speakers.tolist() == [0, 2, 1]
    assert batch.advantages.tolist() == [1.0, 1.0, -1.0]
    assert len(Batch.of([[answer(0.5, 0), answer(0.5, 1)]])) == 0


def one(logits: torch.Tensor, speaker: int, advantage: float, before: float | None = None) -> Batch:
    logprob = float(logits.detach().log_softmax(-1)[speaker]) if before is None else before
    return Batch(
        (None,), torch.tensor([speaker]), torch.tensor([logprob]), torch.tensor([advantage])
    )


def test_at_the_start_it_is_the_policy_gradient() -> None:
    """Derivative of -A log p: A (p - 1 at the speaker, p elsewhere)."""
    logits = torch.tensor([0.2, -0.4, 1.1], requires_grad=True)
    loss(logits[None], logits.detach()[None], one(logits, 2, 0.5), 0.2, 0.0).backward()
    expected = 0.5 * (logits.detach().softmax(-1) - torch.tensor([0.0, 0.0, 1.0]))
    assert torch.allclose(logits.grad, expected, atol=1e-6)


@pytest.mark.parametrize(("advantage", "before", "moves"), [(1.0, -2.5, False), (1.0, -0.5, True)])
def test_a_probability_that_has_moved_enough_is_left_alone(
    advantage: float, before: float, moves: bool
) -> None:
    logits = torch.zeros(3, requires_grad=True)  # the speaker has log 1/3 = -1.10 now
    loss(
        logits[None], logits.detach()[None], one(logits, 0, advantage, before), 0.2, 0.0
    ).backward()
    assert bool(logits.grad.abs().max() > 0) is moves


def test_the_divergence_is_exact_and_pulls_back() -> None:
    logits = torch.tensor([2.0, 0.0], requires_grad=True)
    start = torch.zeros(1, 2)
    value = loss(logits[None], start, one(logits, 0, 0.0), 0.2, 1.0)
    p = logits.detach().softmax(-1)
    assert float(value.detach()) == pytest.approx(float((p * (p * 2).log()).sum()), abs=1e-6)
    value.backward()
    assert logits.grad[0] > 0 > logits.grad[1]
