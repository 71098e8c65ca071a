"""The requests that the page copies: they are what it sends, and run as they are."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from selenium.webdriver.remote.webelement import WebElement

from .browser import Page, needs_browser
from .conftest import pair
from .test_page_conversation import SPY, asked, sent

pytestmark = needs_browser

# What a shell, JSON, and Python read as something else.
NASTY = (
    'it\'s "quoted" $HOME `id` $(id) \\n \\\\ !! %s {x}\nJSON\n\'\'\'""" \u2028 é \U0001f600\t<b>'
)


def copied(opened: Page, answer: WebElement, client: str) -> str:
    origin = opened.run("return location.origin")
    opened.driver.execute_cdp_cmd(
        "Browser.grantPermissions",
        {"origin": origin, "permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]},
    )
    (button,) = (
        one
        for one in answer.find_elements("css selector", ".copying button")
        if one.text == f"Copy as {client}"
    )
    opened.run("arguments[0].click()", button)
    opened.wait(lambda: button.text == "Copied")
    assert opened.one("#status").get_attribute("textContent").endswith(f"copied as {client}.")
    return opened.driver.execute_async_script(
        "const done = arguments[0]; navigator.clipboard.readText().then(done, done)"
    )


def streamed(events: str) -> str:
    """The text of a stream of events."""
    chunks = re.findall(r"^data: (\{.*)$", events, re.MULTILINE)
    choices = [choice for chunk in chunks for choice in json.loads(chunk)["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def ask_nasty(opened: Page) -> None:
    opened.set("prompt", NASTY)  # no keys: Enter would ask, and the driver knows no emoji
    opened.run("document.getElementById('ask').requestSubmit()")
    opened.whole()
    opened.idle()


def pasted(shell: str, command: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """What becomes of the command in a shell that reads it from its input, as a terminal's does."""
    return subprocess.run(
        [shell], input=command, capture_output=True, text=True, timeout=60, **options
    )


def conversation(opened: Page) -> tuple[list[WebElement], list[dict[str, Any]]]:
    """The answers to a second question, with most fields set, and the requests for them."""
    opened.ready()
    opened.set("seed", "11")
    ask_nasty(opened)
    opened.run(SPY)
    opened.set("beside", "b")
    opened.set("max_tokens", "12")
    opened.set("temperature", "0.5")
    opened.set("repetition_penalty", "1")
    opened.set("stop_strings", "it's\n\\n\\\\")
    opened.set("patch_size", "3")
    opened.set("switcher", "order")
    opened.ask("Why isn't it?")
    opened.whole(2)
    opened.idle()
    return opened.all(".turn:last-child .answer"), sent(opened)


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_the_copied_curl_sends_what_the_page_sends(page: Callable[..., Page], shell: str) -> None:
    opened = page(pair())
    answers, requests = conversation(opened)
    for answer, request in zip(answers, requests, strict=True):
        command = copied(opened, answer, "curl")
        body = command.split("<<'JSON'\n")[1].removesuffix("\nJSON\n")
        assert json.loads(body) == request
        assert request["messages"][0]["content"] == NASTY
        ran = pasted(shell, command)
        assert ran.returncode == 0, ran.stderr
        assert streamed(ran.stdout) == opened.text(answer) != ""


def test_the_copied_python_gets_what_the_page_got(page: Callable[..., Page]) -> None:
    opened = page(pair())
    answers, requests = conversation(opened)
    for answer, request in zip(answers, requests, strict=True):
        program = copied(opened, answer, "Python")
        assert arguments(program) == request
        ran = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=120
        )
        assert ran.returncode == 0, ran.stderr
        assert ran.stdout == opened.text(answer) + "\n"


def arguments(program: str) -> dict[str, Any]:
    """What a copied program asks for, without the network: it runs with a client that notes it."""
    noted: dict[str, Any] = {}

    class Client:
        def __init__(self, base_url: str, api_key: str) -> None:
            assert base_url.startswith("http://127.0.0.1:")
            self.chat = self.completions = self

        def create(self, extra_body: dict[str, Any] | None = None, **fields: Any) -> list[Any]:
            noted.update(fields, **(extra_body or {}))
            return []

    code = compile(program.replace("from openai import OpenAI", ""), "copied.py", "exec")
    exec(code, {"OpenAI": Client})
    return noted


def test_a_key_is_not_copied(page: Callable[..., Page]) -> None:
    opened = page(pair(), api_keys=("s3cret",))
    opened.wait(lambda: opened.one("#key").is_displayed())
    opened.one("#key-value").send_keys("s3cret\n")
    opened.ready()
    opened.set("seed", "1")
    (text,) = asked(opened, "Why?")
    (answer,) = opened.all(".answer")
    command, program = (copied(opened, answer, client) for client in ("curl", "Python"))
    assert "s3cret" not in command + program
    for key, status in (("s3cret", 200), ("wrong", 401)):
        environment = {**os.environ, "TAKETURNS_API_KEY": key}
        ran = pasted("sh", command, env=environment)
        assert (streamed(ran.stdout) == text) == (status == 200)
        assert ("invalid_api_key" in ran.stdout) == (status == 401)
    environment = {**os.environ, "TAKETURNS_API_KEY": "s3cret"}
    ran = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
    )
    assert ran.stdout == text + "\n"


def test_a_refused_request_can_be_copied_and_is_refused_again(page: Callable[..., Page]) -> None:
    opened = page(pair(), max_tokens=30).ready()
    opened.set("max_tokens", "31")
    opened.ask("Why?")
    (answer,) = opened.whole()
    command = copied(opened, answer, "curl")
    ran = pasted("sh", command)
    sentence = json.loads(ran.stdout)["error"]["message"]
    assert sentence == answer.find_element("css selector", ".problem").text
    assert all(" 400 " in one["message"] for one in opened.driver.get_log("browser"))


def test_without_a_clipboard_the_request_is_shown_to_be_copied(page: Callable[..., Page]) -> None:
    opened = page(pair()).ready()
    ask_nasty(opened)
    opened.run("navigator.clipboard.writeText = () => Promise.reject(new Error('not allowed'))")
    opened.one(".copying button").click()
    opened.wait(lambda: opened.one("#copy").is_displayed())
    shown = opened.one("#copy-text").get_attribute("value")
    assert shown.startswith("curl -N 'http://127.0.0.1:")
    assert opened.run("return getSelection().toString()") == shown
    opened.one("#close-copy").click()
    assert not opened.one("#copy").is_displayed()


def test_an_answer_of_a_trace_copies_the_request_of_its_time(page: Callable[..., Page]) -> None:
    opened = page(pair())
    answers, requests = conversation(opened)
    opened.one("#open-history").click()
    opened.one("#past button").click()
    opened.wait(lambda: answers[0] not in opened.all(".answer"))
    again = opened.all(".turn:last-child .answer")
    for answer, request in zip(again, requests, strict=True):
        body = copied(opened, answer, "curl").split("<<'JSON'\n")[1].removesuffix("\nJSON\n")
        assert json.loads(body) == request


def test_the_page_names_the_address_it_came_from(page: Callable[..., Page]) -> None:
    opened = page(pair()).ready()
    asked(opened, "Why?")
    address = re.search(r"'(http\S+)'", copied(opened, opened.one(".answer"), "curl"))
    assert address is not None
    assert httpx.URL(address[1]) == httpx.URL(f"{opened.driver.current_url}v1/chat/completions")
