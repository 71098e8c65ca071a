"""Trace files: the page saves a conversation, and opens one that is one."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .browser import Page, needs_browser
from .conftest import pair
from .test_page_conversation import SPY, asked, questions, sent, turns

pytestmark = needs_browser

PATCH = {
    "text": "so",
    "tokens": 1,
    "speaker": 0,
    "name": "a",
    "reason": "chosen",
    "probabilities": [0.25, 0.75],
    "timing": {"decide": 0.001, "write": 0.01},
}
ANSWER = {
    "model": "team",
    "team": {"name": "team", "candidates": ["a", "b"]},
    "about": {"seed": 3, "finish": "stop"},
    "problem": None,
    "patches": [PATCH],
    "settings": {"temperature": 0.5},
    "first": 5,
    "took": 12,
}
TRACE = {
    "format": "taketurns trace",
    "version": 1,
    "saved": "2026-01-02T03:04:05.678Z",
    "turns": [{"prompt": "Why?", "answers": [ANSWER]}],
}
EVIL = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"

DROP = """
const files = new DataTransfer();
files.items.add(new File([arguments[0]], arguments[1]));
const drag = (type, more) => document.body.dispatchEvent(
  new DragEvent(type, { dataTransfer: files, bubbles: true, cancelable: true }));
drag('dragover');
const shown = !document.getElementById('drop').hidden;
drag('drop');
return shown && document.getElementById('drop').hidden;
"""


def changed(value: Any, *place: str | int, to: Any) -> dict[str, Any]:
    """TRACE with another value at a place; `...` as the value removes the key."""
    trace: Any = copy.deepcopy(value)
    inside = trace
    for key in place[:-1]:
        inside = inside[key]
    if to is ...:
        del inside[place[-1]]
    else:
        inside[place[-1]] = to
    return trace


def open_file(opened: Page, path: Path) -> None:
    opened.one("#trace-file").send_keys(str(path))


def save(opened: Page, folder: Path) -> Path:
    """The file that the button saves."""
    opened.driver.execute_cdp_cmd(
        "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(folder)}
    )
    opened.one("#save-trace").click()
    opened.wait(lambda: list(folder.glob("*.json")))
    (path,) = folder.glob("*.json")
    return path


def test_a_saved_conversation_is_shown_as_it_was_and_goes_on(
    page: Callable[..., Page], tmp_path: Path
) -> None:
    opened = page(pair(), api_keys=("s3cret-key",))
    opened.wait(lambda: opened.one("#key").is_displayed())
    opened.one("#key-value").send_keys("s3cret-key\n")
    opened.ready()
    assert not opened.one("#save-trace").is_enabled()
    opened.set("temperature", "0.5")
    (first,) = asked(opened, "One?")
    opened.set("beside", "b")
    second, _ = asked(opened, "Two?", 2)
    shown = [answer.text for answer in opened.all(".answer")]
    path = save(opened, tmp_path)
    content = json.loads(path.read_text())
    assert path.name.startswith("taketurns-trace-20")
    assert (content["format"], content["version"]) == ("taketurns trace", 1)
    assert "s3cret" not in path.read_text()

    opened = page(pair()).ready()  # another server, and nothing kept in the browser
    open_file(opened, path)
    opened.wait(lambda: questions(opened) == ["One?", "Two?"])
    assert [answer.text for answer in opened.all(".answer")] == shown
    opened.point_at(opened.one(".patch"))
    assert "selected by the switcher" in opened.one("#tip").text
    (tmp_path / "again").mkdir()
    again = json.loads(save(opened, tmp_path / "again").read_text())
    assert again["turns"] == content["turns"]
    opened.run(SPY)
    asked(opened, "Three?")
    (request,) = sent(opened)
    assert request["messages"] == turns(("One?", first), ("Two?", second), then="Three?")


def test_a_trace_is_opened_by_dropping_it_and_never_run(page: Callable[..., Page]) -> None:
    trace = json.dumps(TRACE).replace('"so"', json.dumps(EVIL)).replace('"Why?"', json.dumps(EVIL))
    trace = trace.replace('"a"', json.dumps(EVIL)).replace('"team"', '"team"')
    opened = page(pair()).ready()
    assert opened.run(DROP, trace, "trace.json")
    opened.wait(lambda: questions(opened) == [EVIL])
    (answer,) = opened.all(".answer")
    assert opened.text(answer) == EVIL
    opened.point_at(opened.one(".patch"))
    assert EVIL in opened.one("#tip").text
    assert opened.all("#conversation img, #conversation script, #tip img, #tip script") == []
    assert opened.driver.title == "taketurns"
    assert not opened.one("#trace-problem").is_displayed()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("PK\x03\x04", "it is not JSON"),
        ("[]", 'it has no "format": "taketurns trace"'),
        ({"log": {"version": "1.2"}}, 'it has no "format": "taketurns trace"'),
        (changed(TRACE, "version", to=2), "its version is 2, and this page reads version 1"),
        (changed(TRACE, "version", to=...), "its version is undefined"),
        (changed(TRACE, "turns", to={}), "turns must be a list"),
        (changed(TRACE, "turns", to=[]), "turns must not be empty"),
        (changed(TRACE, "turns", 0, to=None), "turns[0] must be an object"),
        (changed(TRACE, "turns", 0, "prompt", to=7), "turns[0].prompt must be a text"),
        (changed(TRACE, "turns", 0, "answers", to=[]), "turns[0].answers must not be empty"),
        *(
            (changed(TRACE, "turns", 0, "answers", 0, *place, to=to), f"answers[0].{why}")
            for *place, to, why in (
                ("model", ..., "model must be a text"),
                ("team", "candidates", [], "team.candidates must not be empty"),
                ("took", -1, "took must be a number, 0 or more"),
                ("about", "seed", 0.5, "about.seed must be a whole number"),
                ("settings", [], "settings must be an object"),
                ("settings", "messages", [], "settings must be an object without model and mess"),
                ("patches", 0, "speaker", 2, "patches[0].speaker must be less than the number"),
                ("patches", 0, "speaker", "s0 x", "patches[0].speaker must be a whole number"),
                ("patches", 0, "tokens", 1e400, "patches[0].tokens must be a whole number"),
                ("patches", 0, "probabilities", [1], "patches[0].probabilities must be 2"),
                ("patches", 0, "probabilities", [1, 2], "probabilities[1] must be a number"),
                ("patches", 0, "timing", None, "patches[0].timing must be an object"),
            )
        ),
    ],
)
def test_what_is_no_trace_is_refused_in_a_sentence(
    page: Callable[..., Page], content: Any, why: str
) -> None:
    opened = page(pair()).ready()
    (text,) = asked(opened, "One?")
    written = content if isinstance(content, str) else json.dumps(content)
    opened.run(DROP, written.replace("Infinity", "1e400"), "<b>x.json")
    opened.wait(opened.one("#trace-problem").is_displayed)
    sentence = opened.one("#trace-problem").text
    assert sentence.startswith("<b>x.json is no trace of taketurns: ")
    assert why.split("answers[0]")[-1] in sentence
    assert sentence.endswith(".")
    assert opened.one("#trace-problem").get_attribute("role") == "alert"
    # The conversation on the page is left as it is.
    assert questions(opened) == ["One?"]
    assert opened.text(opened.one(".answer")) == text


def test_a_whole_trace_is_not_refused(page: Callable[..., Page], tmp_path: Path) -> None:
    """So that each of the others is refused for what was changed in it."""
    opened = page(pair()).ready()
    opened.run(DROP, "{", "x.json")
    opened.wait(opened.one("#trace-problem").is_displayed)
    (tmp_path / "trace.json").write_text(json.dumps(TRACE))
    open_file(opened, tmp_path / "trace.json")
    opened.wait(lambda: questions(opened) == ["Why?"])
    assert not opened.one("#trace-problem").is_displayed()
    assert "seed 3" in opened.one(".answer").text


def test_a_file_that_is_too_large_is_not_read(page: Callable[..., Page], tmp_path: Path) -> None:
    with (tmp_path / "large.json").open("wb") as file:
        file.truncate(32 * 1024 * 1024 + 1)
    opened = page(pair()).ready()
    open_file(opened, tmp_path / "large.json")
    opened.wait(opened.one("#trace-problem").is_displayed)
    assert "more than 32 MiB" in opened.one("#trace-problem").text
