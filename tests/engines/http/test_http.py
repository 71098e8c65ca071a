"""A team on servers is the same team: same text, same decisions, and what servers lack is said."""

from __future__ import annotations

import asyncio
import gc
import json
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any
from weakref import ReferenceType, WeakSet, ref

import httpx
import pytest

from taketurns import Candidate, ConfigError, EngineError, Policy, PromptError, ScriptedEngine, Team
from taketurns.checkpoints.text import TextCodec
from taketurns.config.loading import load_team_config
from taketurns.config.policy import PatchRule
from taketurns.config.team_config import EngineConfig
from taketurns.engines.http.connections import connections
from taketurns.engines.http.engine import HttpEngine
from taketurns.engines.local.engine import LocalEngine
from taketurns.errors import UnavailableError
from taketurns.integrations.launch.forwarding import ForwardingTransport
from taketurns.switchers.lm import LMSwitcher
from taketurns.switchers.simple import FixedSwitcher
from taketurns.types import Delta, Endpoint, Patch, Query, Sampling, Token, Trace

from .proxy import Proxy
from .served import ModelServer, Style, serving

SWITCHER = "switcher"
QUESTIONS = ("what is 17 + 25 ?", "what does rebol fonul work as?", "how old is rebol fonul?")


@pytest.fixture(scope="module")
def pocket() -> dict[str, Candidate]:
    """The bundled checkpoints, and one of them as the switcher's model."""
    candidates = {one.name: one for one in load_team_config("pocket").candidates}
    return candidates | {SWITCHER: Candidate(SWITCHER, candidates["aligned"].spec)}


@pytest.fixture(scope="module")
def local(pocket: dict[str, Candidate]) -> Iterator[LocalEngine]:
    engine = LocalEngine({name: one.spec for name, one in pocket.items()})
    yield engine
    asyncio.run(engine.close())


def elsewhere(pocket: dict[str, Candidate], *servers: ModelServer, **options: Any) -> HttpEngine:
    """The same models on servers."""
    urls = tuple(server.url for server in servers)
    models = [replace(one, endpoint=Endpoint(urls)) for one in pocket.values()]
    return HttpEngine(models, EngineConfig(kind="http", **options), first_cooldown=0.01)


def team(pocket: dict[str, Candidate], engine: Any, **policy: Any) -> Team:
    candidates = [one for name, one in pocket.items() if name != SWITCHER]
    rules = Policy(patch_size=6, max_tokens=40, temperature=0.0, **policy)
    return Team(candidates, engine, LMSwitcher(SWITCHER), rules)


def written(trace: Trace) -> list[tuple[Any, ...]]:
    return [(p.speaker, p.token_ids, p.text, p.finish, p.reason) for p in trace.patches]


async def test_servers_write_what_the_local_engine_writes(
    pocket: dict[str, Candidate], local: LocalEngine
) -> None:
    here = team(pocket, local)
    server = ModelServer(local, tuple(pocket))
    async with serving(server), team(pocket, elsewhere(pocket, server)) as there:
        for question in QUESTIONS:
            expected = await here.agenerate(question)
            # Alone, and with somebody who watches: two ways of asking the server.
            whole = await there.agenerate(question)
            events = [event async for event in there.stream(question)]
            streamed = events[-1]
            assert isinstance(streamed, Trace)
            assert whole.error is None
            assert whole.exact
            assert written(whole) == written(streamed) == written(expected)
            for patch, truth in zip(whole.patches, expected.patches, strict=True):
                assert patch.probabilities == pytest.approx(truth.probabilities, abs=1e-6)
            assert "".join(e.text for e in events if isinstance(e, Delta)) == expected.text
            assert tuple(e for e in events if isinstance(e, Patch)) == streamed.patches
        assert {request.get("stream", False) for request in server.requests} == {True, False}
        assert all(isinstance(request["prompt"], list) for request in server.requests)


async def test_the_same_seed_asks_for_the_same_draws(
    pocket: dict[str, Candidate], local: LocalEngine
) -> None:
    server = ModelServer(local, tuple(pocket))
    async with serving(server), team(pocket, elsewhere(pocket, server)) as there:
        policy = replace(there.policy, temperature=1.0, speaker_top_p=1.0)

        async def answer(seed: int) -> tuple[str, list[int]]:
            server.requests.clear()
            text = (await there.agenerate(QUESTIONS[0], seed=seed, policy=policy)).text
            return text, [body["seed"] for body in server.requests if "seed" in body]

        first, again, other = await answer(1), await answer(1), await answer(2)
        assert first == again
        assert not set(first[1]) & set(other[1])
        assert len(set(first[1])) == len(first[1])
        # No default of the server's own may change what is sampled.
        body = server.requests[-1]
        assert (body["top_k"], body["repetition_penalty"], body["min_p"]) == (0, 1.0, 0.0)


@pytest.mark.parametrize("style", ["ids-in", "text"])
async def test_plainer_servers_write_the_same_text(
    pocket: dict[str, Candidate], local: LocalEngine, style: Style
) -> None:
    """Greedy text survives; what is lost is said: tokens are handed over as text."""
    here = team(pocket, local)
    server = ModelServer(local, tuple(pocket), style)
    async with serving(server), team(pocket, elsewhere(pocket, server)) as there:
        expected = await here.agenerate(QUESTIONS[0])
        whole = await there.agenerate(QUESTIONS[0])
        events = [event async for event in there.stream(QUESTIONS[0])]
        assert whole.error is None
        assert whole.text == expected.text
        assert whole.tokens == expected.tokens
        assert not whole.exact
        assert "".join(e.text for e in events if isinstance(e, Delta)) == expected.text
        assert written(events[-1]) == written(whole)
        told = [t.id for e in events if isinstance(e, Delta) for t in e.tokens]
        assert told == [i for patch in whole.patches for i in patch.token_ids]
        asked = {type(request["prompt"]) for request in server.requests[-9:]}
        assert asked == ({str} if style == "text" else {list})
        (report,) = await there.engine.inspect("sft")  # type: ignore[attr-defined]
        assert report.abilities.top_logprobs == 20
        assert not report.abilities.exact_scores


async def test_a_switcher_whose_answer_is_not_among_the_most_probable_is_refused(
    pocket: dict[str, Candidate], local: LocalEngine
) -> None:
    server = ModelServer(local, tuple(pocket), "text")
    async with serving(server):
        engine = elsewhere(pocket, server)
        codec = (await engine.info("pretrained")).codec
        ids = codec.encode("what is 17 + 25 ? 4", special=True)
        words = sorted(codec.ordinary_ids)
        truth = dict(zip(words, await _scores(local, ids, words), strict=True))
        ranked = sorted(words, key=truth.__getitem__)
        async with engine.session(0) as session:
            found = await session.score("pretrained", ids, [ranked[-1], ranked[0], ranked[-2]])
            assert found[::2] == pytest.approx([truth[ranked[-1]], truth[ranked[-2]]])
            assert found[1] == -inf
            with pytest.raises(EngineError, match="serve it with vLLM"):
                await session.score("pretrained", ids, ranked[:2])
        await engine.close()


async def _scores(engine: Any, ids: list[int], choices: list[int]) -> list[float]:
    async with engine.session(0) as session:
        scores: list[float] = await session.score("pretrained", ids, choices)
        return scores


def scripted(**options: Any) -> ScriptedEngine:
    def forever(prompt: str, sampling: Sampling) -> str:
        return "ab" * sampling.max_tokens

    def even(prompt: str, choices: Sequence[int]) -> list[float]:
        return [1 / len(choices)] * len(choices)

    return ScriptedEngine({"a": forever, "b": forever}, scores={"a": even, "b": even}, **options)


def asking(*servers: ModelServer, spec: Path, **options: Any) -> HttpEngine:
    from taketurns import ModelSpec

    urls = tuple(server.url for server in servers)
    key = options.pop("api_key_env", None)
    models = [Candidate(n, ModelSpec(str(spec)), Endpoint(urls, None, key)) for n in ("a", "b")]
    return HttpEngine(models, EngineConfig(kind="http", **options), first_cooldown=0.01)


@pytest.fixture(scope="module")
def spelling(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the scripted models' tokenizer."""
    from taketurns.engines.scripted import scripted_codec

    folder = tmp_path_factory.mktemp("spelling")
    scripted_codec().tokenizer.save_pretrained(folder)
    return folder


async def test_an_answer_stays_with_one_server_and_forks_stay_with_it(spelling: Path) -> None:
    servers = [ModelServer(scripted(), ("a", "b")) for _ in range(3)]
    async with serving(*servers):
        engine = asking(*servers, spec=spelling)
        await engine.info("a")
        homes = set()
        for seed in range(40):  # ports are drawn, so homes are too
            for server in servers:
                server.requests.clear()
            async with engine.session(seed) as session, session.fork(99) as fork:
                for writer in (session, fork, session):
                    await writer.generate("a", [65, 66], Sampling(4))
            used = [i for i, server in enumerate(servers) if server.requests]
            assert len(used) == 1
            homes.add(used[0])
        assert homes == {0, 1, 2}
        await engine.close()


async def test_a_busy_home_gets_help_and_no_server_more_than_its_share(spelling: Path) -> None:
    servers = [ModelServer(scripted(delay=0.002), ("a", "b")) for _ in range(2)]
    async with serving(*servers):
        engine = asking(*servers, spec=spelling, concurrency=3)
        async with engine.session(5) as session:
            await asyncio.gather(*(session.generate("a", [65, n], Sampling(5)) for n in range(40)))
        assert [server.most_running for server in servers] == [3, 3]
        assert sum(len(server.requests) for server in servers) >= 40
        await engine.close()


async def test_connections_are_kept(spelling: Path) -> None:
    server = ModelServer(scripted(), ("a", "b"))
    async with serving(server):
        engine = asking(server, spec=spelling)
        async with engine.session(5) as session:
            for watching in (None, [].append):
                for _ in range(10):
                    await session.generate("a", [65], Sampling(3), watching)
        assert server.connections == 1
        await engine.close()


async def test_a_stop_string_that_began_before_the_patch_ends_it_early(spelling: Path) -> None:
    engine_there = scripted(delay=0.001)
    server = ModelServer(engine_there, ("a", "b"))
    async with serving(server):
        engine = asking(server, spec=spelling)
        seen: list[Token] = []
        async with engine.session(5) as session:
            sampling = Sampling(400, stop=("xaba",), written="x")
            done = await session.generate("a", [65], sampling, seen.append)
        assert done.finish == "stop"
        assert len(done.token_ids) == 3
        assert [token.id for token in seen] == list(done.token_ids)
        for _ in range(100):  # the server notices that nobody listens
            await asyncio.sleep(0.01)
            if not server.running:
                break
        assert not server.running
        await engine.close()


async def test_what_does_not_fit_is_refused_before_it_is_sent(spelling: Path) -> None:
    """vLLM would cut the continuation without a word."""
    servers = [ModelServer(scripted(), ("a", "b"), context=n) for n in (4096, 20)]
    async with serving(*servers):
        engine = asking(*servers, spec=spelling)
        assert (await engine.info("a")).context == 20
        async with engine.session(0) as session:
            sent = len(servers[0].requests) + len(servers[1].requests)
            with pytest.raises(PromptError, match="16 tokens with 5 to come does not fit"):
                await session.generate("a", [65] * 16, Sampling(5))
            assert len(servers[0].requests) + len(servers[1].requests) == sent
            await session.generate("a", [65] * 15, Sampling(5))
        await engine.close()


async def test_a_key_is_sent_and_its_lack_is_said(
    spelling: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = ModelServer(scripted(), ("a", "b"), key="s3cret")
    async with serving(server):
        engine = asking(server, spec=spelling, api_key_env="GPU_KEY")
        with pytest.raises(
            ConfigError,
            match="environment variable GPU_KEY, which must hold the API key of a, is not set",
        ):
            await engine.info("a")
        monkeypatch.setenv("GPU_KEY", "wrong")
        with pytest.raises(
            ConfigError, match=r"refused the API key .*: correct the key in GPU_KEY"
        ) as told:
            await engine.info("a")
        assert "wrong" not in str(told.value).replace("GPU_KEY", "")
        monkeypatch.setenv("GPU_KEY", "s3cret")
        async with engine.session(0) as session:
            assert (await session.generate("a", [65], Sampling(2))).token_ids
        await engine.close()


async def test_a_server_of_something_else_is_refused(
    spelling: Path, pocket: dict[str, Candidate], local: LocalEngine
) -> None:
    server = ModelServer(scripted(), ("c", "d"))
    async with serving(server):
        engine = asking(server, spec=spelling)
        with pytest.raises(ConfigError, match="serves c, d, not 'a' or"):
            await engine.info("a")
        with pytest.raises(ConfigError, match="there is no model 'q'; the models are a, b"):
            await engine.info("q")
        await engine.close()


async def test_a_server_that_has_too_much_to_do_at_first_is_no_mistake_of_the_team(
    spelling: Path,
) -> None:
    from taketurns import ModelSpec

    server = ModelServer(scripted(), ("a", "b"))
    async with serving(server):
        crowded = Proxy(server.url, 0, {"busy": 1.0})
        listening = await crowded.start()
        models = [Candidate("a", ModelSpec(str(spelling)), Endpoint((crowded.url,)))]
        engine = HttpEngine(models, first_cooldown=0.01)
        with pytest.raises(UnavailableError, match="status 429"):
            await engine.info("a")
        crowded.odds = {"none": 1.0}
        assert (await engine.info("a")).context == 4096
        await engine.close()
        listening.close()
        await crowded.stop()


@pytest.mark.parametrize("ids", [False, True])
async def test_a_word_in_which_a_stream_broke_off_goes_on(tmp_path: Path, ids: bool) -> None:
    """Also with a tokenizer that puts a space before the first word of a text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    from taketurns import ModelSpec

    letters = Tokenizer(models.BPE({letter: i for i, letter in enumerate("▁dehlorw1+=2?")}, []))
    letters.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    letters.decoder = decoders.Metaspace(prepend_scheme="first", split=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=letters, eos_token="?")
    tokenizer.save_pretrained(tmp_path)
    prompts: list[Any] = []

    def reply(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            listed = [{"id": "a", "max_model_len": 99}] if "models" in request.url.path else []
            return httpx.Response(200, json={"data": listed})
        asked = json.loads(request.content)
        if "completions" not in request.url.path or isinstance(asked["prompt"], list) > ids:
            return httpx.Response(400)
        if not asked.get("stream"):
            return httpx.Response(200, json={"choices": [{"text": "d", "finish_reason": "length"}]})
        prompts.append(asked["prompt"])
        text, finish, end = ("wor", None, "") if len(prompts) == 1 else ("ld", "stop", "[DONE]")
        piece = json.dumps({"choices": [{"text": text, "finish_reason": finish}]})
        return httpx.Response(200, text=f"data: {piece}\n\n" + (f"data: {end}\n\n" if end else ""))

    models = [Candidate("a", ModelSpec(str(tmp_path)), Endpoint(("http://one",)))]
    engine = HttpEngine(models, first_cooldown=0.01)
    engine.connect = lambda: httpx.MockTransport(reply)
    async with engine.session(0) as session:
        told: list[Token] = []
        done = await session.generate("a", "hello ", Sampling(8), told.append)
    assert done.text == "".join(token.text or "" for token in told) == "world"
    codec = TextCodec(tokenizer)
    texts = ["hello ", "hello wor"]
    assert prompts == [codec.encode(text) if ids else text for text in texts]
    await engine.close()


def test_an_engine_that_is_dropped_open_closes_its_connections_with_the_loop(
    spelling: Path,
) -> None:
    async def drop() -> ReferenceType[Any]:
        server = ModelServer(scripted(), ("a",))
        async with serving(server):
            engine = HttpEngine([Candidate("a", ModelSpec(str(spelling)), Endpoint((server.url,)))])
            await engine.info("a")
            client = ref(engine.fleet().client)
            del engine
            gc.collect()
            assert client() is not None
            return client

    from taketurns import ModelSpec

    with warnings.catch_warnings(record=True) as unclosed:
        warnings.simplefilter("always", ResourceWarning)
        client = asyncio.run(drop())
        gc.collect()
    assert client() is None
    assert not [str(one.message) for one in unclosed if "socket" in str(one.message)]


async def test_an_adapter_has_the_context_of_its_base(spelling: Path) -> None:
    from taketurns import ModelSpec

    server = ModelServer(scripted(), ("a",), context=77, adapter="b")
    async with serving(server):
        spec = ModelSpec(str(spelling), adapter="some/adapter")
        engine = HttpEngine([Candidate("b", spec, Endpoint((server.url,)))])
        assert (await engine.info("b")).context == 77
        await engine.close()


def test_a_team_on_servers_works_outside_of_coroutines(
    pocket: dict[str, Candidate], tmp_path: Path
) -> None:
    """Each call runs an event loop of its own; none may leave connections behind."""
    import threading

    ready, done = threading.Event(), threading.Event()
    server = ModelServer(scripted(), ("a", "b"))

    def serve() -> None:
        async def run() -> None:
            async with serving(server):
                ready.set()
                await asyncio.to_thread(done.wait)

        asyncio.run(run())

    thread = threading.Thread(target=serve)
    thread.start()
    ready.wait()
    try:
        from taketurns import ModelSpec
        from taketurns.engines.scripted import scripted_codec

        scripted_codec().tokenizer.save_pretrained(tmp_path)
        spec = ModelSpec(str(tmp_path), prompt="{text}")
        models = [Candidate(name, spec, Endpoint((server.url,))) for name in ("a", "b")]
        policy = Policy(patch_size=3, max_tokens=9)
        loops: WeakSet[asyncio.AbstractEventLoop] = WeakSet()

        def connect() -> httpx.AsyncBaseTransport:
            loops.add(asyncio.get_running_loop())
            return connections()

        engine = HttpEngine(models)
        engine.connect = connect
        with Team(models, engine, FixedSwitcher([0, 1]), policy) as pair:
            assert pair.generate("Q?").text == "abaabaaba"
            assert [t.text for t in pair.generate([Query(id=str(i), text="Q?") for i in range(5)])]
            gc.collect()
            assert len(loops) == 1, "nothing is kept of a loop that is over when the next begins"
    finally:
        done.set()
        thread.join()


async def test_a_server_that_moved_is_found_where_it_is_now(
    pocket: dict[str, Candidate], local: LocalEngine
) -> None:
    server, fixed = ModelServer(local, tuple(pocket)), "http://127.0.0.1:1"

    async def find() -> str:
        return server.url

    models = [replace(one, endpoint=Endpoint((fixed,))) for one in pocket.values()]
    engine = HttpEngine(models, EngineConfig(kind="http"), first_cooldown=0.01)
    engine.connect = lambda: ForwardingTransport({fixed: find})
    async with team(pocket, engine) as there:
        async with serving(server):
            before, trace = server.url, await there.agenerate(QUESTIONS[0])
        async with serving(server):
            assert server.url != before
            again = await there.agenerate(QUESTIONS[0])
    assert trace.error is None
    assert written(again) == written(trace)


async def test_servers_end_patches_where_the_local_engine_does(
    pocket: dict[str, Candidate], local: LocalEngine
) -> None:
    """At the very token: what a server has sent beyond it is put aside. The entropy is that of the
    20 most probable tokens, which is nearly all of it."""
    server = ModelServer(local, tuple(pocket))
    async with serving(server), team(pocket, elsewhere(pocket, server)) as there:
        here = team(pocket, local)
        for rule in (
            PatchRule("sentence", min=2, max=30),
            PatchRule("uncertainty", min=2, max=30, rise=0.05),
        ):
            policy = replace(there.policy, patch=rule)
            ended = set()
            for question in QUESTIONS:
                expected = await here.agenerate(question, policy=policy)
                whole = await there.agenerate(question, policy=policy)
                events = [event async for event in there.stream(question, policy=policy)]
                assert whole.error is None
                assert written(whole) == written(events[-1]) == written(expected)
                ended |= {patch.finish for patch in whole.patches}
                told = [token for e in events if isinstance(e, Delta) for token in e.tokens]
                assert all(token.logprob is None for token in told)  # nobody asked for them
            assert rule.until in ended
        assert {request.get("logprobs") for request in server.requests} >= {None, 20}


async def test_plainer_servers_end_patches_by_their_text_or_say_that_they_cannot(
    pocket: dict[str, Candidate], local: LocalEngine
) -> None:
    server = ModelServer(local, tuple(pocket), "text")
    async with serving(server), team(pocket, elsewhere(pocket, server)) as there:
        policy = replace(there.policy, patch=PatchRule("sentence", min=2, max=30))
        expected = await team(pocket, local).agenerate(QUESTIONS[1], policy=policy)
        trace = await there.agenerate(QUESTIONS[1], policy=policy)
        assert trace.error is None
        assert trace.text == expected.text
        assert [p.finish for p in trace.patches] == [p.finish for p in expected.patches]
        unsure = replace(there.policy, patch=PatchRule("uncertainty"))
        with pytest.raises(ConfigError, match="use until: sentence") as caught:
            await there.agenerate(QUESTIONS[1], policy=unsure)
        assert "\n" not in str(caught.value)


async def test_scores_and_most_probable_tokens_are_right_beside_each_other(
    pocket: dict[str, Candidate], local: LocalEngine
) -> None:
    """On a server that mixes them up within a batch, with models that share it."""
    server = ModelServer(local, tuple(pocket), mixes_logprobs=True)
    sampling = Sampling(8, 0.0, 1.0, logprobs=5)
    async with serving(server):
        engine = elsewhere(pocket, server)

        async def top(engine: Any, question: str) -> list[Token]:
            seen: list[Token] = []
            prompt = (await engine.info("sft")).codec.encode(question, special=True)
            async with engine.session(1) as session:
                await session.generate("sft", prompt, sampling, seen.append)
            return seen

        async def score(question: str) -> list[float]:
            prompt = (await engine.info(SWITCHER)).codec.encode(question, special=True)
            async with engine.session(1) as session:
                return await session.score(SWITCHER, prompt, [3, 4, 5])

        listed, scores = await asyncio.gather(
            asyncio.gather(*(top(engine, question) for question in QUESTIONS * 3)),
            asyncio.gather(*(score(question) for question in QUESTIONS * 3)),
        )
        expected = [await top(local, question) for question in QUESTIONS]
        for tokens, truth in zip(listed, expected * 3, strict=True):
            assert [token.id for token in tokens] == [token.id for token in truth]
            for token, other in zip(tokens, truth, strict=True):
                assert dict(token.top) == pytest.approx(dict(other.top), abs=1e-6)
        assert all(len(found) == 3 and max(found) < 0 for found in scores)
        assert server.most_running > 1  # those of one kind run together
        assert not engine.counters("sft").faults
        await engine.close()


async def test_another_clients_given_tokens_are_no_silent_harm(
    pocket: dict[str, Candidate], local: LocalEngine
) -> None:
    server = ModelServer(local, tuple(pocket), mixes_logprobs=True)
    async with serving(server):
        engine = elsewhere(pocket, server, retries=1)
        prompt = (await engine.info("sft")).codec.encode(QUESTIONS[0], special=True)
        server.given_running += 1
        async with engine.session(1) as session:
            for count in (1, 5):
                sampling = Sampling(8, 0.0, 1.0, logprobs=count)
                with pytest.raises(UnavailableError, match="lacks the most probable tokens"):
                    await session.generate("sft", prompt, sampling, print)
        await engine.close()
