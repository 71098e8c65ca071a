"""Any sequence-classification model with one output is a reward model; nothing else is."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taketurns.errors import ConfigError
from taketurns.tasks.scorers.registry import make_scorer
from taketurns.tasks.scorers.reward import Reward
from taketurns.types import Message, Query

QUERY = Query("1", text="Tell me of the sea.")
TURN = Message("user", "Tell me.")


@pytest.fixture(scope="module")
def reward_model(tmp_path_factory: pytest.TempPathFactory, byte_tokenizer: Any) -> Path:
    return _classifier(tmp_path_factory.mktemp("reward"), byte_tokenizer, labels=1)


def _classifier(folder: Path, tokenizer: Any, labels: int) -> Path:
    import torch
    from transformers import LlamaConfig, LlamaForSequenceClassification

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=128, num_labels=labels,
        initializer_range=0.3,
    )  # fmt: skip
    LlamaForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_batch_gives_what_each_alone_gives(reward_model: Path) -> None:
    answers = ["It is wide.", "The sea, the sea!", "No.", "Salt and wind and waves, all day long."]
    pairs = [(QUERY, answer) for answer in answers]
    together = Reward(str(reward_model), batch=3).score_many(pairs)
    alone = [Reward(str(reward_model)).score(*pair) for pair in pairs]
    for one, other in zip(together, alone, strict=True):
        assert one.raw == pytest.approx(other.raw, abs=1e-4)
        assert one.value is not None
        assert 0 < one.value < 1
    by_raw = sorted(together, key=lambda score: score.raw or 0)
    assert by_raw == sorted(together, key=lambda score: score.value or 0)


def test_it_agrees_with_the_model_itself(reward_model: Path) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(reward_model)
    model = AutoModelForSequenceClassification.from_pretrained(reward_model)
    ids = tokenizer(QUERY.text, "It is wide.", return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        expected = float(model(input_ids=ids).logits[0, 0])
    assert Reward(str(reward_model)).score(QUERY, "It is wide.").raw == pytest.approx(expected)


def test_a_chat_model_reads_the_exchange_in_its_template(
    tmp_path: Path, byte_tokenizer: Any
) -> None:
    """Fault: the reward model is shown the answer in both turns."""
    import torch
    from transformers import AutoModelForSequenceClassification

    tokenizer = copy.deepcopy(byte_tokenizer)
    tokenizer.chat_template = (
        "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }};{% endfor %}"
    )
    folder = _classifier(tmp_path, tokenizer, labels=1)
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    talk = Query("2", messages=(Message("user", "Hi"), Message("assistant", "Yes?"), TURN))
    expected = [
        (QUERY, "<s>[user]Tell me of the sea.;[assistant]It is wide.;"),
        (talk, "<s>[user]Hi;[assistant]Yes?;[user]Tell me.;[assistant]It is wide.;"),
    ]
    for query, read in expected:
        ids = tokenizer(read, add_special_tokens=False, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            raw = float(model(input_ids=ids).logits[0, 0])
        assert Reward(str(folder)).score(query, "It is wide.").raw == pytest.approx(raw, abs=1e-5)


def test_an_empty_answer_and_one_too_long(reward_model: Path) -> None:
    empty, long = Reward(str(reward_model)).score_many([(QUERY, " "), (QUERY, "sea " * 100)])
    assert (empty.value, empty.parsed) == (0, False)
    assert long.value is None
    assert "do not fit the reward model's 128" in long.why


def test_a_causal_model_is_no_reward_model(make_model: Callable[..., Path]) -> None:
    with pytest.raises(ConfigError, match="not a reward model: it has no weights for score"):
        Reward(str(make_model())).score(QUERY, "It is wide.")


def test_a_classifier_of_more_is_no_reward_model(tmp_path: Path, byte_tokenizer: Any) -> None:
    folder = _classifier(tmp_path, byte_tokenizer, labels=3)
    with pytest.raises(ConfigError, match="not a reward model: it has 3 outputs"):
        Reward(str(folder)).score(QUERY, "It is wide.")


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot load the reward model"):
        make_scorer("reward", {"model": str(tmp_path)}).score(QUERY, "It is wide.")
