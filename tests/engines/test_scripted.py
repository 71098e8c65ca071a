import asyncio
import math

import pytest

from taketurns.engines.base import Session
from taketurns.engines.scripted import ScriptedEngine, scripted_codec
from taketurns.errors import ConfigError, EngineError, PromptError
from taketurns.types import Completion, Sampling, Token


async def say(engine: ScriptedEngine, model: str, prompt: str = "p", **sampling) -> Completion:
    async with engine.session(0) as session:
        return await session.generate(model, prompt, Sampling(**{"max_tokens": 99, **sampling}))


def text(completion: Completion) -> str:
    return scripted_codec().decode(completion.token_ids)


async def test_a_model_says_its_replies_turn_by_turn_in_each_answer() -> None:
    engine = ScriptedEngine({"a": ["one", "two"], "b": "only"})
    for _ in range(2):
        async with engine.session(0) as session:
            assert isinstance(session, Session)
            said = [text(await session.generate(m, "p", Sampling(9))) for m in "aabba"]
            assert said == ["one", "two", "only", "", ""]


async def test_a_short_reply_ends_the_answer_and_a_long_one_is_cut() -> None:
    engine = ScriptedEngine({"a": lambda prompt, sampling: prompt + "!"})
    short = await say(engine, "a", "abc")
    assert (text(short), short.finish) == ("abc!", "stop")
    long = await say(engine, "a", "abc", max_tokens=2)
    assert (text(long), long.finish) == ("ab", "length")
    full = await say(engine, "a", "abc", max_tokens=4)
    assert (text(full), full.finish) == ("abc!", "length")


async def test_token_ids_work_as_text_does() -> None:
    codec = scripted_codec()
    ids = codec.encode("käse")
    assert len(ids) == 5
    assert codec.decode(ids) == "käse"
    engine = ScriptedEngine({"a": [[*ids, codec.tokenizer.eos_token_id, 1, 2]]})
    async with engine.session(0) as session:
        completion = await session.generate("a", ids, Sampling(99))
    assert completion.token_ids == tuple(ids)
    assert completion.finish == "stop"
    assert engine.calls[0].text == "käse"


async def test_stop_strings_end_a_patch_even_across_patches() -> None:
    engine = ScriptedEngine({"a": ["\n\nmore"]})
    completion = await say(engine, "a", stop=("\n\n",))
    assert (text(completion), completion.finish) == ("\n\n", "stop")
    completion = await say(engine, "a", stop=("\n\n",), written="\n")
    assert (text(completion), completion.finish) == ("\n", "stop")
    letter = scripted_codec().encode("m")
    completion = await say(engine, "a", stop_token_ids=tuple(letter))
    assert text(completion) == "\n\n"


async def test_tokens_are_seen_as_they_are_written() -> None:
    engine, seen = ScriptedEngine({"a": "hey"}), list[Token]()
    async with engine.session(0) as session:
        completion = await session.generate("a", "p", Sampling(9), seen.append)
    assert tuple(token.id for token in seen) == completion.token_ids


async def test_scores_are_log_probabilities_of_the_choices() -> None:
    engine = ScriptedEngine(
        {}, scores={"s": [0.25, 0.0], "f": lambda text, ids: [1 / len(ids)] * 2}
    )
    async with engine.session(0) as session:
        assert await session.score("s", "p", [1, 2]) == [math.log(0.25), -math.inf]
        assert await session.score("f", "p", [1, 2]) == [math.log(0.5)] * 2
        with pytest.raises(ValueError, match="zip"):
            await session.score("s", "p", [1, 2, 3])
    assert engine.calls[0].choices == (1, 2)


async def test_a_fork_goes_on_where_its_parent_stands() -> None:
    engine = ScriptedEngine({"a": ["one", "two", "three"]})
    async with engine.session(1) as session:
        await session.generate("a", "p", Sampling(9))
        async with session.fork(2) as child:
            assert text(await child.generate("a", "p", Sampling(9))) == "two"
            assert engine.open_sessions == 2
        assert text(await session.generate("a", "p", Sampling(9))) == "two"
    assert engine.open_sessions == 0
    assert [call.seed for call in engine.calls] == [1, 2, 1]


async def test_it_fails_when_told_to() -> None:
    engine = ScriptedEngine({"a": ["one", "two"]}, failures={1: EngineError("gone")})
    async with engine.session(0) as session:
        await session.generate("a", "p", Sampling(9))
        with pytest.raises(EngineError, match="gone"):
            await session.generate("a", "p", Sampling(9))
        assert text(await session.generate("a", "p", Sampling(9))) == "two"


async def test_it_refuses_what_an_engine_refuses() -> None:
    engine = ScriptedEngine({"a": "x"}, scores={"s": [1.0]}, context=10)
    with pytest.raises(ConfigError, match="there is no model 'b'; the models are a, s"):
        await engine.info("b")
    with pytest.raises(PromptError, match="does not fit the context of a, 10 tokens"):
        await say(engine, "a", "p" * 5, max_tokens=6)
    async with engine.session(0) as session:
        with pytest.raises(ConfigError, match="no scores for 'a'"):
            await session.score("a", "p", [1])
    await engine.close()
    assert engine.closed


async def test_cancelling_frees_the_session() -> None:
    engine = ScriptedEngine({"a": "x" * 99}, delay=0.01)
    task = asyncio.create_task(say(engine, "a"))
    await asyncio.sleep(0.03)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert engine.open_sessions == 0
