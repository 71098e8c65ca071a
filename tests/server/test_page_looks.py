"""How the page looks where names are long, speakers many, and screens narrow or wide."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from selenium.webdriver import Keys

from taketurns import Team
from taketurns.config.policy import Policy
from taketurns.switchers.simple import FixedSwitcher

from .browser import Page, needs_browser, show
from .conftest import pair, scripted

pytestmark = needs_browser

LONG = "pretrained-7b-with-a-long-name"


def words(names: Sequence[str], tokens: int = 24) -> Team:
    """Everybody writes four words in turn, that begin with a space as most models' do."""
    scripts = dict.fromkeys(names, lambda prompt, sampling: " many words to break"[:20])
    order = FixedSwitcher(range(len(names)))
    return scripted(scripts, order, Policy(patch_size=20, max_tokens=tokens))


@pytest.mark.parametrize("width", [320, 390, 1200])
def test_every_share_has_the_same_scale_however_long_the_names(
    page: Callable[..., Page], width: int
) -> None:
    opened = page(words([LONG, "b", "c3"])).ready()
    show(opened.driver, width, 800)
    opened.ask("Why?")
    opened.whole()
    bars = [one.rect for one in opened.all(".legend .bar")]
    assert len({(bar["x"], bar["width"]) for bar in bars}) == 1
    assert bars[0]["width"] >= 20
    inside = opened.one(".answer").rect
    for figure in opened.all(".legend .much"):
        assert figure.rect["x"] + figure.rect["width"] <= inside["x"] + inside["width"]
    assert opened.run("return document.documentElement.scrollWidth") <= width


# Whether every mark stands on the line of the first character that follows it, at many widths.
ORPHANS = """
const text = document.querySelector('.text'), range = document.createRange(), orphans = [];
let lines = new Set();
for (let width = 200; width < 500; width += 3) {
  text.style.width = `${width}px`;
  for (const mark of text.querySelectorAll('.mark')) {
    range.setStart(mark.nextSibling, 0);
    range.setEnd(mark.nextSibling, 1);
    const word = range.getBoundingClientRect(), sign = mark.getBoundingClientRect();
    lines.add(word.top);
    if (sign.top > word.bottom || sign.bottom < word.top) orphans.push([width, mark.textContent]);
  }
}
return { orphans, lines: lines.size };
"""


def test_a_mark_is_never_left_behind_at_the_end_of_a_line(page: Callable[..., Page]) -> None:
    opened = page(words(["a", "b", "c"], tokens=400)).ready()
    opened.ask("Why?")
    opened.whole()
    seen = opened.run(ORPHANS)
    assert seen["lines"] > 10
    assert seen["orphans"] == []
    # What is copied is the answer, and nothing of ours.
    copied = opened.run(
        "getSelection().selectAllChildren(document.querySelector('.text'));"
        "return getSelection().toString()"
    )
    assert copied.split() == (" many words to break" * 20).split()


def test_one_answer_has_the_whole_width_and_two_share_it(page: Callable[..., Page]) -> None:
    opened = page(pair()).ready()
    opened.ask("Why?")
    (alone,) = opened.whole()
    whole = opened.one(".answers").rect["width"]
    assert alone.rect["width"] == whole
    # Its lines are no longer than can be read with ease; what they leave is the shares'.
    text, shares = opened.one(".text").rect, opened.one(".legend").rect
    assert text["width"] < 0.7 * whole
    assert shares["x"] > text["x"] + text["width"]
    assert shares["x"] + shares["width"] > 0.95 * (alone.rect["x"] + whole)
    for width in (390, 800):  # where there is less of it, the shares are below
        show(opened.driver, width, 900)
        assert alone.rect["width"] == opened.one(".answers").rect["width"]
        assert opened.one(".legend").rect["y"] > opened.one(".timeline").rect["y"]
    show(opened.driver, 1200, 900)
    opened.run("document.getElementById('beside').value = 'b'")
    opened.ask("Why?")
    first, second = (answer.rect for answer in opened.whole(2))
    assert first["width"] == second["width"] == pytest.approx(whole / 2, rel=0.05)


def test_no_two_of_many_speakers_look_alike(page: Callable[..., Page]) -> None:
    opened = page(words([f"c{number}" for number in range(16)], tokens=16 * 20)).ready()
    opened.ask("Why?")
    opened.whole()

    def looks(selector: str, *properties: str) -> list[tuple[Any, ...]]:
        return [
            tuple(one.value_of_css_property(name) for name in properties)
            for one in opened.all(selector)
        ]

    marks = [one.text for one in opened.all(".legend .mark")]
    assert len(set(marks)) == 16
    bars = looks(".legend .bar i", "background-color", "background-image")
    texts = looks(
        ".patch", "background-color", "text-decoration-style", "text-decoration-color", "box-shadow"
    )
    assert len(bars) == len(texts) == 16
    assert len(set(bars[:14])) == len(set(texts[:14])) == 14  # by more than their marks


@pytest.mark.parametrize("width", [390, 1200])
def test_a_long_question_is_folded_until_it_is_asked_for(
    page: Callable[..., Page], width: int
) -> None:
    opened = page(pair()).ready()
    show(opened.driver, width, 900)
    opened.ask("Short?")
    opened.whole()
    opened.idle()
    assert not opened.one(".fold").is_displayed()
    opened.begin()
    opened.ask("and so on, " * 300)
    opened.whole()
    asked, button = opened.one(".asked"), opened.one(".fold")
    opened.wait(button.is_displayed)
    folded = asked.size["height"]
    assert folded < 130
    assert button.get_attribute("aria-expanded") == "false"
    opened.run("arguments[0].focus()", button)
    opened.press(Keys.ENTER)
    opened.wait(lambda: asked.size["height"] > 3 * folded)
    assert button.get_attribute("aria-expanded") == "true"
    assert opened.run("return arguments[0].scrollHeight <= arguments[0].clientHeight + 1", asked)
    opened.run("arguments[0].click()", button)
    opened.wait(lambda: asked.size["height"] == folded)


@pytest.mark.parametrize("name", [LONG, "b"])
def test_the_parts_of_two_columns_are_level(page: Callable[..., Page], name: str) -> None:
    opened = page(words([LONG * 2, name + "2", "c3"], tokens=200)).ready()
    show(opened.driver, 900, 900)  # the long name leaves no room for the figures beside it
    opened.set("beside", "c3")
    opened.ask("Why?")
    opened.whole(2)
    opened.idle()
    for part in (".answer-head h3", ".text", ".timeline", ".legend", ".copying"):
        first, second = (one.rect["y"] for one in opened.all(f".answer {part}"))
        assert first == second, part
    show(opened.driver, 390, 900)
    above, below = opened.all(".answer")
    assert below.rect["y"] > above.rect["y"] + above.rect["height"]


@pytest.mark.parametrize("width", [320, 390])
def test_every_button_is_within_reach_on_a_phone(page: Callable[..., Page], width: int) -> None:
    opened = page(pair()).ready()
    show(opened.driver, width, 800)
    opened.ask("Why?")
    opened.whole()
    opened.idle()
    for name in ("open-trace", "save-trace", "open-history", "theme", "new", "submit"):
        button = opened.one(f"#{name}")
        assert button.is_displayed(), name
        assert button.rect["x"] >= 0
        assert button.rect["x"] + button.rect["width"] <= width
        assert button.rect["height"] >= 32
    assert opened.one("#beside").rect["width"] >= 120
    background = "return getComputedStyle(document.body).backgroundColor"
    before = opened.run(background)
    opened.one("#theme").click()
    assert opened.run(background) != before
