"""What speakers would have written: the engine's own distributions, at every token."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from taketurns import Candidate, ModelSpec, Patch, Query, Team, Trace
from taketurns.config.team_config import TeamConfig
from taketurns.engines.local.loading import LoadedModel, Weights
from taketurns.errors import ConfigError, DataError, NotANumberError
from taketurns.training.distillation.rows import Readers, StudentRow, make_rows, read_models
from taketurns.training.distillation.sampling import TeamAnswer
from taketurns.training.distillation.targets import Targets, read_targets

Made = Callable[..., TeamAnswer]
VOCABULARY = 470


@pytest.fixture
def read(pocket: TeamConfig, tmp_path: Path) -> Any:
    """Rows of answers and their targets, with the student the aligned checkpoint."""

    async def of(
        answers: list[TeamAnswer], top: int = VOCABULARY, temperature: float = 1.0
    ) -> tuple[list[StudentRow], Targets, Readers]:
        readers = await read_models(pocket, pocket.candidates[2].spec, "aligned")
        rows, _ = make_rows(answers, readers)
        made = read_targets(rows, answers, readers, VOCABULARY, temperature, top, tmp_path)
        return rows, made, readers

    return of


async def test_each_token_has_its_speakers_distribution_under_its_own_prompt(
    read: Any, pocket: TeamConfig
) -> None:
    """Beside the engine that wrote the answer; the end of the answer too."""
    async with Team.load(pocket, patch_size=4) as team:
        trace = await team.agenerate("how many sheep does gobu tacu have?")
        answer = TeamAnswer("q#0", "recall", trace, 1.0)
        (row,), targets, readers = await read([answer])
        ids, logprobs = targets.of(0)
        assert len(set(row.speakers)) > 1
        assert len(ids) == row.learned == len(row.answer)
        async with team.engine.session(0) as session:
            for place, who in enumerate(row.speakers):
                reader = readers.candidates[who]
                prompt = list(reader.prompt(trace.query).ids) + list(row.answer[:place])
                expected = await session.next_logprobs(reader.candidate.name, prompt)
                found = torch.full((VOCABULARY,), -torch.inf)
                found[ids[place]] = logprobs[place]
                torch.testing.assert_close(
                    found.exp(), expected.exp(), atol=2e-3, rtol=0, check_dtype=False
                )


async def test_temperature_flattens_and_top_keeps_the_most_probable(
    read: Any, answer: Made, tmp_path: Path
) -> None:
    answers = [answer(n, (n % 3, " the answer is 7."), (2, " no.")) for n in range(3)]
    _, whole, _ = await read(answers)
    for file in tmp_path.glob("targets-*"):
        file.unlink()
    _, some, _ = await read(answers, top=8)
    assert some.ids.shape == (whole.ids.shape[0], 8)
    torch.testing.assert_close(some.logprobs, whole.logprobs[:, :8])
    for file in tmp_path.glob("targets-*"):
        file.unlink()
    _, warm, _ = await read(answers, temperature=2.0)
    assert (warm.logprobs[:, 0] <= whole.logprobs[:, 0]).all()
    torch.testing.assert_close(
        warm.logprobs.float().exp().sum(-1), torch.ones(len(warm.ids)), atol=5e-3, rtol=0
    )


async def test_what_a_speaker_never_writes_is_no_target(
    answer: Made, pocket: TeamConfig, codec: Any, tmp_path: Path
) -> None:
    """A checkpoint with a head folded into it has tokens that stand for candidates."""
    aligned = pocket.candidates[2]
    shutil.copytree(aligned.spec.model, tmp_path / "muted")
    settings = tmp_path / "muted" / "generation_config.json"
    token = codec.encode(" the")[0]
    muting = {**json.loads(settings.read_text()), "suppress_tokens": [token]}
    settings.write_text(json.dumps(muting))
    muted = replace(aligned, spec=replace(aligned.spec, model=str(tmp_path / "muted")))
    team = replace(pocket, candidates=(*pocket.candidates[:2], muted))
    readers = await read_models(team, aligned.spec, "aligned")
    answers = [answer(0, (0, " the answer"), (2, " the answer is 7."))]
    rows, _ = make_rows(answers, readers)
    made = read_targets(rows, answers, readers, VOCABULARY, 1.0, VOCABULARY, tmp_path)
    ids, logprobs = made.of(0)
    given = torch.where(ids == token, logprobs.exp(), 0.0).sum(-1)
    muted_places = torch.tensor([who == 2 for who in rows[0].speakers])
    assert given[muted_places].max() < 1e-20
    assert given[~muted_places].max() > 1e-6
    torch.testing.assert_close(logprobs.exp().sum(-1), torch.ones(len(ids)), atol=5e-3, rtol=0)


async def test_a_killed_reading_goes_on_and_another_runs_part_is_refused(
    read: Any, answer: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taketurns.training.distillation.targets.PART", 2)
    answers = [answer(n, (n % 3, " the answer is 7.")) for n in range(5)]
    _, whole, _ = await read(answers)
    assert len(list(tmp_path.glob("targets-*"))) == 3
    (tmp_path / "targets-0001.safetensors").unlink()
    _, again, _ = await read(answers)
    assert torch.equal(whole.logprobs, again.logprobs)
    assert torch.equal(whole.ids, again.ids)
    with pytest.raises(DataError, match=r"targets-0000.safetensors belongs to another run"):
        await read([answer(n, (0, " 7.")) for n in range(5)])


async def test_another_models_control_tokens_are_no_targets(
    make_model: Any, other_tokenizer: Any, byte_tokenizer: Any, tmp_path: Path
) -> None:
    """Fault: the probability of a candidate's control token went to whatever the student has at
    its id."""
    candidate = Candidate("one", ModelSpec(str(make_model(0)), prompt="{text}"))
    config = TeamConfig((candidate, replace(candidate, name="two")))
    readers = await read_models(config, candidate.spec, "student")
    trace = Trace(
        Query("q", text="hi"), (Patch(0, (70, 71), "\u0107\u0108", "length", "chosen"),), 1
    )
    answers = [TeamAnswer("q#0", "t", trace, 1.0)]
    rows, _ = make_rows(answers, readers)
    size = len(byte_tokenizer) + 4
    targets = read_targets(rows, answers, readers, size, 1.0, size, tmp_path)
    ids, logprobs = targets.of(0)
    codec = readers.student.info.codec
    given = {int(i) for i in ids[0][logprobs[0] > -50]}
    assert given == codec.ordinary_ids | {int(codec.tokenizer.eos_token_id)}
    stranger = await read_models(config, ModelSpec(str(make_model(1, other_tokenizer))), "student")
    with pytest.raises(ConfigError, match="use --loss sft"):
        read_targets(rows, answers, stranger, size, 1.0, size, tmp_path / "other")


async def test_a_speaker_that_computes_nan_teaches_nothing(
    read: Any, pocket: TeamConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Weights.load

    def spoiled(self: Weights, name: str) -> LoadedModel:
        loaded = whole(self, name)
        with torch.no_grad():
            next(loaded.model.parameters()).fill_(torch.nan)
        return loaded

    async with Team.load(pocket, patch_size=4) as team:
        trace = await team.agenerate("how many sheep does gobu tacu have?")
    monkeypatch.setattr(Weights, "load", spoiled)
    with pytest.raises(NotANumberError, match="computed NaN or infinity for a token of the answer"):
        await read([TeamAnswer("q#0", "recall", trace, 1.0)])
