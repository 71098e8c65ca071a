"""The page escapes all that it is given, and holds traces that cannot end their element."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from importlib.resources import files
from typing import Any

from taketurns.evaluation.report.blocks import Chart, Heading, Paragraph, Table
from taketurns.evaluation.report.page import page
from taketurns.evaluation.report.theme import SPEAKERS

EVIL = "</script></style><script>alert(1)</script><img src=x onerror=alert(1)>&amp;\"'{{ 7 * 7 }}"


class Parsed(HTMLParser):
    """The tags, attributes and texts of a page, and the text of its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[str] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [value or "" for _, value in attrs]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def context(text: str) -> dict[str, Any]:
    """What the browser of traces shows, with this text wherever there is any."""
    choices = [(text, text)]
    return {
        "scope": text,
        "pool": [text] * 9,
        "speaker_styles": SPEAKERS,
        "tasks": choices,
        "results": choices,
        "speakers": choices,
        "record": {"traces": [{"asked": text, "patches": [[0, text, 1, None]]}]},
    }


def tags(text: str) -> list[str]:
    blocks = [
        Heading(text, 1),
        Paragraph(text, text),
        Table([text], [[text]]),
        Chart("drawing", "grid", text, ()),
    ]
    figures = {"drawing": "<svg><g/></svg>"}
    return Parsed(page(blocks, figures, "analysis.html", **context(text))).tags


def test_no_text_becomes_markup() -> None:
    assert tags(EVIL) == tags("plain")
    shown = Parsed(page([Heading(EVIL, 1), Table([EVIL], [[EVIL]])], {}))
    assert shown.texts.count(EVIL) == 4  # title, heading, head and cell
    labelled = Parsed(page([Heading("", 1), Chart("d", "grid", EVIL, ())], {"d": "<svg></svg>"}))
    assert EVIL in labelled.attributes


def test_traces_are_data_that_cannot_end_their_element() -> None:
    wanted = context(f"{EVIL}\u2028é")
    parsed = Parsed(page([Heading("", 1)], {}, "analysis.html", **wanted))
    held = next(text for text in parsed.texts if text.startswith('{"traces"'))
    assert not set("<>&'\u2028") & set(held)
    assert json.loads(held) == wanted["record"]


def test_templates_are_files_of_the_package() -> None:
    templates = files("taketurns.evaluation.report") / "templates"
    assert {file.name for file in templates.iterdir()} >= {
        "page.html", "page.css", "analysis.html", "trace_browser.html", "trace_browser.css",
        "trace_browser.js",
    }  # fmt: skip
