"""The page, in a real browser."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from selenium.webdriver import Keys
from selenium.webdriver.common.by import By

from taketurns import ScriptedEngine
from taketurns.config.policy import Policy
from taketurns.switchers.simple import FixedSwitcher

from .browser import Page, needs_browser, show
from .conftest import forever, pair, scripted

pytestmark = needs_browser


def test_an_answer_appears_in_its_speakers_looks_while_it_is_written(
    page: Callable[..., Page],
) -> None:
    team = scripted(
        {"base": ["The sky"], "chat": [" is é€ so blue."]},
        FixedSwitcher([0, 1]),
        Policy(patch_size=7, max_tokens=40),
        delay=0.2,  # long enough to be looked at on a busy machine
    )
    opened = page(team).ready()
    opened.ask("Why?")
    opened.wait(lambda: opened.all(".answer.writing .patch"))
    seen = {opened.text(opened.one(".answer"))}
    while opened.all(".answer.writing"):
        seen.add(opened.text(opened.one(".answer")))
    (answer,) = opened.whole()
    whole = "The sky is é€ so blue."[: len(opened.text(answer))]
    assert opened.text(answer) == whole
    assert len(seen) > 3
    assert all(whole.startswith(piece) for piece in seen)
    looks = [patch.get_attribute("class") for patch in opened.all(".patch")]
    assert looks[:2] == ["patch s0", "patch s1"]
    # Told apart without colours too: by marks and by underlines of different styles.
    assert [mark.text for mark in opened.all(".patch .mark")][:2] == ["●", "▲"]
    styles = [one.value_of_css_property("text-decoration-style") for one in opened.all(".patch")]
    assert styles[0] != styles[1]
    assert len(opened.all(".slice")) == len(looks)
    # A speaker that wrote nothing but the end is not shown.
    widths = [one.size["width"] for one in opened.all(".slice") if one.is_displayed()]
    assert len(widths) == sum(bool(one.text) for one in opened.all(".patch")) >= 2
    assert min(widths) > 3
    shares = [one.text for one in opened.all(".legend .much")]
    assert shares[0].endswith("· 7")
    assert "by tokens: base" in opened.one(".timeline").get_attribute("aria-label")


def test_what_a_model_writes_is_never_markup(page: Callable[..., Page]) -> None:
    evil = "<img src=x onerror=\"document.title='owned'\"><b>bold</b><script>alert(1)</script>"
    policy = Policy(patch_size=200, max_tokens=200)
    team = scripted({evil[:28]: [evil], "b": []}, FixedSwitcher([0]), policy)
    opened = page(team).ready()
    opened.ask(evil)
    (answer,) = opened.whole()
    assert opened.text(answer) == evil
    assert opened.all("#conversation img, #conversation b, #conversation script") == []
    opened.point_at(opened.one(".patch"))
    assert opened.one("#tip h4").text.endswith(evil[:28])
    opened.one("#open-history").click()
    assert opened.one("#past .q").text == evil
    assert opened.all("#past img, #tip img") == []
    assert opened.driver.title == "taketurns"


def test_a_patch_tells_who_was_considered_and_how_long_it_took(page: Callable[..., Page]) -> None:
    opened = page(pair(delay=0.002)).ready()
    opened.ask("Why?")
    opened.whole()
    opened.point_at(opened.all(".patch")[1])
    tip = opened.one("#tip")
    assert "selected by the switcher" in tip.text
    assert "50 %" in tip.text
    assert "4 tokens in" in tip.text
    opened.point_at(opened.one("h1"))
    assert not tip.is_displayed()
    # With the keyboard: one stop for an answer, arrows between its patches.
    stops = opened.run("return document.querySelectorAll('.patch[tabindex=\"0\"]').length")
    assert stops == 1
    opened.run("document.querySelector('.patch').focus()")
    opened.press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_LEFT)
    focused = opened.run(
        "return [...document.querySelectorAll('.patch')].indexOf(document.activeElement)"
    )
    assert focused == 1
    assert tip.is_displayed()
    assert opened.all(".patch")[1].get_attribute("aria-describedby") == "tip"
    opened.press(Keys.ESCAPE)
    assert not tip.is_displayed()
    opened.press("/")
    assert opened.driver.switch_to.active_element.get_attribute("id") == "prompt"


def test_the_particulars_follow_what_becomes_of_their_patch(page: Callable[..., Page]) -> None:
    policy = Policy(patch_size=10, max_tokens=400)
    team = scripted({"a": forever("a")}, FixedSwitcher([0]), policy, delay=0.1)
    opened = page(team).ready()
    opened.ask("Why?")
    opened.wait(lambda: opened.all(".patch"))
    tip = opened.one("#tip")
    opened.run("document.querySelector('.patch').focus()")
    assert tip.is_displayed()
    opened.wait(lambda: "10 tokens in" in tip.text)
    # In one breath, so that it is stopped in the middle of the patch that is looked at.
    stopped = """
        [...document.querySelectorAll('.patch')].at(-1).focus();
        const writing = document.getElementById('tip').textContent.includes('still writing');
        if (writing) document.getElementById('stop').click();
        return writing;
    """
    opened.wait(lambda: opened.run(stopped))
    opened.whole()
    assert "cut short after" in tip.text
    assert tip.is_displayed()


def test_side_by_side_with_one_checkpoint(page: Callable[..., Page]) -> None:
    opened = page(pair()).ready()
    opened.run("document.getElementById('beside').value = 'b'")
    opened.ask("Why?")
    team, alone = opened.whole(2)
    assert team.get_attribute("data-model") == "team"
    assert opened.text(alone) == "b" * 20
    # It looks as it does in the team.
    assert {
        one.get_attribute("class") for one in alone.find_elements(By.CSS_SELECTOR, ".patch")
    } == {"patch s1"}
    assert team.rect["y"] == alone.rect["y"]
    opened.point_at(alone.find_element(By.CSS_SELECTOR, ".patch"))
    tip = opened.one("#tip").text
    assert "writes alone" in tip
    assert "switcher" not in tip
    assert "deciding" not in tip


def test_the_policy_can_be_changed_for_a_question(page: Callable[..., Page]) -> None:
    opened = page(pair()).ready()
    opened.one("#policy summary").click()
    opened.one("#patch_size").send_keys("10")
    opened.one("#max_tokens").send_keys("30")
    opened.run(
        "for (const [id, value] of [['switcher', 'order'], ['closing', 'b']]) {"
        "  const field = document.getElementById(id); field.value = value;"
        "  field.dispatchEvent(new Event('input', {bubbles: true})); }"
    )
    opened.one("#order").send_keys("a")
    assert opened.one("#changed").text.startswith("changed: Patch size; Maximum; ")
    opened.ask("Why?")
    (answer,) = opened.whole()
    assert opened.text(answer) == "a" * 20 + "b" * 10
    opened.one("#reset").click()
    assert opened.one("#changed").text == "the team’s settings"


@pytest.mark.parametrize(
    ("field", "wrong", "right"),
    [
        ("patch_size", "0", "3"),
        ("temperature", "2.5", "0.72"),
        ("turn_top_p", "0", "0.005"),
        ("seed", "1e999", "-7"),
    ],
)
def test_a_wrong_number_in_the_folded_policy_is_shown_and_explained(
    page: Callable[..., Page], field: str, wrong: str, right: str
) -> None:
    opened = page(pair()).ready()
    opened.one("#policy summary").click()
    opened.one(f"#{field}").send_keys(wrong)
    opened.one("#policy summary").click()
    assert not opened.one(f"#{field}").is_displayed()
    opened.ask("Why?")
    assert opened.one(f"#{field}").is_displayed()
    assert opened.driver.switch_to.active_element.get_attribute("id") == field
    described = opened.one(f"#{field}").get_attribute("aria-describedby")
    said = opened.one(f"#{described}")
    assert said.is_displayed()
    assert said.text == opened.one(f"#{field}").get_attribute("data-wrong")
    assert opened.all(".answer") == []
    # What it takes instead.
    opened.one(f"#{field}").clear()
    opened.one(f"#{field}").send_keys(right)
    assert opened.all(".wrong") == []
    opened.ask("Why?")
    assert opened.text(opened.whole()[0])
    assert opened.all(".problem:not([hidden])") == []


def test_reset_takes_wrong_numbers_back(page: Callable[..., Page]) -> None:
    opened = page(pair()).ready()
    opened.one("#policy summary").click()
    opened.one("#max_tokens").send_keys("-")
    opened.ask("Why?")
    assert len(opened.all(".wrong")) == 1
    opened.one("#reset").click()
    assert opened.all(".wrong") == []
    opened.ask("Why?")
    assert opened.text(opened.whole()[0])


def test_nothing_is_not_asked(page: Callable[..., Page]) -> None:
    opened = page(pair()).ready()
    opened.ask("  ")
    assert opened.one("#prompt-wrong").text == "Write a question first."
    assert opened.all(".answer") == []


def test_history_stays_in_the_browser(page: Callable[..., Page]) -> None:
    opened = page(pair()).ready()
    texts = []
    for question in ("First?", "Second?"):
        opened.ask(question)
        texts.append(opened.text(opened.whole()[0]))
        opened.idle()
        opened.begin()
    opened.driver.refresh()
    opened.ready()
    opened.one("#open-history").click()
    assert [one.text for one in opened.all("#past .q")] == ["Second?", "First?"]
    opened.all("#past button")[1].click()
    (answer,) = opened.whole()
    assert opened.text(answer) == texts[0]
    assert "seed" in answer.text
    opened.point_at(opened.one(".patch"))
    assert "50 %" in opened.one("#tip").text
    opened.one("#open-history").click()
    opened.one("#forget").click()
    opened.one("#open-history").click()
    assert opened.one("#past").text == "Nothing yet."


def test_escape_stops_an_answer_and_frees_it(page: Callable[..., Page]) -> None:
    team = pair(delay=0.2)
    opened = page(team).ready()
    opened.ask("Why?")
    opened.wait(lambda: opened.all(".answer.writing .patch"))
    opened.press(Keys.ESCAPE)
    (answer,) = opened.whole()
    assert "stopped" in answer.text
    assert isinstance(team.engine, ScriptedEngine)
    opened.wait(lambda: team.engine.open_sessions == 0)


def test_escape_that_closes_a_dialog_leaves_the_answer_alone(page: Callable[..., Page]) -> None:
    policy = Policy(patch_size=10, max_tokens=1000)
    team = scripted({"a": forever("a")}, FixedSwitcher([0]), policy, delay=0.05)
    opened = page(team).ready()
    opened.ask("Why?")
    opened.wait(lambda: opened.all(".answer.writing .patch"))
    opened.one("#open-history").click()
    opened.press(Keys.ESCAPE)
    opened.wait(lambda: not opened.one("#history").is_displayed())
    written = len(opened.text(opened.one(".answer")))
    opened.wait(lambda: len(opened.text(opened.one(".answer.writing"))) > written)
    opened.press(Keys.ESCAPE)
    (answer,) = opened.whole()
    assert "stopped" in answer.text


def test_a_failure_in_mid_answer_is_said_beside_what_was_written(
    page: Callable[..., Page],
) -> None:
    from taketurns.errors import CapacityError

    opened = page(pair(failures={2: CapacityError("the <server> is gone")})).ready()
    opened.ask("Why?")
    (answer,) = opened.whole()
    assert len(opened.text(answer)) == 8
    assert answer.find_element(By.CSS_SELECTOR, ".problem").text == "the <server> is gone"


def test_the_key_is_asked_for_and_kept_for_the_tab(page: Callable[..., Page]) -> None:
    opened = page(pair(), api_keys=("s3cret",))
    opened.wait(lambda: opened.one("#key").is_displayed())
    assert opened.all("#key .wrong") == []
    for wrong in ("wrong", "schlüssel €"):  # no header can carry the second
        opened.one("#key-value").send_keys(wrong, Keys.ENTER)
        opened.wait(lambda: opened.all("#key .wrong"))
        assert opened.one("#key .wrong").text.startswith("The server refused this key")
        assert opened.one("#key-value").get_attribute("value") == ""
    opened.one("#key-value").send_keys("s3cret", Keys.ENTER)
    opened.ready().ask("Why?")
    assert opened.text(opened.whole()[0])
    opened.driver.refresh()
    opened.ready()


def test_without_a_key_the_page_says_so_and_asks_again_with_the_question(
    page: Callable[..., Page],
) -> None:
    opened = page(pair(), api_keys=("s3cret",))
    opened.wait(lambda: opened.one("#key").is_displayed())
    opened.press(Keys.ESCAPE)
    opened.wait(lambda: "not connected: this server needs an API key" in opened.one("#team").text)
    opened.ask("Why?")
    opened.wait(lambda: opened.one("#key").is_displayed())
    opened.one("#close-key").click()
    opened.wait(lambda: opened.all("#prompt-wrong"))
    assert "needs an API key" in opened.one("#prompt-wrong").text
    assert opened.all(".answer") == []
    assert opened.run("return localStorage.getItem('taketurns.history')") is None
    opened.ask("Why?")
    opened.wait(lambda: opened.one("#key").is_displayed())
    opened.one("#key-value").send_keys("s3cret", Keys.ENTER)
    assert opened.text(opened.whole()[0])  # the question was not forgotten


def test_a_key_that_is_refused_later_is_asked_for_and_the_answers_go_on(
    page: Callable[..., Page],
) -> None:
    opened = page(pair(), api_keys=("s3cret",))
    opened.wait(lambda: opened.one("#key").is_displayed())
    opened.one("#key-value").send_keys("s3cret", Keys.ENTER)
    opened.ready()
    opened.run("document.getElementById('beside').value = 'b'")
    opened.driver.execute_async_script(
        "const done = arguments[0];"
        "import('/page/api.js').then((api) => { api.keep('another'); done(); })"
    )
    opened.ask("Why?")
    opened.wait(lambda: opened.one("#key").is_displayed())
    opened.one("#key-value").send_keys("s3cret", Keys.ENTER)
    assert all(map(opened.text, opened.whole(2)))
    assert opened.all(".problem:not([hidden])") == []


def test_a_server_that_cannot_be_reached_is_tried_again_with_the_next_question(
    page: Callable[..., Page],
) -> None:
    opened = page(pair()).ready()
    browser = opened.driver
    browser.execute_cdp_cmd("Network.enable", {})
    browser.execute_cdp_cmd("Network.setBlockedURLs", {"urls": ["*/v1/*"]})
    try:
        opened.ask("Why?")
        (answer,) = opened.whole()
        assert "the server cannot be reached" in answer.text
        assert opened.run("return localStorage.getItem('taketurns.history')") is None
        browser.refresh()
        opened.wait(lambda: "not connected" in opened.one("#team").text)
        opened.ask("Why?")
        opened.wait(lambda: opened.all("#prompt-wrong"))
        assert opened.one("#prompt-wrong").text == "Not connected: the server cannot be reached."
    finally:
        browser.execute_cdp_cmd("Network.setBlockedURLs", {"urls": []})
    complaints = [entry["message"] for entry in browser.get_log("browser")]
    assert all("ERR_BLOCKED_BY_CLIENT" in one for one in complaints)
    opened.ask("Why?")
    assert opened.text(opened.whole()[0])
    assert opened.all(".wrong") == []


def test_nothing_comes_from_outside_and_nothing_may(page: Callable[..., Page]) -> None:
    opened = page(pair()).ready()
    opened.ask("Why?")
    opened.whole()
    loaded = opened.run("return performance.getEntriesByType('resource').map(one => one.name)")
    origin = opened.run("return location.origin")
    assert loaded
    assert all(name.startswith(origin) for name in loaded)
    policy = opened.run(
        "return fetch('/').then(reply => reply.headers.get('content-security-policy'))"
    )
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


@pytest.mark.parametrize("width", [320, 390, 768])
def test_it_fits_a_narrow_screen(page: Callable[..., Page], width: int) -> None:
    words = "an_answer_without_any_spaces_" * 4
    team = scripted({"a" * 30: [words], "b": []}, FixedSwitcher([0]), Policy(200, max_tokens=200))
    opened = page(team, examples=("A question of some length that will not fit?",) * 4).ready()
    show(opened.driver, width, 800)
    opened.run("document.getElementById('policy').open = true")
    opened.ask("Why? " + words)
    opened.whole()
    opened.run("document.querySelector('.patch').focus()")
    assert opened.run("return document.documentElement.scrollWidth") <= width
    tip = opened.one("#tip").rect
    assert tip["x"] >= 0
    assert tip["x"] + tip["width"] <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_read_in_light_and_dark(page: Callable[..., Page], scheme: str) -> None:
    opened = page(pair(failures={2: ValueError("x")})).ready()
    show(opened.driver, 1200, 900, scheme)
    opened.ask("Why?")
    opened.whole()
    # WCAG's contrast between every text and what lies behind it, tints included.
    worst = opened.run(CONTRAST)
    assert worst["ratio"] >= 4.5, worst
    background = opened.run("return getComputedStyle(document.body).backgroundColor")
    # The first click always changes what is seen, and the second goes back to it by name.
    for change in (True, False):
        opened.one("#theme").click()
        now = opened.run("return getComputedStyle(document.body).backgroundColor")
        assert (now != background) == change
    assert opened.one("#theme").text == f"Theme: {scheme}"
    opened.driver.refresh()
    assert opened.ready().one("#theme").text == f"Theme: {scheme}"


CONTRAST = """
const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
const over = (layers) => {
  canvas.clearRect(0, 0, 1, 1);
  for (const layer of layers) { canvas.fillStyle = layer; canvas.fillRect(0, 0, 1, 1); }
  return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
};
const light = (rgb) => {
  const linear = (v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const [r, g, b] = rgb.map((v) => linear(v / 255));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
let worst = { ratio: 99 };
for (const element of document.querySelectorAll('body *')) {
  const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
  const skipped = element.closest('.hidden, .skip, noscript, option');
  if (!own || skipped || !element.checkVisibility()) continue;
  const behind = [];
  for (let up = element; up; up = up.parentElement) {
    behind.unshift(getComputedStyle(up).backgroundColor);
  }
  const ground = over(behind), ink = over([...behind, getComputedStyle(element).color]);
  const [high, low] = [light(ground), light(ink)].sort((a, b) => b - a);
  const ratio = (high + 0.05) / (low + 0.05);
  if (ratio < worst.ratio) worst = { ratio, text: element.textContent.slice(0, 40), ground, ink };
}
return worst;
"""
