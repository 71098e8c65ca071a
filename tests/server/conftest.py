"""Servers on real sockets, each in a thread of its own, as their users meet them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from openai import OpenAI
from selenium import webdriver

from taketurns import Candidate, ModelSpec, Policy, ScriptedEngine, Team
from taketurns.server.config import ServeConfig
from taketurns.server.model_registry import ModelRegistry
from taketurns.server.run import TeamServer, listen
from taketurns.server.serving import Serving
from taketurns.switchers.base import Switcher
from taketurns.switchers.simple import FixedSwitcher, RandomSwitcher

from .browser import Page, browser, show

QUESTION = "what does rebol fonul work as?"


@dataclass(frozen=True)
class Running:
    """A server that listens at `url`."""

    url: str
    serving: Serving
    server: TeamServer
    thread: threading.Thread

    def client(self, **options: Any) -> OpenAI:
        options = {"api_key": "none", "max_retries": 0, **options}
        return OpenAI(base_url=f"{self.url}/v1", **options)

    def http(self, **options: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=30, **options)


Start = Callable[..., Running]


@contextmanager
def running(team: Team, **settings: Any) -> Iterator[Running]:
    config = ServeConfig(port=0, **settings)
    serving = Serving(ModelRegistry(team, "team"), config)
    with listen(config) as listening:
        url = "http://{}:{}".format(*listening.getsockname())
        server = TeamServer(serving)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            with httpx.Client(timeout=60) as client:  # the first touch, on a busy machine
                while client.get(f"{url}/health/ready").status_code != 200:
                    assert server.failure is None, server.failure
                    time.sleep(0.01)
            yield Running(url, serving, server, thread)
        finally:
            server.should_exit = True
            thread.join(timeout=30)
            assert not thread.is_alive()


@pytest.fixture
def start() -> Iterator[Start]:
    """Serve a team until the test is over."""
    with ExitStack() as stack:
        yield lambda team, **settings: stack.enter_context(running(team, **settings))


@pytest.fixture(scope="session")
def pocket() -> Iterator[Running]:
    """The bundled team."""
    with running(Team.load("pocket")) as server:
        yield server


def scripted(
    scripts: dict[str, Any],
    switcher: Switcher | None = None,
    policy: Policy | None = None,
    **options: Any,
) -> Team:
    """A team whose candidates say what they are told to."""
    candidates = [Candidate(name, ModelSpec(name, prompt="{text}")) for name in scripts]
    return Team(
        candidates,
        ScriptedEngine(scripts, **options),
        switcher or FixedSwitcher(range(len(scripts))),
        policy or Policy(patch_size=4, max_tokens=20),
    )


def eventually(holds: Callable[[], bool], seconds: float = 15) -> None:
    """Wait until it is so."""
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, "it never came to be"
        time.sleep(0.005)


def forever(letter: str) -> Callable[..., str]:
    return lambda prompt, sampling: letter * sampling.max_tokens


def pair(**options: Any) -> Any:
    """`a` and `b` write five times four letters by turns."""
    scripts = {"a": forever("a"), "b": forever("b")}
    return scripted(scripts, RandomSwitcher(), Policy(patch_size=4, max_tokens=20), **options)


@pytest.fixture(scope="session")
def driver() -> Iterator[webdriver.Chrome]:
    chrome = browser()
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
