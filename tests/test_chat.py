import io
import sys
from collections.abc import Callable

import pytest
from rich.console import Console

from taketurns.cli.conversation import Chat
from taketurns.config.policy import Policy
from taketurns.engines.scripted import ScriptedEngine
from taketurns.errors import ConfigError, EngineError
from taketurns.generation.team import Team
from taketurns.switchers.simple import FixedSwitcher
from taketurns.types import Candidate, ModelSpec

Talk = Callable[..., tuple[int, str, str]]


@pytest.fixture
def talk(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Talk:
    def converse(engine: ScriptedEngine, *lines: str, **options: bool) -> tuple[int, str, str]:
        candidates = [Candidate(name, ModelSpec(name)) for name in ("base", "chat")]
        team = Team(candidates, engine, FixedSwitcher([0, 1]), Policy(patch_size=4))
        typed = "".join(f"{line}\n" for line in lines).encode(errors="surrogateescape")
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(typed), encoding="utf-8"))
        code = Chat(team, Console(file=sys.stdout), **options).run()
        assert engine.closed
        return code, *capsys.readouterr()

    return converse


def greeting(**more) -> ScriptedEngine:
    return ScriptedEngine({"base": ["Good"], "chat": [" d"]}, **more)


def test_a_line_is_a_turn_and_the_answers_are_the_output(talk: Talk) -> None:
    code, out, err = talk(greeting(), "hello", "", "again")
    assert code == 0
    assert out == "●Good ▲d\n●Good ▲d\n"
    assert "● base   ▲ chat" in err


def test_the_conversation_goes_on_until_it_is_reset(talk: Talk) -> None:
    engine = greeting()
    talk(engine, "hello", "again", "/reset", "anew")
    prompts = [call.text for call in engine.calls if call.model == "base"]
    assert "hello" in prompts[1]
    assert "Good d" in prompts[1]
    assert "again" in prompts[1]
    assert "hello" not in prompts[2]


def test_probabilities_on_request(talk: Talk) -> None:
    _, out, err = talk(greeting(), "hello", "/probabilities", "hello")
    assert out.count("Good") == 2
    assert err.count("base 100% · chat 0%") == 1
    _, _, err = talk(greeting(), "hello", probabilities=True)
    assert "base 0% · chat 100%" in err


def test_quit_ends_it_and_an_unknown_command_helps(talk: Talk) -> None:
    code, out, err = talk(greeting(), "/what", "/quit", "hello")
    assert code == 0
    assert out == ""
    assert "/reset clears the conversation" in err


def test_a_failed_turn_is_said_and_forgotten(talk: Talk) -> None:
    engine = greeting(failures={1: EngineError("[the server] is gone")})
    code, out, err = talk(engine, "first", "second")
    assert code == 1
    assert "[the server] is gone" in err
    assert out == "●Good\n●Good ▲d\n"
    assert "first" not in engine.calls[-1].text


def test_a_line_that_is_no_text_is_said_and_the_others_answered(talk: Talk) -> None:
    code, out, err = talk(greeting(), "hello", "caf\udce9", "again")
    assert code == 1
    assert "this line is not UTF-8: it is skipped" in err
    assert out == "●Good ▲d\n●Good ▲d\n"


def test_a_team_that_does_not_load_ends_it_before_a_word(talk: Talk) -> None:
    engine = ScriptedEngine({"base": ["Good"]})
    with pytest.raises(ConfigError, match="chat"):
        talk(engine, "hello")
    assert engine.closed


def test_a_turn_that_does_not_fit_is_said(talk: Talk) -> None:
    code, out, err = talk(greeting(context=600), "x" * 700, "hello")
    assert code == 1
    assert "600" in err
    assert out == "●Good ▲d\n"
