"""The emulation of shared keys and values, held against plain transformers."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.shared_cache import report
from benchmarks.shared_cache.answers import Order, Setting, divergence, write_answers
from benchmarks.shared_cache.cost import catch_ups, memory
from benchmarks.shared_cache.handover import finish_answers, handover_divergence
from benchmarks.shared_cache.layers import NONE, SharedLayers, except_for, groups, lower, upper
from benchmarks.shared_cache.run import best_choices, pocket_choices, steps
from benchmarks.shared_cache.turns import HANDED_OVER, RECOMPUTED, HiddenStates, Turns

LAYERS, VOCABULARY, END = 4, 61, 60
PROMPTS = ([5, 9, 2], [7, 7, 1, 30, 12, 4], [11])
SPEAKERS = (0, 1, 0, 2, 1)
PATCH = 5
CHOICES = [lower(1), lower(2), lower(4), upper(1, LAYERS), upper(3, LAYERS)]
CHOICES += [except_for(1, 3, LAYERS), SharedLayers("0 and 2", frozenset({0, 2}))]


@pytest.fixture(scope="module")
def models() -> list[Any]:
    config = LlamaConfig(
        hidden_size=32,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=48,
        vocab_size=VOCABULARY,
        initializer_range=0.3,
    )
    made = []
    for seed in range(3):
        torch.manual_seed(seed)
        made.append(LlamaForCausalLM(config).eval())
    return made


def written(
    models: list[Any],
    layers: SharedLayers = NONE,
    how: HiddenStates = HANDED_OVER,
    prompts: Any = PROMPTS,
) -> tuple[torch.Tensor, torch.Tensor]:
    """What the models write in turns, and the logits of the last speaker at its end."""
    turns = Turns(models, prompts, 60, layers, how)
    ended = torch.zeros(len(prompts), dtype=torch.bool)
    for speaker in SPEAKERS:
        turns.write(speaker, PATCH, VOCABULARY, ended)  # no token ends
    return turns.tokens, turns.catch_up(2)


def test_with_no_shared_layer_each_speaker_writes_what_transformers_writes(
    models: list[Any],
) -> None:
    tokens, logits = written(models)
    for row, prompt in enumerate(PROMPTS):
        text = list(prompt)
        for speaker in SPEAKERS:
            for _ in range(PATCH):
                with torch.inference_mode():
                    text.append(int(models[speaker](torch.tensor([text])).logits[0, -1].argmax()))
        assert tokens[row, -len(text) :].tolist() == text
        with torch.inference_mode():
            expected = models[2](torch.tensor([text])).logits[0, -1]
        torch.testing.assert_close(logits[row], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("how", [HANDED_OVER, RECOMPUTED])
@pytest.mark.parametrize("layers", CHOICES, ids=lambda layers: layers.name)
def test_a_model_that_shares_with_itself_writes_what_it_writes_alone(
    models: list[Any], layers: SharedLayers, how: HiddenStates
) -> None:
    same = [models[0]] * 3
    tokens, logits = written(same)
    shared, shared_logits = written(same, layers, how)
    assert torch.equal(tokens, shared)
    torch.testing.assert_close(shared_logits, logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("layers", CHOICES, ids=lambda layers: layers.name)
def test_sharing_between_different_models_changes_what_the_reader_sees(
    models: list[Any], layers: SharedLayers
) -> None:
    turns = Turns(models, PROMPTS, 60, layers)
    plain = Turns(models, PROMPTS, 60)
    torch.testing.assert_close(turns.catch_up(0), plain.catch_up(0))  # the owner's own
    text = torch.tensor([[3, 4, 5]] * len(PROMPTS))
    turns.follow(0, text), plain.follow(0, text)
    assert not torch.allclose(turns.catch_up(1), plain.catch_up(1), atol=1e-3)


def test_handed_over_states_are_the_recomputed_ones_where_the_lower_layers_are_equal(
    models: list[Any],
) -> None:
    """Where the reader's shared layers have the writer's weights, its own hidden states are those
    that it would be given."""
    torch.manual_seed(9)
    tuned = LlamaForCausalLM(models[0].config).eval()
    tuned.model.embed_tokens.load_state_dict(models[0].model.embed_tokens.state_dict())
    for layer in range(2):
        tuned.model.layers[layer].load_state_dict(models[0].model.layers[layer].state_dict())
    pair = [models[0], tuned, models[0]]
    plain, plain_logits = written(pair)
    for how in (HANDED_OVER, RECOMPUTED):
        tokens, logits = written(pair, lower(2), how)
        assert torch.equal(tokens, plain)
        torch.testing.assert_close(logits, plain_logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("count", [LAYERS - 1, LAYERS])
def test_both_ways_are_one_where_no_layer_is_recomputed_after_a_shared_one(
    models: list[Any], count: int
) -> None:
    """Upper layers alone are shared: no hidden state is handed over."""
    layers = upper(count, LAYERS)
    tokens, logits = written(models, layers)
    again, recomputed = written(models, layers, RECOMPUTED)
    assert torch.equal(tokens, again)
    torch.testing.assert_close(logits, recomputed, atol=1e-4, rtol=1e-4)


def test_a_row_does_not_depend_on_the_padding_of_its_batch(models: list[Any]) -> None:
    tokens, logits = written(models, lower(2))
    for row, prompt in enumerate(PROMPTS):
        alone, expected = written(models, lower(2), prompts=[prompt])
        assert tokens[row, -alone.shape[1] :].tolist() == alone[0].tolist()
        torch.testing.assert_close(logits[row], expected[0], atol=1e-4, rtol=1e-4)


def test_rows_that_are_dropped_change_no_other(models: list[Any]) -> None:
    turns, some = (Turns(models, PROMPTS, 60, except_for(1, 3, LAYERS)) for _ in range(2))
    going = torch.zeros(len(PROMPTS), dtype=torch.bool)
    for part in (turns, some):
        part.write(0, PATCH, VOCABULARY, going)
    rows = torch.tensor([0, 2])
    some.keep(rows)
    torch.testing.assert_close(some.catch_up(1), turns.catch_up(1)[rows])


def test_the_logits_of_given_tokens_are_those_of_written_ones(models: list[Any]) -> None:
    tokens, logits = written(models, lower(2))
    turns = Turns(models, PROMPTS, 60, lower(2))
    start = turns.columns
    for speaker in SPEAKERS:
        patch = tokens[:, start : start + PATCH]
        assert torch.equal(turns.follow(speaker, patch).argmax(-1), patch)
        start += PATCH
    torch.testing.assert_close(turns.catch_up(2), logits, atol=1e-4, rtol=1e-4)


def test_the_memory_of_shared_layers_is_counted_once(models: list[Any]) -> None:
    def nbytes(layers: SharedLayers) -> int:
        turns = Turns(models, PROMPTS, 60, layers)
        for speaker in range(3):
            turns.catch_up(speaker)
        return turns.nbytes

    whole, hidden = nbytes(NONE), len(PROMPTS) * 6 * 32 * 4
    assert nbytes(lower(2)) == whole * 4 // 6 + hidden
    assert nbytes(upper(2, LAYERS)) == whole * 4 // 6
    assert nbytes(lower(4)) == whole // 3


def test_groups_are_named_and_share_as_many_layers_as_was_asked() -> None:
    names = [layers.name for layers in groups(2, LAYERS)]
    assert names == ["lower 2", "all but 1-2", "upper 2"]
    assert all(len(layers.shared) == 15 for layers in groups(15, 30, stride=5))
    assert [layers.name for layers in groups(4, LAYERS)] == ["lower 4"]


def test_what_one_model_wrote_can_be_shared_by_any_layers_afterwards(models: list[Any]) -> None:
    text = torch.tensor([[3, 4, 5, 6]] * len(PROMPTS))
    begun = Turns(models, PROMPTS, 60, remember=True)
    begun.follow(0, text)
    for layers in (NONE, *CHOICES):
        turns, other = Turns(models, PROMPTS, 60, layers), begun.shared_by(layers)
        turns.follow(0, text)
        for part in (turns, other):
            part.write(1, PATCH, VOCABULARY, torch.zeros(len(PROMPTS), dtype=torch.bool))
        assert torch.equal(turns.tokens, other.tokens)
        torch.testing.assert_close(turns.catch_up(0), other.catch_up(0), atol=1e-4, rtol=1e-4)


def test_the_last_speaker_goes_on_or_the_order_begins_again() -> None:
    assert [*Order("", (0, 1)).patches(4, 14)] == [(0, 4), (1, 4), (1, 4), (1, 2)]
    assert [*Order("", (0, 1), again=True).patches(4, 14)] == [(0, 4), (1, 4), (0, 4), (1, 2)]


ORDER = Order("all", (0, 1, 2), again=True)


def test_answers_end_at_the_end_token_and_do_not_depend_on_the_batch(models: list[Any]) -> None:
    setting = Setting(ORDER, 4, lower(2))
    endless = write_answers(models, PROMPTS, setting, 30, VOCABULARY, batch=3)
    end = endless[0][9]  # a token that some answer has
    answers = write_answers(models, PROMPTS, setting, 30, end, batch=3)
    assert answers == write_answers(models, PROMPTS, setting, 30, end, batch=1)
    for answer, whole in zip(answers, endless, strict=True):
        assert answer == (whole[: whole.index(end)] if end in whole else whole)
    assert len(answers[0]) <= 9


def test_the_divergence_is_zero_without_sharing_and_for_equal_models(models: list[Any]) -> None:
    answers = write_answers(models, PROMPTS, Setting(ORDER, 4), 20, VOCABULARY, batch=3)
    answers[1] = answers[1][:11]
    settings = [Setting(ORDER, 4, layers) for layers in (NONE, lower(2))]
    none, shared = divergence(models, PROMPTS, answers, settings, batch=2)
    assert none.divergence == pytest.approx(0, abs=1e-6)
    assert none.agreement == 1
    assert none.tokens == shared.tokens == 16 + 7 + 16  # all but the first patches
    assert shared.divergence > 0.01
    [_, alike] = divergence([models[0]] * 3, PROMPTS, answers, settings, batch=2)
    assert alike.divergence == pytest.approx(0, abs=1e-5)


def test_a_handover_is_an_order_of_two(models: list[Any]) -> None:
    pair = (models[0], models[1])
    order = Order("pair", (0, 1))
    written = {
        layers.name: write_answers(pair, PROMPTS, Setting(order, 6, layers), 14, 3, batch=3)
        for layers in (NONE, lower(2))
    }
    beginnings = write_answers(pair, PROMPTS, Setting(order, 6), 6, VOCABULARY, batch=3)
    finished = finish_answers(pair, PROMPTS, beginnings, [NONE, lower(2)], 8, 3, batch=2)
    for name, answers in finished.items():
        for answer, whole in zip(answers, written[name], strict=True):
            if 3 not in beginnings[0] + beginnings[1] + beginnings[2]:
                assert answer == whole
    texts = [[*range(10, 22)]] * len(PROMPTS)
    found = handover_divergence(pair, PROMPTS, texts, 6, [NONE, lower(2)], batch=2)
    [none, shared] = divergence(
        pair, PROMPTS, texts, [Setting(order, 6, layers) for layers in (NONE, lower(2))], batch=3
    )
    assert found["none"].divergence == pytest.approx(0, abs=1e-6)
    assert found["lower 2"].divergence == pytest.approx(shared.divergence, rel=1e-3)
    assert found["lower 2"].tokens == shared.tokens == none.tokens


def test_costs_are_measured_beside_nothing_shared(models: list[Any]) -> None:
    rows = catch_ups("tiny", "float32", models[0], (2, 8), rounds=2)
    assert [row.layers for row in rows] == ["lower 2", "lower 3", "lower 4", "upper 2"]
    assert all(0 < row.lowest <= row.ratio <= row.highest for row in rows)
    assert len({row.plain_seconds for row in rows}) == 1
    assert memory("tiny", models[0], lower(2)).ratio == pytest.approx(4 / 6 + 32 / (3 * 4 * 32))
    assert memory("tiny", models[0], upper(2, LAYERS)).hidden == 0


def test_every_step_has_an_output_of_its_own(tmp_path: Path) -> None:
    options = Namespace(
        work=tmp_path, small=True, pipeline=["1=other"], real=Path("cache"), data=Path("data")
    )
    far = {layers.name: {"divergence": len(layers.shared)} for layers in pocket_choices()}
    for step in steps(options):
        if "-divergence-" in step.name and "pocket" in step.name:
            step.output.parent.mkdir(parents=True, exist_ok=True)
            step.output.write_text(json.dumps(far))
    made = [step for step in steps(options) if not step.output.exists()]
    outputs = {step.output for step in made}
    assert {path.parts[-2] for path in outputs} >= {"dev", "test", "real"}
    names = {step.name for step in made}
    assert len(names) == len(outputs)


def test_the_best_choice_of_each_number_has_the_lowest_divergence() -> None:
    far = {layers.name: {"divergence": 1.0} for layers in pocket_choices()}
    far["upper 2"] = far["all but 1-1"] = {"divergence": 0.1}
    names = [layers.name for layers in best_choices([far])]
    assert names == ["lower 1", "upper 2", "all but 1-1", "lower 4"]


def test_a_planted_loss_is_in_the_table(tmp_path: Path) -> None:
    right, wrong = [1.0] * 30 + [0.0] * 10, [1.0] * 20 + [0.0] * 20
    answers = {
        "none": {"scores": {"a": right, "b": right}, "texts": ["x"] * 80},
        "lower 2": {"scores": {"a": wrong, "b": right}, "texts": ["x"] * 70 + ["y"] * 10},
    }
    path = tmp_path / "answers.json"
    path.write_text(json.dumps(answers))
    *_, none, shared = report.real_answers_table(path).splitlines()
    assert none == "| none | 0.750 |  | 1.000 | 0.75 | 0.75 |"
    assert shared.startswith("| lower 2 | 0.625 | -0.125 (-0.2")
    assert shared.endswith("| 0.875 | 0.50 | 0.75 |")
