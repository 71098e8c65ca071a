"""Takes the pictures of the page in docs/serving.md: `python docs/screenshots.py`.

Serves the bundled team and asks it in a headless Chromium; needs `taketurns[dev,serve]`, chromium
and chromedriver.
"""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path

import httpx
from selenium import webdriver
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from taketurns import Team
from taketurns.cli.serve import EXAMPLES
from taketurns.pocket import TASKS
from taketurns.server.config import ServeConfig
from taketurns.server.model_registry import ModelRegistry
from taketurns.server.run import TeamServer, listen
from taketurns.server.serving import Serving

HERE = Path(__file__).parent
QUESTIONS = tuple(TASKS[task].queries("test")[number].text or "" for task, number in EXAMPLES)
SIZES = {"light": (1200, 760), "dark": (1200, 760), "phone": (390, 844)}


def main() -> None:
    """Write serving-light.png, serving-dark.png and serving-phone.png."""
    config = ServeConfig(port=0, examples=QUESTIONS)
    with listen(config) as listening:
        url = "http://{}:{}".format(*listening.getsockname())
        server = TeamServer(Serving(ModelRegistry(Team.load("pocket"), "pocket"), config))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            while httpx.get(f"{url}/health/ready").status_code != 200:
                time.sleep(0.1)
            for name, (width, height) in SIZES.items():
                take(url, name, width, height)
        finally:
            server.should_exit = True
            thread.join()


def take(url: str, name: str, width: int, height: int) -> None:
    """One picture: an answer, and the particulars of one of its patches."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for argument in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "hide-scrollbars"):
        options.add_argument(f"--{argument}")
    browser = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    phone = name == "phone"
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}
    scheme = {"name": "prefers-color-scheme", "value": "dark" if name == "dark" else "light"}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    browser.get(url)
    waiting = WebDriverWait(browser, 20)
    waiting.until(lambda _: browser.find_elements(By.CSS_SELECTOR, ".examples button"))
    if not phone:
        browser.execute_script("document.getElementById('beside').value = 'aligned'")
    browser.execute_script("document.getElementById('seed').value = '1'")
    browser.find_element(By.ID, "prompt").send_keys(QUESTIONS[0], Keys.ENTER)
    waiting.until(lambda _: browser.find_elements(By.CSS_SELECTOR, ".answer"))
    waiting.until(lambda _: not browser.find_elements(By.CSS_SELECTOR, ".answer.writing"))
    second = browser.find_elements(By.CSS_SELECTOR, ".patch")[1]
    if phone:
        browser.execute_script("scrollTo(0, 60)")
        time.sleep(0.2)
        second.click()
    else:
        ActionChains(browser).move_to_element(second).perform()
    time.sleep(0.3)
    browser.save_screenshot(str(HERE / f"serving-{name}.png"))
    browser.quit()


if __name__ == "__main__":
    main()
