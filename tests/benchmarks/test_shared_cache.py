"""The emulation of shared keys and values, held against plain transformers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.shared_cache.layers import NONE, SharedLayers, except_for, groups, lower, upper
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
    torch.testing.assert_close(shared_logits, logits, atol=1e-5, rtol=1e-5)


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
        torch.testing.assert_close(logits, plain_logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("count", [LAYERS - 1, LAYERS])
def test_both_ways_are_one_where_no_layer_is_recomputed_after_a_shared_one(
    models: list[Any], count: int
) -> None:
    """Upper layers alone are shared: no hidden state is handed over."""
    layers = upper(count, LAYERS)
    tokens, logits = written(models, layers)
    again, recomputed = written(models, layers, RECOMPUTED)
    assert torch.equal(tokens, again)
    torch.testing.assert_close(logits, recomputed, atol=1e-5, rtol=1e-5)


def test_a_row_does_not_depend_on_the_padding_of_its_batch(models: list[Any]) -> None:
    tokens, logits = written(models, lower(2))
    for row, prompt in enumerate(PROMPTS):
        alone, expected = written(models, lower(2), prompts=[prompt])
        assert tokens[row, -alone.shape[1] :].tolist() == alone[0].tolist()
        torch.testing.assert_close(logits[row], expected[0], atol=1e-5, rtol=1e-5)


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
    torch.testing.assert_close(turns.catch_up(2), logits, atol=1e-5, rtol=1e-5)


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
