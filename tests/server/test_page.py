"""The page, in a real browser."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from taketurns import ScriptedEngine
from taketurns.policy import Policy
from taketurns.switchers import FixedSwitcher, RandomSwitcher

from .conftest import Start, forever, scripted

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
DRIVER = shutil.which("chromedriver")

pytestmark = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None,
    reason="no chromium and chromedriver (Debian: apt-get install chromium chromium-driver)",
)


class Page:
    """The page as a person uses it."""

    def __init__(self, driver: webdriver.Chrome, url: str) -> None:
        self.driver = driver
        driver.get(url)

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def wait(self, until: Callable[[], Any]) -> Any:
        return WebDriverWait(self.driver, 10, poll_frequency=0.02).until(lambda _: until())

    def run(self, script: str, *values: Any) -> Any:
        return self.driver.execute_script(script, *values)

    def ready(self) -> Page:
        self.wait(lambda: "take turns" in self.one("#team").text)
        return self

    def ask(self, question: str) -> None:
        box = self.one("#prompt")
        box.clear()
        box.send_keys(question, Keys.ENTER)

    def whole(self, answers: int = 1) -> list[WebElement]:
        """The answers, once they are written."""
        done = ".answer:not(.writing)"
        self.wait(lambda: len(self.all(done)) == answers)
        return self.all(done)

    def text(self, answer: WebElement) -> str:
        """What is written, without the speakers' marks."""
        return self.run(
            "const copy = arguments[0].querySelector('.text').cloneNode(true);"
            "for (const mark of copy.querySelectorAll('.mark')) mark.remove();"
            "return copy.textContent",
            answer,
        )

    def point_at(self, element: WebElement) -> None:
        ActionChains(self.driver).move_to_element(element).perform()

    def press(self, *keys: str) -> None:
        ActionChains(self.driver).send_keys(*keys).perform()


@pytest.fixture(scope="module")
def driver() -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu"):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield chrome
    chrome.quit()


@pytest.fixture
def page(driver: webdriver.Chrome, start: Start) -> Iterator[Callable[..., Page]]:
    """Serve a team and open its page. Whatever the browser complains of fails the test."""

    def visit(team: Any, **settings: Any) -> Page:
        show(driver, 1200, 900)
        opened = Page(driver, start(team, **settings).url)
        opened.run("localStorage.clear(); sessionStorage.clear()")
        driver.refresh()
        return opened

    yield visit
    complaints = [entry["message"] for entry in driver.get_log("browser")]
    assert [one for one in complaints if " 401 " not in one] == []


def show(driver: webdriver.Chrome, width: int, height: int, scheme: str = "light") -> None:
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    wanted = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", wanted)


def pair(**options: Any) -> Any:
    """`a` and `b` write five times four letters by turns."""
    scripts = {"a": forever("a"), "b": forever("b")}
    return scripted(scripts, RandomSwitcher(), Policy(patch_size=4, max_tokens=20), **options)


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
    assert opened.all("#answers img, #answers b, #answers script") == []
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
    assert "chosen by the switcher" in tip.text
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
    assert opened.one("#changed").text.startswith("changed: Patch size; At most; ")
    opened.ask("Why?")
    (answer,) = opened.whole()
    assert opened.text(answer) == "a" * 20 + "b" * 10
    opened.one("#reset").click()
    assert opened.one("#changed").text == "as the team has it"
    opened.one("#patch_size").send_keys("0")
    opened.ask("Why?")  # the field says what is wrong with it; nothing is asked
    assert opened.text(opened.one(".answer")) == "a" * 20 + "b" * 10


def test_history_stays_in_the_browser(page: Callable[..., Page]) -> None:
    opened = page(pair()).ready()
    texts = []
    for question in ("First?", "Second?"):
        opened.ask(question)
        texts.append(opened.text(opened.whole()[0]))
        opened.wait(lambda: opened.one("#stop").is_displayed() is False)
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
    opened.one("#key-value").send_keys("wrong", Keys.ENTER)
    opened.wait(lambda: opened.one("#key").is_displayed())
    opened.one("#key-value").send_keys("s3cret", Keys.ENTER)
    opened.ready().ask("Why?")
    assert opened.text(opened.whole()[0])
    opened.driver.refresh()
    opened.ready()


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
    opened.run("document.getElementById('theme').click()")
    opened.run("document.getElementById('theme').click()")  # auto, light, dark
    assert opened.one("#theme").text == "Theme: dark"
    now = opened.run("return getComputedStyle(document.body).backgroundColor")
    assert (now == background) == (scheme == "dark")


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
