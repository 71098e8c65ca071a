"""Problems of many steps, and how far an answer to one is right."""

from __future__ import annotations

import pytest

from recipes.pocket.long import LongTask
from recipes.pocket.vocabulary import build_tokenizer


@pytest.mark.parametrize("steps", [1, 2, 8, 64])
def test_a_worked_answer_is_right_and_a_wrong_step_ends_what_counts(steps: int) -> None:
    task = LongTask(steps)
    for query in task.queries("test")[:20]:
        worked = query.metadata["worked"]
        assert task.score(query, worked).value == 1
        assert all(0 <= value <= 99 for value in query.reference)
        assert worked.count("=") >= 3 * steps
        half = steps // 2
        parts = worked.split(". ")
        parts[half] = parts[half].rpartition(" ")[0] + " 1000"
        score = task.score(query, ". ".join(parts) + ".")
        assert score.value == half / steps
    assert task.score(query, "i do not know.").value == 0
    assert not task.score(query, "i do not know.").parsed


def test_the_world_s_words_are_enough() -> None:
    tokenizer = build_tokenizer(chat=False)
    query = LongTask(16).queries("dev")[0]
    ids = tokenizer.encode(f"{query.text} {query.metadata['worked']}")
    assert tokenizer.unk_token_id not in ids
    assert LongTask(16).queries("dev")[0] == query
