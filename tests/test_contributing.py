"""What CONTRIBUTING.md names is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
ADDING = PAGE[PAGE.index("## Adding a part") : PAGE.index("## Tests")]


def test_every_file_is_there() -> None:
    named = set(re.findall(r"`([\w./-]+/[\w.-]+\.(?:py|md)|\w+\.(?:toml|txt))`", PAGE))
    assert len(named) > 40
    missing = {
        name
        for name in named
        if not any((ROOT / top / name).exists() for top in ("", "src/taketurns"))
    }
    assert not missing


def test_every_name_is_in_one_of_the_files_of_its_section() -> None:
    sections = ADDING.split("\n### ")[1:]
    assert len(sections) == 7
    for section in sections:
        files = re.findall(r"`([\w/]+\.py)`", section)
        text = "".join(
            path.read_text(encoding="utf-8")
            for name in files
            for path in (ROOT / "src" / "taketurns" / name, ROOT / name)
            if path.exists()
        )
        for name in re.findall(r"`(_?[A-Z_]\w+|_\w+)`", section):
            assert re.search(rf"\b{name}\b", text), f"{name}: {section.splitlines()[0]}"


def test_every_target_and_link_is_there() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"(?:`|^)make ([a-z-]+)", PAGE, re.MULTILINE))
    assert len(targets) > 15
    for target in targets:
        assert f"\n{target}:" in makefile, target
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", PAGE):
        assert (ROOT / link).exists(), link
