"""The shipped checkpoints load as any others, are small, and are what their card says."""

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from recipes.pocket.measure import answers
from recipes.pocket.recipe import CHECKPOINTS, Measuring
from taketurns.config.loading import load_team_config
from taketurns.pocket.score import Methods, score
from taketurns.pocket.tasks import TASKS
from taketurns.switchers import candidate_order
from taketurns.switchers.head import Head

WEIGHTS = Path(str(files("taketurns.pocket") / "weights"))


@pytest.fixture(scope="module")
def card() -> Any:
    return json.loads((WEIGHTS / "card.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("stage", CHECKPOINTS)
def test_a_checkpoint_loads_with_plain_transformers(stage: str) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(WEIGHTS / stage)
    tokenizer = AutoTokenizer.from_pretrained(WEIGHTS / stage)
    assert model.config.vocab_size == len(tokenizer)
    assert model.config.max_position_embeddings >= 2048
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert (tokenizer.chat_template is None) == (stage == "pretrained")


def test_the_three_are_small() -> None:
    assert sum(path.stat().st_size for path in WEIGHTS.rglob("*") if path.is_file()) < 25e6


def test_the_tokenizer_is_the_codes(card: Any) -> None:
    from transformers import AutoTokenizer

    from recipes.pocket.vocabulary import build_tokenizer

    expected = build_tokenizer(chat=True)
    shipped = AutoTokenizer.from_pretrained(WEIGHTS / "aligned")
    assert shipped.get_vocab() == expected.get_vocab()
    text = 'how old is "bavo" in 45? <model 1 begins> 72 - 6 = [ 12'
    assert shipped.encode(text) == expected.encode(text)


def test_the_cards_figures_hold_on_a_sample(card: Any) -> None:
    """40 questions a task: the share must be within four standard errors of the card's."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    settings = Measuring(budget=160, batch=120)
    for stage, names in (("pretrained", ("recall", "wording")), ("sft", ("arithmetic", "harm"))):
        model = AutoModelForCausalLM.from_pretrained(WEIGHTS / stage).eval()
        tokenizer = AutoTokenizer.from_pretrained(WEIGHTS / stage)
        for name in names:
            task, figures = TASKS[name], card["scores"][stage]
            stated = next(f for f in figures if f["task"] == name and f["split"] == "test")
            share = stated["right"] / stated["questions"]
            queries = task.queries("test")[:40]
            texts = answers(model, tokenizer, [q.text or "" for q in queries], settings, 7)
            right = sum(task.score(q, t).value or 0 for q, t in zip(queries, texts, strict=True))
            spread = max(0.02, (share * (1 - share) / 40) ** 0.5)
            assert abs(right / 40 - share) <= 4 * spread, (stage, name)


def test_no_checkpoint_is_best_everywhere(card: Any) -> None:
    shares: dict[str, dict[str, float]] = {
        stage: {
            f["task"]: f["right"] / f["questions"]
            for f in card["scores"][stage]
            if f["split"] == "test"
        }
        for stage in CHECKPOINTS
    }
    for stage, by_task in shares.items():
        others = [shares[other] for other in CHECKPOINTS if other != stage]
        assert any(other[task] > share for other in others for task, share in by_task.items())


def test_every_shipped_switcher_is_a_team() -> None:
    folders = [path for path in (WEIGHTS / "switchers").iterdir() if path.is_dir()]
    assert {"global", "lm", "practised"} < {path.name for path in folders}
    for folder in folders:
        team = load_team_config(folder)
        assert [candidate.name for candidate in team.candidates] == list(CHECKPOINTS)
        assert team.switcher.kind == ("lm" if folder.name == "lm" else "head")
        if team.switcher.path is not None:
            assert Head.load(team.switcher.path).config.candidates == CHECKPOINTS
        else:
            assert candidate_order.resolve(team.switcher) == CHECKPOINTS


async def test_the_shipped_switchers_do_what_no_checkpoint_does() -> None:
    """`age` asks for facts and then for reckoning; the best checkpoint is right in 44 %."""
    tasks = {"age": TASKS["age"]}
    named = ["switch-global", "switch-practised", "switch-lm"]
    methods = Methods(load_team_config("pocket"), named, list(tasks))
    try:
        scores = await score(methods.teams, tasks, limit=40)
    finally:
        await methods.engine.close()
    assert all(found["age"].mean > 0.6 for found in scores.shares().values())
