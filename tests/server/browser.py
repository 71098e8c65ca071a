"""A person in front of the page: a real browser, and what is seen and done in it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
DRIVER = shutil.which("chromedriver")

needs_browser = pytest.mark.skipif(
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
        return WebDriverWait(self.driver, 30, poll_frequency=0.02).until(lambda _: until())

    def run(self, script: str, *values: Any) -> Any:
        return self.driver.execute_script(script, *values)

    def ready(self) -> Page:
        self.wait(lambda: "take turns" in self.one("#team").text)
        return self

    def ask(self, question: str) -> None:
        self.run("for (const turn of document.querySelectorAll('.turn')) turn.dataset.former = ''")
        box = self.one("#prompt")
        box.clear()
        box.send_keys(question, Keys.ENTER)

    def whole(self, answers: int = 1) -> list[WebElement]:
        """The answers since the last question was asked, once they are written."""
        done = ".turn:not([data-former]) .answer:not(.writing)"
        self.wait(lambda: len(self.all(done)) == answers)
        return self.all(done)

    def begin(self) -> None:
        """Begin a new conversation."""
        self.one("#new").click()
        self.wait(lambda: not self.all(".turn"))

    def idle(self) -> None:
        """Wait until nothing is written."""
        self.wait(lambda: not self.all(".answer.writing") and not self.one("#stop").is_displayed())

    def set(self, field: str, value: str) -> None:
        """Enter a value, or select it."""
        self.run(
            "const field = document.getElementById(arguments[0]); field.value = arguments[1];"
            "field.dispatchEvent(new Event('input', {bubbles: true}))",
            field,
            value,
        )

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


def browser() -> webdriver.Chrome:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu"):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options, webdriver.ChromeService(DRIVER))


def show(driver: webdriver.Chrome, width: int, height: int, scheme: str = "light") -> None:
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    wanted = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", wanted)
