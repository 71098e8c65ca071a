"""What is read and what is learned: prompts and forced text are never learned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from taketurns import Team
from taketurns.config.loading import load_team_config
from taketurns.config.team_config import TeamConfig
from taketurns.errors import ConfigError, DataError
from taketurns.training.distillation.objective import IGNORED, labels_of
from taketurns.training.distillation.rows import make_rows, read_models, split
from taketurns.training.distillation.sampling import TeamAnswer
from taketurns.types import Candidate, ModelSpec

Made = Callable[..., TeamAnswer]


def learned(row: Any, codec: Any) -> str:
    """The text of what a row's loss is on."""
    return str(codec.spell(token for token in labels_of(row) if token != IGNORED))


async def test_a_real_answer_is_learned_as_it_was_written_without_what_was_forced(
    codec: Any,
) -> None:
    """The student reads the same tokens that it would have written, and learns those that somebody
    wrote, with the end that they gave the answer."""
    cue = " the answer is"
    rules = {"policy.closing": "aligned", "policy.closing_on_end": True, "policy.closing_cue": cue}
    config = load_team_config("pocket", {**rules, "policy.patch_size": 5})
    async with Team.load(config) as team:
        trace = await team.agenerate("how many sheep does gobu tacu have?")
    forced = [patch for patch in trace.patches if patch.speaker is None]
    assert len(forced) == 1
    readers = await read_models(config, config.candidates[2].spec, "aligned")
    (row,), _ = make_rows([TeamAnswer("q#0", "recall", trace, 1.0)], readers)
    assert codec.decode(row.answer) == trace.text
    written = "".join(patch.text for patch in trace.patches if patch.speaker is not None)
    assert learned(row, codec) == written + codec.tokenizer.eos_token
    assert list(row.prompt) == list(readers.student.prompt(trace.query).ids)
    assert labels_of(row)[: len(row.prompt)] == [IGNORED] * len(row.prompt)


async def test_an_answer_that_was_cut_off_has_no_end(
    answer: Made, pocket: TeamConfig, codec: Any
) -> None:
    readers = await read_models(pocket, pocket.candidates[2].spec, "aligned")
    (row,), _ = make_rows([answer(0, (0, " the answer is"), finish="length")], readers)
    assert learned(row, codec) == " the answer is"


async def test_a_stop_string_is_no_part_of_the_answer(
    answer: Made, pocket: TeamConfig, codec: Any
) -> None:
    """It is among the tokens that were written, though the text is without it."""
    readers = await read_models(pocket, pocket.candidates[2].spec, "aligned")
    made = answer(0, (0, " the answer"), (2, " is 7. the"))
    first, last = made.trace.patches
    stopped = replace(made.trace, patches=(first, replace(last, text=" is 7.")))
    (row,), _ = make_rows([replace(made, trace=stopped)], readers)
    assert learned(row, codec) == " the answer is 7." + codec.tokenizer.eos_token
    assert set(row.speakers) == {0, 2}


async def test_a_student_with_other_tokens_learns_the_same_text(
    make_model: Any, other_tokenizer: Any, answer: Made
) -> None:
    models = {"byte": str(make_model(0)), "other": str(make_model(1, tokenizer=other_tokenizer))}
    team = TeamConfig(tuple(Candidate(name, ModelSpec(path)) for name, path in models.items()))
    readers = await read_models(team, ModelSpec(models["other"]), "other")
    said = ((0, " then the"), (None, " there is"), (1, "re Anna, é!"))
    one = answer(0, *said, exact=False)
    (row,), _ = make_rows([one], readers)
    codec = readers.student.info.codec
    whole = codec.decode([*row.prompt, *row.answer])
    assert whole == readers.student.prompt(one.trace.query).rendered.text + one.trace.text
    assert row.answer[-1] == codec.tokenizer.eos_token_id
    assert learned(row, codec) == " then there Anna, é!</s>"
    with pytest.raises(ConfigError, match=r"vocabularies of byte and the student \(other\) differ"):
        readers.one_vocabulary()


async def test_what_does_not_fit_is_left_out_and_counted(
    answer: Made, make_model: Any, pocket: TeamConfig
) -> None:
    short = ModelSpec(str(make_model(max_position_embeddings=64)))
    readers = await read_models(pocket, short, "short")
    long = answer(0, (2, " the answer is 7." * 4), exact=False)
    rows, left_out = make_rows([answer(1, (2, " 7."), exact=False), long], readers)
    assert ([row.id for row in rows], left_out) == (["q0#1"], 1)
    with pytest.raises(DataError, match="no answer fits the context of short, 64 tokens"):
        make_rows([long], readers)


async def test_no_question_is_both_learned_and_measured(answer: Made, pocket: TeamConfig) -> None:
    readers = await read_models(pocket, pocket.candidates[2].spec, "aligned")
    rows, _ = make_rows([answer(n) for n in range(200)], readers)
    train, held_out = split(rows, 0.2, seed=0)
    assert len({row.question for row in held_out}) == 4
    assert not {row.question for row in train} & {row.question for row in held_out}
    assert len(train) + len(held_out) == 200
    assert split(rows, 0.2, seed=1)[1] != held_out
    assert split([replace(row, question="one") for row in rows], 0.2, seed=0)[1] == []
