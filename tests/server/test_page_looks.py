"""How the page looks where names are long, speakers many, and screens narrow or wide."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from taketurns import Team
from taketurns.policy import Policy
from taketurns.switchers import FixedSwitcher

from .browser import Page, needs_browser, show
from .conftest import scripted

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
