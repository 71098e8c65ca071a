"""A guarded team that is served: no request gets round its guard, and what it does is counted."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from taketurns import Policy
from taketurns.config.policy import Guard

from .conftest import Running, Start, scripted

ASKED = [{"role": "user", "content": "Q? "}]
#: The word that no reader may see: no id of an answer, which is hexadecimal, can spell it.
GUARD = Guard(1, words=("rude",))


def served(start: Start, guard: Guard | None = GUARD, **policy: Any) -> Running:
    scripts = {"a": ["The ", "rude", "end"], "b": ["one ", "rude"]}
    rules = Policy(patch_size=4, max_tokens=20, guard=guard, **policy)
    return start(scripted(scripts, policy=rules))


def turned(server: Running, **turns: Any) -> Any:
    extra = {"taketurns": {"switcher": ["a"], **turns}}
    return server.client().chat.completions.create(model="team", messages=ASKED, extra_body=extra)  # type: ignore[call-overload]


def test_what_fails_is_in_no_chunk_and_is_counted(start: Start) -> None:
    server = served(start)
    with server.http() as http:
        body = {"messages": ASKED, "stream": True, "taketurns": {"switcher": ["a"]}}
        told = http.post("/v1/chat/completions", json=body).text
        assert told.rstrip().endswith("[DONE]")
        assert "rude" not in told
        assert '"withheld": [{"name": "a", "speaker": 0, "tokens": 4}]' in told
        metrics = http.get("/metrics").text
    assert 'taketurns:patches_withheld_total{model_name="team",speaker="a"} 1.0' in metrics
    assert 'taketurns:tokens_withheld_total{model_name="team",speaker="a"} 4.0' in metrics
    assert 'taketurns:guard_seconds_count{model_name="team"} 3.0' in metrics
    whole = turned(server)
    assert whole.choices[0].message.content == "The one end"
    assert whole.usage.completion_tokens == 11


def test_an_answer_that_the_guard_ends_says_so(start: Start) -> None:
    choice = turned(served(start), guard={"words": ["one"]}).choices[0]
    assert choice.finish_reason == "content_filter"
    assert choice.message.content == "The "


def test_a_request_may_add_to_the_guard_and_take_nothing_from_it(start: Start) -> None:
    server = served(start)
    assert turned(server, guard={"words": ["end"]}).choices[0].message.content == "The one "
    assert turned(server, guard=None).choices[0].message.content == "The one end"
    for guard, param in (
        ({"words": ["x"], "to": "a"}, "taketurns.guard.to"),
        ({"words": []}, "taketurns.guard.words"),
        ({"words": [" "]}, "taketurns.guard.words.0"),
        ({"words": ["x"], "patterns": ["(a+)+$"]}, "taketurns.guard.patterns"),
        ({"words": ["x"], "threshold": 1.0}, "taketurns.guard.threshold"),
    ):
        with pytest.raises(openai.BadRequestError) as caught:
            turned(server, guard=guard)
        assert caught.value.param == param


def test_a_guarded_team_s_candidates_are_not_to_be_had_without_it(start: Start) -> None:
    server = served(start)
    assert [model.id for model in server.client().models.list().data] == ["team"]
    with pytest.raises(openai.NotFoundError):
        server.client().chat.completions.create(model="a", messages=ASKED)  # type: ignore[arg-type]
    plain = server.client().completions.create(model="team", prompt="Q? ")
    assert "rude" not in plain.choices[0].text


def test_an_unguarded_team_may_be_asked_to_be_guarded(start: Start) -> None:
    server = served(start, None)
    assert "rude" in turned(server).choices[0].message.content
    guarded = turned(server, guard={"words": ["rude"], "to": "b"})
    assert guarded.choices[0].message.content == "The one end"
    with pytest.raises(openai.BadRequestError, match="a guard needs to, the candidate"):
        turned(server, guard={"words": ["rude"]})


def test_a_request_may_lower_a_share_and_not_raise_it(start: Start) -> None:
    server = served(start, None, max_share=((0, 0.5),))

    def share(**turns: Any) -> float:
        text = turned(server, **turns).choices[0].model_extra["taketurns"]["patches"]
        own = sum(patch["tokens"] for patch in text if patch["name"] == "a")
        return float(own / sum(patch["tokens"] for patch in text))

    assert 0 < share() <= 0.5
    assert 0 < share(max_share={"a": 1.0}) <= 0.5
    assert share(max_share={"a": 0.0}) == 0
    with pytest.raises(openai.BadRequestError, match="there is no candidate 'c'"):
        turned(server, max_share={"c": 0.5})
    with pytest.raises(openai.BadRequestError, match="max_share caps all 2 candidates"):
        turned(server, max_share={"b": 0.5})
