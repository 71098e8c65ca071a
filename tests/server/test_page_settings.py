"""The page's policy panel: what a request has of it, and where a refusal of the server is shown."""

from __future__ import annotations

import json
from collections.abc import Callable

import jsonschema
import pytest

from taketurns import Team

from .browser import Page, needs_browser
from .conftest import pair
from .test_page_conversation import SPY, sent

pytestmark = needs_browser

# In the words that the bundled models know.
SCHEMA = {"type": "array", "items": {"enum": [1, 2, 3]}, "minItems": 2, "maxItems": 2}
SAMPLING = {
    "temperature": 0.5,
    "top_p": 0.8,
    "top_k": 20,
    "min_p": 0.01,
    "presence_penalty": -0.5,
    "frequency_penalty": 0.25,
    "repetition_penalty": 1.1,
    "seed": 7,
    "max_tokens": 30,
}


def refusals(opened: Page) -> list[str]:
    """What the browser complains of, without the refusals of the server."""
    messages = [one["message"] for one in opened.driver.get_log("browser")]
    return [message for message in messages if " 400 " not in message]


def test_every_field_is_sent_as_what_it_says_and_held_to(page: Callable[..., Page]) -> None:
    opened = page(Team.load("pocket")).ready()
    opened.run(SPY)
    for field, value in SAMPLING.items():
        opened.set(field, str(value))
    opened.set("stop_strings", " so\n\\n\nback\\\\slash")
    opened.set("schema", json.dumps(SCHEMA, indent=1))
    opened.set("patch_size", "4")
    opened.ask("where does dafil mibo live?")
    (answer,) = opened.whole()
    opened.idle()
    assert opened.all(".problem:not([hidden])") == []
    jsonschema.validate(json.loads(opened.text(answer)), SCHEMA)
    (request,) = sent(opened)
    assert request == {
        "model": "team",
        "messages": [{"role": "user", "content": "where does dafil mibo live?"}],
        **SAMPLING,
        "stop": [" so", "\n", "back\\slash"],
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": SCHEMA},
        },
        "taketurns": {"patch_size": 4},
        "stream": True,
    }
    opened.one("#policy summary").click()
    opened.one("#reset").click()
    opened.begin()
    opened.ask("what does rebol fonul work as?")
    opened.whole()
    opened.idle()
    message = {"role": "user", "content": "what does rebol fonul work as?"}
    assert sent(opened)[1] == {"model": "team", "messages": [message], "stream": True}


@pytest.mark.parametrize(
    ("field", "value", "names"),
    [
        ("max_tokens", "31", "max_tokens"),
        ("stop_strings", "\n".join("x" * count for count in range(1, 18)), "16"),
        ("order", "a, nobody", "nobody"),
        ("schema", '{"type": "strin"}', "strin"),
    ],
)
def test_a_refusal_of_the_server_stands_beside_its_field(
    page: Callable[..., Page], field: str, value: str, names: str
) -> None:
    opened = page(pair(), max_tokens=30).ready()
    if field == "order":
        opened.set("switcher", "order")
    opened.set(field, value)
    opened.ask("Why?")
    (answer,) = opened.whole()
    assert opened.one(f"#{field}").is_displayed()  # the panel was closed
    beside = opened.one(f"#{field}-wrong").text
    assert names in beside
    assert beside == answer.find_element("css selector", ".problem").text
    assert opened.one(f"#{field}").get_attribute("aria-invalid") == "true"
    assert refusals(opened) == []
    # It is gone with the next change.
    opened.set(field, "")
    assert opened.all(".wrong") == []


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ('{"type": ', "not valid: "),
        ("[1]", "must be a JSON object"),
        ('{"maximum": 9007199254740993}', "more than 15 digits"),
    ],
)
def test_a_schema_that_is_none_is_not_sent(
    page: Callable[..., Page], value: str, says: str
) -> None:
    opened = page(pair()).ready()
    opened.run(SPY)
    opened.set("schema", value)
    opened.ask("Why?")
    opened.wait(lambda: opened.all("#schema-wrong"))
    assert says in opened.one("#schema-wrong").text
    assert opened.one("#schema").is_displayed()
    assert sent(opened) == []
    opened.set("schema", "")
    opened.ask("Why?")
    assert opened.text(opened.whole()[0])


def test_every_field_has_a_label_and_shows_the_teams_setting(page: Callable[..., Page]) -> None:
    opened = page(pair()).ready()
    opened.run("document.getElementById('policy').open = true")
    fields = opened.all("#policy input, #policy select, #policy textarea")
    assert len(fields) >= 16
    for field in fields:
        name = field.get_attribute("id")
        assert opened.run("return arguments[0].labels.length", field) == 1, name
    shown = {one.get_attribute("id"): one.get_attribute("placeholder") for one in fields}
    assert shown["max_tokens"] == "20"
    assert shown["patch_size"] == "4"
    assert shown["top_k"] == "all"
    assert shown["repetition_penalty"] == "1"
