from typing import Any

import pytest
import torch

from benchmarks.overhead.models import ModelPool
from benchmarks.overhead.plain import generate
from benchmarks.overhead.public import PublicAnswer, PublicLoop
from benchmarks.overhead.variants import tagged_trace
from benchmarks.overhead.workload import Workload, queries
from taketurns.checkpoints.text import TextCodec
from taketurns.config.policy import Policy
from taketurns.generation.team import SWITCHER
from taketurns.types import Patch


class Parrot:
    """Stands for a transformers model: notes what it is asked and writes 7s, or one 7 and the
    end."""

    device = torch.device("cpu")

    def __init__(self, end: int | None = None) -> None:
        self.asked: list[tuple[int, int, int]] = []
        self.generation_config = self
        self.eos_token_id = end

    def generate(
        self,
        *,
        input_ids: Any,
        attention_mask: Any,
        max_new_tokens: int,
        min_new_tokens: int | None,
        **_: Any,
    ) -> Any:
        rows = input_ids.shape[0]
        self.asked.append((rows, int(attention_mask.sum()), max_new_tokens))
        ends = self.eos_token_id is not None and min_new_tokens is None
        new = [7, self.eos_token_id] if ends else [7] * max_new_tokens
        return torch.cat([input_ids, torch.tensor([new] * rows)], 1)


class Tagged:
    def prompt(self, patches: list[Patch]) -> list[int]:
        return [1] * (5 + 3 * len(patches))


def answer(*turns: int) -> PublicAnswer:
    return PublicAnswer([[1, 2], [1, 2, 3]], Tagged(), turns)  # type: ignore[arg-type]


def test_end_tokens_do_not_stop_the_rounds() -> None:
    speakers, switcher = [Parrot(end=2), Parrot(end=2)], Parrot(end=2)
    asked = answer(0, 1, 0, 1)
    run = PublicLoop(speakers, switcher, Policy(patch_size=4, max_tokens=15)).run([asked])
    assert run.rounds == len(asked.patches) == 4
    assert asked.token_ids == [7, 7, 7, 7]


def test_the_whole_budget_is_spent_where_nobody_may_end() -> None:
    asked = answer(0, 1, 0, 1)
    speakers, policy = [Parrot(end=2), Parrot(end=2)], Policy(patch_size=4, max_tokens=15)
    PublicLoop(speakers, Parrot(end=2), policy, full=True).run([asked])
    assert asked.token_ids == [7] * 15


def test_every_round_reads_everything_again() -> None:
    speakers, switcher = [Parrot(), Parrot()], Parrot()
    run = PublicLoop(speakers, switcher, Policy(patch_size=4, max_tokens=15)).run(
        [answer(0, 1, 0, 0)]
    )
    assert speakers[0].asked == [(1, 2, 4), (1, 2 + 8, 4), (1, 2 + 12, 3)]
    assert speakers[1].asked == [(1, 3 + 4, 4)]
    # Not before the first and the last round; each time up to a patch of text.
    assert switcher.asked == [(1, 5 + 3, 4), (1, 5 + 6, 4)]
    assert run.switcher_tokens == 8


def test_rounds_are_in_lock_step_and_grouped_by_speaker() -> None:
    speakers, switcher = [Parrot(), Parrot()], Parrot()
    answers = [answer(0, 1, 0), answer(0, 0, 0), answer(1, 0, 0)]
    PublicLoop(speakers, switcher, Policy(patch_size=4, max_tokens=12)).run(answers)
    assert [rows for rows, _, _ in speakers[0].asked] == [2, 2, 3]
    assert [rows for rows, _, _ in speakers[1].asked] == [1, 1]
    assert [rows for rows, _, _ in switcher.asked] == [3]


def test_real_models_write_the_whole_budget(tiny: ModelPool) -> None:
    workload = Workload(batch=2, tokens=22, prompt=10, patch=5)
    codec = TextCodec.load(tiny.candidates[0].spec)
    speakers = [tiny.model(candidate.name) for candidate in tiny.candidates]
    asked = [
        PublicAnswer([codec.encode(query.text or "")] * 3, tagged_trace(codec, query), turns)
        for query, turns in zip(queries(workload, tiny.words), workload.turns, strict=True)
    ]
    run = PublicLoop(speakers, tiny.model(SWITCHER), workload.policy).run(asked)
    assert [len(one.token_ids) for one in asked] == [22, 22]
    assert run.rounds == 5
    assert run.switcher_tokens == 2 * 3 * 5
    assert run.rambling > 0


def test_padding_does_not_change_a_row(tiny: ModelPool) -> None:
    model = tiny.model(tiny.candidates[0].name)
    torch.manual_seed(0)
    short, long = [3, 4, 5], [9, 8, 7, 6, 5, 4]
    alone = generate(model, [short], 6, temperature=1e-4, top_p=1.0)
    beside = generate(model, [short, long], 6, temperature=1e-4, top_p=1.0)
    assert beside[0] == pytest.approx(alone[0])
