"""A router picks who writes each token and adds its logits: real models held against plain
forwards, what each reads, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import BloomConfig

from taketurns import (
    Candidate,
    ConfigError,
    ModelSpec,
    Policy,
    PromptError,
    Query,
    ScriptedEngine,
    Team,
    Token,
)
from taketurns.engines.local.engine import LocalEngine
from taketurns.engines.local.logits import corrected
from taketurns.switchers.fusionroute import FusionRouteSwitcher, Router
from taketurns.switchers.routing_head import WEIGHTS, RoutingHead
from taketurns.types import Sampling, SamplingOptions
from tests.token_level.reference import plain, routed
from tests.token_level.teams import tokens

QUESTIONS = ("the street", "at noon, ", "it is her", "red house. ", "a", "no one.")
NAMES = ("base", "middle", "aligned")
ROUTER = "router"
SIZE = 64
TOKENS = 12


@pytest.fixture(scope="session")
def models(make_model: Callable[..., Path], letters: Any, pair: dict[str, str]) -> dict[str, str]:
    """Three candidates and a router with one tokenizer, by name."""
    more = {
        name: str(make_model(seed, tokenizer=letters, vocab_size=len(letters)))
        for name, seed in (("middle", 8), (ROUTER, 9))
    }
    return {"base": pair["base"], "middle": more["middle"], "aligned": pair["aligned"], **more}


def head(names: Sequence[str] = NAMES, size: int = SIZE) -> RoutingHead:
    torch.manual_seed(7)
    return RoutingHead(tuple(names), torch.randn(len(names), size) / 8, torch.randn(len(names)))


def made(
    models: Mapping[str, str],
    names: Sequence[str] = NAMES,
    source: str | RoutingHead | None = None,
    **changes: Any,
) -> Team:
    """A greedy team of these candidates and the router."""
    specs = {name: ModelSpec(models[name], prompt="{text}") for name in (*names, ROUTER)}
    settings: dict[str, Any] = {"max_tokens": TOKENS, "temperature": 0.0, "greedy_switcher": True}
    switcher = FusionRouteSwitcher(ROUTER, specs[ROUTER], source or head(names))
    candidates = [Candidate(name, specs[name]) for name in names]
    return Team(candidates, LocalEngine(specs), switcher, Policy(**settings | changes))


def queries() -> list[Query]:
    return [Query(str(i), text=text) for i, text in enumerate(QUESTIONS)]


def test_an_answer_is_that_of_plain_forwards(models: dict[str, str], letters: Any) -> None:
    """Token by token, who wrote which; and in a batch as alone."""
    from transformers import AutoModelForCausalLM

    router = AutoModelForCausalLM.from_pretrained(models[ROUTER]).eval()
    *experts, own = (plain(models[name]) for name in (*NAMES, ROUTER))

    @torch.inference_mode()
    def picks(ids: Sequence[int]) -> int:
        last = router(torch.tensor([list(ids)]), output_hidden_states=True).hidden_states[-1]
        return int((head().weight @ last[0, -1] + head().bias).argmax())

    with made(models) as team:
        speakers: set[int] = set()
        for query, trace in zip(queries(), team.generate(queries()), strict=True):
            prompt = letters.encode(query.text, add_special_tokens=False)
            expected = routed(experts, own, picks, prompt, TOKENS, letters.eos_token_id)
            assert tokens(trace) == expected
            assert all(len(patch.token_ids) <= 1 for patch in trace.patches)
            speakers.update(speaker for speaker, _ in expected)
            assert tokens(team.generate(query)) == expected
        assert len(speakers) > 1
        alone = [tokens(team.alone(name).generate("the street")) for name in NAMES]
        assert [token for _, token in tokens(team.generate("the street"))] not in [
            [token for _, token in one] for one in alone
        ]


def test_draws_are_of_the_seed_and_of_no_batch(models: dict[str, str]) -> None:
    """The weights are probabilities, by which the policy may draw too."""
    with made(models, temperature=1.0, speaker_top_p=1.0, top_p=1.0, greedy_switcher=False) as team:
        traces = team.generate(queries(), seed=5)
        assert [tokens(t) for t in traces] == [tokens(team.generate(q, seed=5)) for q in queries()]
        assert [tokens(t) for t in traces] != [tokens(t) for t in team.generate(queries(), seed=6)]
        weights = [patch.probabilities for trace in traces for patch in trace.patches]
        assert all(w is not None and sum(w) == pytest.approx(1) and max(w) < 1 for w in weights)


@pytest.mark.parametrize("lanes", [True, False])
async def test_a_token_is_drawn_from_the_product(
    models: dict[str, str], letters: Any, make_model: Callable[..., Path], lanes: bool
) -> None:
    """The engine's own numbers for every outcome, also of a model without lanes."""
    bloom: dict[str, Any] = {"config_class": BloomConfig, "n_layer": 2, "n_head": 4}
    changes = {} if lanes else bloom
    base = str(make_model(5, tokenizer=letters, vocab_size=len(letters), **changes))
    engine = LocalEngine({"base": ModelSpec(base), ROUTER: ModelSpec(models[ROUTER])})
    prompt = letters.encode("the street", add_special_tokens=False)
    infos = [await engine.info(name) for name in ("base", ROUTER)]
    router = Router.of(head(), _shared(infos), infos[1], infos[:1])
    seen: list[Token] = []
    async with engine.session(0) as session:
        own = await session.next_logprobs(ROUTER, prompt)
        sampling = Sampling(1, logprobs=len(letters), correction=router.correction(0, own))
        completion = await session.generate("base", prompt, sampling, seen.append)
    await engine.close()
    product = plain(base)(prompt) * plain(models[ROUTER])(prompt)
    expected = (product / product.sum()).log()
    token = completion.end or seen[0]
    assert dict(token.top) == pytest.approx(dict(enumerate(expected.tolist())), abs=1e-3)


def _shared(infos: Sequence[Any]) -> Any:
    from taketurns.checkpoints.text import SharedVocabulary

    return SharedVocabulary.of(info.codec for info in infos)


async def test_the_end_is_one_outcome_and_other_control_tokens_none(
    three_models: dict[str, str], byte_tokenizer: Any
) -> None:
    """A router that ends by either of two tokens, a candidate by one; four ids mean nothing."""
    engine = LocalEngine({name: ModelSpec(folder) for name, folder in three_models.items()})
    candidate, router, _ = [await engine.info(name) for name in three_models]
    await engine.close()
    start, end = byte_tokenizer.bos_token_id, byte_tokenizer.eos_token_id
    assert candidate.end_token_ids == {end}
    router = replace(router, end_token_ids=frozenset({start, end}))
    logprobs = torch.randn(len(byte_tokenizer) + 4).log_softmax(-1)
    added = Router.of(head(), _shared([candidate, router]), router, [candidate]).correction(
        0, logprobs
    )
    assert float(added[end].exp()) == pytest.approx(float(logprobs[[start, end]].exp().sum()))
    assert torch.equal(added[:start], logprobs[:start])
    assert added[start] == float("-inf")
    assert len(added) == end + 1


def test_only_rows_with_a_correction_change() -> None:
    logits = torch.randn(3, 5)
    assert corrected(logits, [None, None, None]) is logits
    changed = corrected(logits, [None, torch.arange(3.0), torch.zeros(9)])
    assert torch.equal(changed[0], logits[0])
    assert torch.equal(changed[1, :3], logits[1, :3] + torch.arange(3.0))
    assert changed[1, 3:].isneginf().all()
    assert torch.equal(changed[2], logits[2])


@pytest.mark.parametrize("seed", [0, 1])
def test_a_token_is_read_once(models: dict[str, str], letters: Any, seed: int) -> None:
    """The router reads each token when it decides on the next one, a candidate at its next turn."""
    with made(models, temperature=1.0, top_p=1.0, greedy_switcher=False) as team:
        team.generate("a")
        engine: Any = team.engine
        before = {name: engine.counters(name).encoded_tokens for name in (*NAMES, ROUTER)}
        written = tokens(team.generate("the street", seed=seed))
        prompt = len(letters.encode("the street", add_special_tokens=False))
        turns = len(written) + (len(written) < TOKENS)  # the end too
        expected = {ROUTER: prompt + turns - 1} | {
            name: prompt + max(at for at, (s, _) in enumerate(written) if s == speaker)
            for speaker, name in enumerate(NAMES)
            if any(s == speaker for s, _ in written)
        }
        read = {name: engine.counters(name).encoded_tokens - before[name] for name in expected}
        if turns > len(written):  # who wrote the end is not among the tokens
            assert read[ROUTER] == expected[ROUTER]
            assert sum(read[n] != expected[n] for n in expected) <= 1
        else:
            assert read == expected


def test_the_head_knows_its_candidates_by_name(models: dict[str, str], tmp_path: Path) -> None:
    """In another order they write the same, and from its file too."""
    head().save(tmp_path)
    stored = (tmp_path / WEIGHTS).read_bytes()
    for _ in range(8):
        RoutingHead.load(str(tmp_path)).save(tmp_path)
        assert (tmp_path / WEIGHTS).read_bytes() == stored
    turned = NAMES[::-1]
    with made(models) as team, made(models, turned, str(tmp_path)) as other:
        for text in QUESTIONS[:3]:
            same = [(2 - (s or 0), token) for s, token in tokens(other.generate(text))]
            assert same == tokens(team.generate(text))


def test_one_candidate_may_stand_in_for_another(models: dict[str, str]) -> None:
    """Shares, opening and closing are the policy's: the correction is only for whom the router
    chose, and the rest of the answer goes on."""
    with made(models, opening=0, closing=2, patch_size=4) as team:
        trace = team.generate("the street")
        assert trace.error is None
        assert trace.patches[0].reason == "opening"
        assert {len(p.token_ids) for p in trace.patches if p.reason == "chosen"} <= {0, 1}


async def test_what_cannot_be_is_refused_before_anything_runs(
    models: dict[str, str], unlike_pair: dict[str, str], tmp_path: Path
) -> None:
    async def refused(team: Team, error: type[Exception], message: str, text: str = "a") -> None:
        with pytest.raises(error, match=message):
            await team.check_prompt(Query("0", text=text))
        engine: Any = team.engine
        if isinstance(engine, LocalEngine):
            assert not engine._loaded
        await team.aclose()

    unlike = {**unlike_pair, ROUTER: models[ROUTER]}
    pair = ("base", "aligned")
    await refused(made(unlike, pair), ConfigError, "router and of base, aligned differ, so their")
    others = head(("base", "sft", "aligned"))
    message = "the router was trained for base, sft, aligned, not for base, middle, aligned: name"
    await refused(made(models, source=others), ConfigError, message)
    await refused(made(models, source=str(tmp_path)), ConfigError, f"it has no {WEIGHTS}; name")
    (tmp_path / WEIGHTS).write_bytes(b"no weights")
    await refused(made(models, source=str(tmp_path)), ConfigError, "cannot read the routing head")
    about = json.dumps({"schema": "taketurns.routing/9", "candidates": list(NAMES)})
    save_file(
        {"weight": head().weight, "bias": head().bias}, tmp_path / WEIGHTS, {"routing": about}
    )
    await refused(made(models, source=str(tmp_path)), ConfigError, "has the schema 'taketurns.r")
    nan = replace(head(), bias=torch.full((3,), float("nan")))
    nan.save(tmp_path)
    await refused(made(models, source=str(tmp_path)), ConfigError, "NaN or infinity: train")
    long = made(models, max_tokens=510)
    await refused(long, PromptError, "router would read up to 51", "the street")
    penalty = SamplingOptions(repetition_penalty=1.2)
    await refused(made(models, sampling=penalty), ConfigError, "or use a presence_penalty")
    scripted = ScriptedEngine(dict.fromkeys((*pair, ROUTER), "It is."))
    switcher = FusionRouteSwitcher(ROUTER, ModelSpec(ROUTER), head(pair))
    team = Team([Candidate(n, ModelSpec(n, prompt="{text}")) for n in pair], scripted, switcher)
    await refused(team, ConfigError, r"use engine\.kind local")
    assert scripted.calls == []


def test_a_head_of_another_router_is_refused(models: dict[str, str]) -> None:
    with (
        made(models, source=head(size=32)) as team,
        pytest.raises(ConfigError, match="a state of 32 numbers, but this router has 64"),
    ):
        team.generate("a")
