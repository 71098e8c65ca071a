"""What the page keeps of former answers, and shows again."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from selenium.webdriver import Keys

from taketurns.config.policy import Policy
from taketurns.switchers.simple import FixedSwitcher

from .browser import Page, needs_browser
from .conftest import forever, pair, scripted

pytestmark = needs_browser

READ = "return localStorage.getItem('taketurns.history')"
WRITE = "localStorage.setItem('taketurns.history', arguments[0])"


def asked(opened: Page, question: str) -> None:
    opened.ask(question)
    opened.wait(lambda: not opened.one("#stop").is_displayed() and opened.run(READ))


def labels(opened: Page) -> list[str | None]:
    return [one.get_attribute("aria-label") for one in opened.all(".patch")]


def test_an_old_answer_names_those_who_wrote_it_when_another_team_is_served(
    page: Callable[..., Page],
) -> None:
    def two(first: str, second: str) -> Page:
        scripts = {first: forever("x"), second: forever("y")}
        team = scripted(scripts, FixedSwitcher([0, 1, 1]), Policy(patch_size=4, max_tokens=12))
        return page(team).ready()

    opened = two("base", "chat")
    opened.run("document.getElementById('beside').value = 'chat'")
    asked(opened, "Why?")
    shares = [one.text for one in opened.all(".legend")]
    assert "base\n33 %" in shares[0]
    kept = opened.run(READ)

    opened = two("coder", "poet")
    opened.run(WRITE, kept)
    opened.one("#open-history").click()
    opened.one("#past button").click()
    opened.whole(2)
    assert [one.text for one in opened.all(".legend")] == shares
    opened.point_at(opened.all(".patch")[1])
    assert "base" in opened.one("#tip").text
    assert "coder" not in opened.one("#tip").text
    # The one that answered alone still looks as it did in its team.
    assert opened.all(".answer")[1].find_element("css selector", ".patch.s1").is_displayed()


def test_an_old_answer_is_read_out_with_its_speakers(page: Callable[..., Page]) -> None:
    opened = page(pair()).ready()
    asked(opened, "Why?")
    said = labels(opened)
    assert said[0] in ("a: aaaa", "b: bbbb")
    assert None not in said
    opened.one("#open-history").click()
    opened.one("#past button").click()
    assert labels(opened) == said


def test_a_patch_that_broke_off_is_read_out_with_its_speaker(page: Callable[..., Page]) -> None:
    team = scripted({"a": forever("a")}, FixedSwitcher([0]), Policy(400, max_tokens=400), delay=0.1)
    opened = page(team).ready()
    opened.ask("Why?")
    opened.wait(lambda: opened.all(".answer.writing .patch"))
    opened.press(Keys.ESCAPE)
    opened.whole()
    assert labels(opened)[0].startswith("a: a")


WHOLE = {
    "prompt": "Why?",
    "at": 1,
    "answers": [
        {
            "model": "team",
            "team": {"name": "team", "candidates": ["a", "b"]},
            "first": None,
            "took": 5,
            "problem": None,
            "patches": [{"text": "so", "tokens": 1, "speaker": 0, "name": "a"}],
        }
    ],
}


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        {"prompt": "x"},
        {**WHOLE, "answers": [{}]},
        {**WHOLE, "answers": [{**WHOLE["answers"][0], "team": None}]},
        {**WHOLE, "answers": [{**WHOLE["answers"][0], "patches": [{"reason": "chosen"}]}]},
    ],
)
def test_an_entry_that_is_not_whole_is_left_out_and_the_others_are_shown(
    page: Callable[..., Page], wrong: object
) -> None:
    opened = page(pair()).ready()
    opened.run(WRITE, json.dumps([wrong, WHOLE]))
    opened.one("#open-history").click()
    assert [one.text for one in opened.all("#past .q")] == ["Why?"]
    opened.one("#past button").click()
    (answer,) = opened.whole()
    assert opened.text(answer) == "so"
