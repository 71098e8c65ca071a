"""Follow-up questions on the page, and what becomes of refused ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from selenium.webdriver import Keys

from taketurns.config.policy import Policy
from taketurns.errors import CapacityError
from taketurns.switchers.simple import FixedSwitcher

from .browser import Page, needs_browser
from .conftest import forever, pair, scripted

pytestmark = needs_browser

# Keeps the bodies of the requests that the page sends.
SPY = """
window.sent = [];
const fetched = window.fetch;
window.fetch = (address, options) => {
  if (options?.body) sent.push(options.body);
  return fetched(address, options);
};
"""


def sent(opened: Page) -> list[dict[str, Any]]:
    """The requests for answers since SPY ran."""
    return [json.loads(body) for body in opened.run("return window.sent")]


def asked(opened: Page, question: str, answers: int = 1) -> list[str]:
    opened.ask(question)
    texts = [opened.text(answer) for answer in opened.whole(answers)]
    opened.idle()
    return texts


def turns(*pairs: tuple[str, str], then: str) -> list[dict[str, str]]:
    messages = []
    for question, answer in pairs:
        messages += [
            {"role": "user", "content": question},
            {"role": "assistant", "content": answer},
        ]
    return [*messages, {"role": "user", "content": then}]


def questions(opened: Page) -> list[str]:
    return [one.text for one in opened.all(".asked")]


def test_a_question_follows_up_on_the_answers_before_it(page: Callable[..., Page]) -> None:
    opened = page(pair()).ready()
    opened.run(SPY)
    (first,) = asked(opened, "One?")
    (second,) = asked(opened, "Two?")
    asked(opened, "Three?")
    assert [request["messages"] for request in sent(opened)] == [
        turns(then="One?"),
        turns(("One?", first), then="Two?"),
        turns(("One?", first), ("Two?", second), then="Three?"),
    ]
    assert questions(opened) == ["One?", "Two?", "Three?"]
    # Who wrote what stays to be seen of every answer.
    for turn in opened.all(".turn"):
        assert len(turn.find_elements("css selector", ".patch")) == 5
        assert len(turn.find_elements("css selector", ".legend li")) == 2
    opened.point_at(opened.one(".turn .patch"))
    assert "selected by the switcher" in opened.one("#tip").text


def test_each_column_goes_on_with_its_own_answers(page: Callable[..., Page]) -> None:
    opened = page(pair()).ready()
    opened.run(SPY)
    (alone,) = asked(opened, "One?")
    opened.set("beside", "b")
    team, candidate = asked(opened, "Two?", 2)
    asked(opened, "Three?", 2)
    third = {request["model"]: request["messages"] for request in sent(opened)[3:]}
    assert third == {
        "team": turns(("One?", alone), ("Two?", team), then="Three?"),
        # It did not answer the first question: there it is sent what the team wrote.
        "b": turns(("One?", alone), ("Two?", candidate), then="Three?"),
    }
    assert candidate == "b" * 20


def test_an_edited_question_replaces_what_follows_and_the_history_keeps_both(
    page: Callable[..., Page],
) -> None:
    opened = page(pair()).ready()
    (first,) = asked(opened, "One?")
    asked(opened, "Two?")
    asked(opened, "Three?")
    opened.run(SPY)
    opened.one("#prompt").send_keys("a draft")
    opened.all(".edit")[1].click()
    assert "question 2" in opened.one("#editing").text
    assert opened.one("#prompt").get_attribute("value") == "Two?"
    assert opened.driver.switch_to.active_element.get_attribute("id") == "prompt"
    opened.press(Keys.ESCAPE)  # it may be left as it was
    assert not opened.one("#editing").is_displayed()
    assert opened.one("#prompt").get_attribute("value") == "a draft"
    opened.all(".edit")[1].click()
    asked(opened, "Another two?")
    assert questions(opened) == ["One?", "Another two?"]
    assert [request["messages"] for request in sent(opened)] == [
        turns(("One?", first), then="Another two?")
    ]
    assert not opened.one("#editing").is_displayed()
    opened.one("#open-history").click()
    entries = [one.text for one in opened.all("#past button")]
    assert [entry.split("\n")[0] for entry in entries] == ["One?", "One?"]
    assert [entry.rsplit(" · ")[-1] for entry in entries] == ["2 questions", "3 questions"]


def test_a_conversation_of_the_history_goes_on_where_it_ended(page: Callable[..., Page]) -> None:
    opened = page(pair()).ready()
    (first,) = asked(opened, "One?")
    (second,) = asked(opened, "Two?")
    opened.begin()
    assert not opened.one("#new").is_displayed()
    asked(opened, "Apart?")
    opened.driver.refresh()
    opened.ready()
    opened.one("#open-history").click()
    assert [one.text for one in opened.all("#past .q")] == ["Apart?", "One?"]
    opened.all("#past button")[1].click()
    opened.wait(lambda: questions(opened) == ["One?", "Two?"])
    opened.run(SPY)
    asked(opened, "Three?")
    (request,) = sent(opened)
    assert request["messages"] == turns(("One?", first), ("Two?", second), then="Three?")
    opened.one("#open-history").click()
    assert [one.text for one in opened.all("#past .q")] == ["One?", "Apart?"]
    assert "3 questions" in opened.one("#past button").text


def test_what_was_written_before_a_stop_is_part_of_the_next_request(
    page: Callable[..., Page],
) -> None:
    policy = Policy(patch_size=10, max_tokens=1000)
    team = scripted({"a": forever("a")}, FixedSwitcher([0]), policy, delay=0.05)
    opened = page(team).ready()
    opened.run(SPY)
    opened.ask("One?")
    opened.wait(lambda: opened.all(".answer.writing .patch"))
    opened.ask("Two?")  # without waiting for the end
    opened.wait(lambda: len(opened.all(".turn")) == 2)
    written = opened.text(opened.one(".answer"))
    opened.one("#stop").click()
    opened.idle()
    assert set(written) == {"a"}
    assert sent(opened)[1]["messages"] == turns(("One?", written), then="Two?")
    assert opened.text(opened.one(".answer")) == written


def test_a_refused_request_leaves_the_servers_sentence_and_the_question(
    page: Callable[..., Page],
) -> None:
    opened = page(pair(), max_tokens=30).ready()
    (first,) = asked(opened, "One?")
    opened.run(SPY)
    opened.set("max_tokens", "31")
    opened.ask("Two?")
    (answer,) = opened.whole()
    sentence = answer.find_element("css selector", ".problem").text
    assert "max_tokens" in sentence
    assert "30" in sentence
    assert "…" not in answer.text
    shown = opened.run(
        "return getComputedStyle(arguments[0].querySelector('.text')).display", answer
    )
    assert shown == "none"
    assert opened.one("#prompt").get_attribute("value") == "Two?"
    # Asked again, it takes the place of the refused one, which no request is sent.
    opened.set("max_tokens", "20")
    asked(opened, "Two?")
    assert questions(opened) == ["One?", "Two?"]
    assert sent(opened)[1]["messages"] == turns(("One?", first), then="Two?")
    assert opened.all(".problem:not([hidden])") == []
    assert all(" 400 " in one["message"] for one in opened.driver.get_log("browser"))


def test_a_failed_column_is_sent_what_the_other_wrote(page: Callable[..., Page]) -> None:
    opened = page(pair(failures={0: CapacityError("no room")})).ready()
    opened.run(SPY)
    opened.set("beside", "b")
    opened.ask("One?")
    opened.whole(2)
    opened.idle()
    texts = {
        one.get_attribute("data-model"): opened.text(one)
        for one in opened.all(".answer")
        if not one.find_elements("css selector", ".problem:not([hidden])")
    }
    ((_, wrote),) = texts.items()  # the first touch of the engine failed, whose it was
    opened.ask("Two?")
    opened.whole(2)
    assert {json.dumps(request["messages"]) for request in sent(opened)[2:]} == {
        json.dumps(turns(("One?", wrote), then="Two?"))
    }
    assert all(" 503 " in one["message"] for one in opened.driver.get_log("browser"))


def test_a_key_pressed_twice_asks_once(page: Callable[..., Page]) -> None:
    opened = page(pair(delay=0.01)).ready()
    opened.run(SPY)
    opened.run(
        "const box = document.getElementById('prompt'); box.value = 'Why?';"
        "const form = document.getElementById('ask'); form.requestSubmit(); form.requestSubmit()"
    )
    opened.wait(lambda: opened.all(".answer:not(.writing)"))
    assert len(sent(opened)) == 1
    assert questions(opened) == ["Why?"]
