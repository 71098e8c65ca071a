"""A YAML file costs no more than it may, whatever it stands for, and what is too much is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from taketurns.config import yaml_source
from taketurns.config.loading import load_settings, load_team_config
from taketurns.config.policy import MOST_TOKENS, PatchRule, Policy
from taketurns.config.resolve import MOST_CANDIDATES
from taketurns.config.settings import parse_setting
from taketurns.errors import ConfigError
from taketurns.server.config import ServeConfig
from taketurns.tasks.custom import load_task_file

PAIR = "candidates:\n  - {name: a, model: x/y}\n  - {name: b, model: x/z}\n"
MULTIPLIES = "a: &a [1, 2, 3, 4]\nb: &b [*a, *a, *a, *a]\nc: [*b, *b, *b, *b]\n"  # 64 numbers
MERGES = "a: &a {k: 1, l: 2}\nb: &b {<<: [*a, *a, *a, *a]}\nc: {<<: [*b, *b, *b, *b]}\n"

READERS: list[Callable[[Path], object]] = [
    load_team_config,
    lambda path: load_settings(path, ServeConfig, "serve file"),
    load_task_file,
]


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("text", [MULTIPLIES, MERGES])
def test_what_aliases_multiply_to_is_counted_before_it_is_made(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    read: Callable[[Path], object],
    text: str,
) -> None:
    monkeypatch.setattr(yaml_source, "MOST_VALUES", 40)
    made = lambda *_: pytest.fail("it was made")  # noqa: E731
    monkeypatch.setattr(yaml.SafeLoader, "construct_document", made)
    (file := tmp_path / "team.yaml").write_text(text)
    with pytest.raises(ConfigError, match="has more than 40 values"):
        read(file)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a: &a [*a]\n", "line 1: an alias must not be inside its own anchor"),
        (
            "a: &a [1]\nb: &b [*a]\nc: &c [*b]\nd: &d [*c]\ne: [*d]\n",
            "nested more than 4 levels deep",
        ),
        ("#" * 3000, "longer than the limit of 2,000 bytes"),
        ("#" * 1999 + "é", "longer than the limit of 2,000 bytes"),
    ],
)
def test_depth_and_size_are_bounded_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, why: str
) -> None:
    monkeypatch.setattr(yaml_source, "MOST_DEPTH", 4)
    monkeypatch.setattr(yaml_source, "MOST_BYTES", 2000)
    (file := tmp_path / "team.yaml").write_text(text)
    for read in READERS:
        with pytest.raises(ConfigError, match=why):
            read(file)


def test_anchors_and_merges_still_mean_what_yaml_says(tmp_path: Path) -> None:
    (file := tmp_path / "team.yaml").write_text(
        "candidates:\n  - &first {name: a, model: x/y, dtype: float32}\n  - {<<: *first, name: b}\n"
    )
    first, second = load_team_config(file).candidates
    assert (second.name, second.spec) == ("b", first.spec)


@pytest.mark.parametrize("value", ["[[[", "[" * 5000, "&a [*a]", "x" * 3000])
def test_a_setting_of_the_command_line_is_no_way_round(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setattr(yaml_source, "MOST_BYTES", 2000)
    with pytest.raises(ConfigError, match="cannot read the value in") as caught:
        parse_setting(f"policy.stop={value}")
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ("engine: {memory: '" + "9" * 400 + "'}", r"team.yaml:4: memory is at most 1024 TiB"),
        ("engine: {threads: 1000000000}", "threads must be at least 1 and at most 4096"),
        ("engine: {max_batch: 1000000000}", "max_batch must be at least 1 and at most 65536"),
        ("policy: {patch_size: 1000000000000}", "team.yaml:4: patch_size must be at most"),
        ("policy: {max_tokens: 1000000000000}", "team.yaml:4: max_tokens must be at most"),
        ("policy: {seed: 0x" + "f" * 4000 + "}", "a team file cannot hold this value"),
    ],
)
def test_absurd_sizes_are_refused_in_a_sentence(tmp_path: Path, more: str, why: str) -> None:
    (file := tmp_path / "team.yaml").write_text(f"{PAIR}{more}\n")
    with pytest.raises(ConfigError, match=why) as caught:
        load_team_config(file)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("max_running: 1000000000", "max_running must be at least 1 and at most 65536"),
        ("max_choices: 1000000000", "max_choices must be at least 1 and at most 1024"),
        ("max_body: 1000000000000", "max_body must be at least 1 and at most 1073741824"),
        ("timeout: .inf", "timeout must be more than 0 seconds and at most 10000000"),
        ("drain: .nan", "drain must be from 0 to 10000000 seconds"),
        ("port: 0x" + "f" * 4000, "a serve file cannot hold this value"),
    ],
)
def test_so_are_those_of_a_serve_file(tmp_path: Path, text: str, why: str) -> None:
    (file := tmp_path / "serve.yaml").write_text(text)
    with pytest.raises(ConfigError, match=why):
        load_settings(file, ServeConfig, "serve file")


def test_a_team_of_thousands_is_refused_by_its_number(tmp_path: Path) -> None:
    entries = [f"  - {{name: c{i}, model: x/y}}" for i in range(MOST_CANDIDATES + 1)]
    (file := tmp_path / "team.yaml").write_text("\n".join(["candidates:", *entries[:-1]]))
    assert len(load_team_config(file).candidates) == MOST_CANDIDATES
    file.write_text("\n".join(["candidates:", *entries]))
    with pytest.raises(ConfigError, match="a team has at most 64 candidates, not 65"):
        load_team_config(file)


def test_a_policy_made_in_python_has_the_same_limits() -> None:
    Policy(patch_size=MOST_TOKENS, max_tokens=MOST_TOKENS)
    with pytest.raises(ConfigError, match=r"patch\.max must be at most"):
        PatchRule("sentence", max=MOST_TOKENS + 1)
