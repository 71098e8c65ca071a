"""Models from the hub: what is fetched, and what a person is told where it cannot be."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

Write = Callable[..., Path]
PART = 16384  # bytes of a file that are kept at a time; huggingface_hub's own number is 10 MB


@pytest.fixture(scope="module")
def folders(hub: Any, make_model: Callable[..., Path]) -> list[Path]:
    """Two models of unlike weights; `lab/tiny` was first the one and is now the other."""
    folders = [make_model(1), make_model(2)]
    hub.add("lab/tiny", *folders)
    hub.add("lab/gated", folders[1], gated=True)
    return folders


@pytest.fixture(scope="module", autouse=True)
def small_parts(taketurns: Any) -> None:
    set_size = f"from huggingface_hub import constants as c; c.DOWNLOAD_CHUNK_SIZE = {PART}"
    taketurns("-c", set_size)


@pytest.fixture
def answer(taketurns: Any, tmp_path: Path) -> Callable[..., tuple[str, Any]]:
    """The answer of a team, and how it was got."""

    def ask(team: Path, run: Any = taketurns, **environment: str) -> tuple[str, Any]:
        output = tmp_path / f"out{len(list(tmp_path.iterdir()))}.jsonl"
        command = ("generate", "-t", team, "-i", tmp_path / "prompts.jsonl", "-o", output)
        done = run(*command, "--seed", 3, **environment)
        assert done.code == 0, done.err
        return json.loads(output.read_text())["text"], done

    return ask


@pytest.fixture
def from_folder(
    folders: list[Path], write_team: Write, answer: Callable[..., tuple[str, Any]]
) -> Callable[[int], str]:
    """What a team of this folder's model answers."""
    return lambda number: answer(write_team(folders[0], model=str(folders[number])))[0]


def test_a_gated_model_says_which_page_to_open_and_how_to_log_in(
    taketurns: Any, hub: Any, folders: list[Path], write_team: Write, tmp_path: Path
) -> None:
    team = write_team(folders[0], model="lab/gated")
    for command in (
        ("check", "-t", team),
        ("generate", "-t", team, "-i", tmp_path / "prompts.jsonl", "-o", tmp_path / "out"),
    ):
        run = taketurns(*command)
        assert run.code == 2
        assert run.sentence == (
            f"taketurns: b: cannot load the model 'lab/gated': it is gated: accept its licence at "
            f"{hub.url}/lab/gated, then log in with `hf auth login` or set HF_TOKEN"
        )
        assert run.waited < 1
    assert not (tmp_path / "out").exists()
    said = taketurns("-c", _GENERATE.format(team=str(team))).out
    assert said.startswith("ConfigError b: cannot load the model 'lab/gated': it is gated: ")


_GENERATE = """
import asyncio
from taketurns import Team
try:
    with Team.load({team!r}) as team:
        team.generate("hi")
except Exception as error:
    print(type(error).__name__, error)
"""


def test_a_gated_model_opens_to_the_right_token(
    taketurns: Any,
    hub: Any,
    folders: list[Path],
    write_team: Write,
    answer: Callable[..., tuple[str, Any]],
    from_folder: Callable[[int], str],
) -> None:
    team = write_team(folders[0], model="lab/gated")
    run = taketurns("check", "-t", team, HF_TOKEN="hf_stranger")
    assert run.code == 2
    assert "b: cannot load the model 'lab/gated': it is gated, and the account" in run.sentence
    assert f"has no access: accept its licence at {hub.url}/lab/gated with that" in run.sentence
    run = taketurns("check", "-t", team, HF_TOKEN="hf_old")
    assert "refuses the token that was sent (Invalid credentials in Auth" in run.sentence
    assert "log in with `hf auth login` or set HF_TOKEN again" in run.sentence
    assert answer(team, HF_TOKEN="hf_good")[0] == from_folder(1)


@pytest.mark.parametrize("token", [{}, {"HF_TOKEN": "hf_good"}])
@pytest.mark.parametrize("key", ["model", "tokenizer"])
def test_a_repository_that_is_not_there_is_one_sentence(
    taketurns: Any,
    hub: Any,
    folders: list[Path],
    write_team: Write,
    tmp_path: Path,
    token: dict[str, str],
    key: str,
) -> None:
    keys = {"model": str(folders[0]), key: "checkpoints/sft"}
    team = write_team(folders[0], **keys)
    run = taketurns("check", "-t", team, **token)
    assert run.code == 2
    said = " ".join((run.out + run.err).split())
    what = {"model": "the model", "tokenizer": "the tokenizer of", "adapter": "the adapter"}[key]
    assert (
        f"b: cannot load {what} 'checkpoints/sft': there is no such folder, and no such model at "
        f"{hub.url}; check the name, or, if the model is private, log in with"
    ) in said
    assert run.waited < 1


def test_a_pinned_commit_is_what_is_taken(
    taketurns: Any,
    hub: Any,
    folders: list[Path],
    write_team: Write,
    answer: Callable[..., tuple[str, Any]],
    from_folder: Callable[[int], str],
) -> None:
    first, _ = hub.repositories["lab/tiny"].commits
    old, new = from_folder(0), from_folder(1)
    assert old != new
    assert answer(write_team(folders[0], model="lab/tiny", revision=first))[0] == old
    assert answer(write_team(folders[0], model="lab/tiny"))[0] == new
    sent = hub.sent.copy()
    assert answer(write_team(folders[0], model="lab/tiny", revision=first))[0] == old
    assert hub.sent == sent  # all of it is in the cache
    run = taketurns("check", "-t", write_team(folders[0], model="lab/tiny", revision="v9"))
    assert run.sentence == (
        "taketurns: b: cannot load the model 'lab/tiny': it has no revision 'v9'; "
        f"{hub.url}/lab/tiny/commits/main lists what it has"
    )


def test_a_tokenizer_elsewhere_has_a_revision_of_its_own(
    taketurns: Any,
    hub: Any,
    folders: list[Path],
    write_team: Write,
    answer: Callable[..., tuple[str, Any]],
    from_folder: Callable[[int], str],
) -> None:
    """Fault: it was asked for at the model's, which is unknown there."""
    hub.add("lab/words", folders[1])
    first, _ = hub.repositories["lab/tiny"].commits
    keys = {"model": "lab/tiny", "revision": first, "tokenizer": "lab/words"}
    assert answer(write_team(folders[0], **keys))[0] == from_folder(0)
    (own,) = hub.repositories["lab/words"].commits
    assert answer(write_team(folders[0], **keys, tokenizer_revision=own))[0] == from_folder(0)
    run = taketurns("check", "-t", write_team(folders[0], **keys, tokenizer_revision="v9"))
    assert "b: cannot load the tokenizer of 'lab/words': it has no revision 'v9'" in run.sentence


def test_an_adapter_that_is_not_there_is_said_by_check_and_by_loading(
    taketurns: Any, hub: Any, folders: list[Path], write_team: Write, tmp_path: Path
) -> None:
    team = write_team(folders[0], model=str(folders[0]), adapter="lab/none")
    checked = taketurns("check", "-t", team)
    assert checked.code == 1
    loaded = taketurns(
        "generate", "-t", team, "-i", tmp_path / "prompts.jsonl", "-o", team.parent / "o"
    )
    assert loaded.code == 2
    said = "b: cannot load the adapter 'lab/none': there is no such folder, and no such model at"
    for text in (checked.out, loaded.err):
        assert said in " ".join(text.split())
    assert checked.waited + loaded.waited < 1


def test_a_download_that_breaks_off_goes_on_where_it_was(
    hub: Any,
    folders: list[Path],
    write_team: Write,
    answer: Callable[..., tuple[str, Any]],
    from_folder: Callable[[int], str],
) -> None:
    hub.add("lab/breaks", folders[1])
    size = (folders[1] / "model.safetensors").stat().st_size
    hub.sent.clear()
    hub.break_after["model.safetensors"] = size // 2
    assert answer(write_team(folders[0], model="lab/breaks"))[0] == from_folder(1)
    assert size <= hub.sent["model.safetensors"] < size + PART


def test_a_download_that_fails_says_to_run_it_again_and_whole_files_are_kept(
    taketurns: Any,
    hub: Any,
    folders: list[Path],
    write_team: Write,
    tmp_path: Path,
    answer: Callable[..., tuple[str, Any]],
    from_folder: Callable[[int], str],
) -> None:
    hub.add("lab/fails", folders[1])
    hub.break_after["model.safetensors"] = 0
    hub.always_break = True
    hub.sent.clear()
    taketurns(
        "-c", "import huggingface_hub.file_download as f; nap = f.time.sleep; f.time.sleep = id"
    )
    team = write_team(folders[0], model="lab/fails")
    command = ("generate", "-t", team, "-i", tmp_path / "prompts.jsonl", "-o", tmp_path / "out")
    try:
        run = taketurns(*command)
    finally:
        taketurns("-c", "f.time.sleep = nap")
        hub.always_break = False
        hub.break_after.clear()
    assert run.code == 2
    assert "b: cannot load the model 'lab/fails': the connection to" in run.sentence
    assert "run the command again: files that were fetched whole are not" in run.sentence
    assert not (tmp_path / "out").exists()
    whole = hub.sent["tokenizer.json"]
    assert answer(team)[0] == from_folder(1)
    assert hub.sent["tokenizer.json"] == whole > 0


def test_a_slow_download_shows_how_far_it_is(
    hub: Any, folders: list[Path], write_team: Write, answer: Callable[..., tuple[str, Any]]
) -> None:
    hub.add("lab/slow", folders[1])
    hub.pause = 0.02
    try:
        team = write_team(folders[0], model="lab/slow")
        _, run = answer(team, TQDM_POSITION="-1")  # as if stderr were a terminal
    finally:
        hub.pause = 0.0
    assert run.out == ""
    weights = sha256((folders[1] / "model.safetensors").read_bytes()).hexdigest()[-40:]
    assert len(re.findall(rf"{weights}: +[1-9]\d%[^\r]*kB/s", run.err)) > 3


def test_a_hub_that_is_down_is_said_at_once_and_the_cache_serves(
    taketurns: Any,
    hub: Any,
    folders: list[Path],
    write_team: Write,
    answer: Callable[..., tuple[str, Any]],
    from_folder: Callable[[int], str],
) -> None:
    new = answer(write_team(folders[0], model="lab/tiny"))[0]
    hub.down = True
    try:
        run = taketurns("check", "-t", write_team(folders[0], model="checkpoints/sft"))
        again = answer(write_team(folders[0], model="lab/tiny"))[0]
        (_, commit) = hub.repositories["lab/tiny"].commits
        pinned = answer(write_team(folders[0], model="lab/tiny", revision=commit))[0]
    finally:
        hub.down = False
    assert "'checkpoints/sft': there is no such folder, the cache " in run.sentence
    assert f"and {hub.url} cannot be reached: " in run.sentence
    assert run.waited < 1
    assert again == pinned == new


@pytest.fixture
def offline(taketurns: Any) -> Iterator[None]:
    """As under HF_HUB_OFFLINE=1, which huggingface_hub reads into this constant at import."""
    taketurns("-c", "from huggingface_hub import constants as c; c.HF_HUB_OFFLINE = True")
    yield
    taketurns("-c", "c.HF_HUB_OFFLINE = False")


def test_without_a_network_the_cache_serves_and_what_is_missing_is_said(
    request: pytest.FixtureRequest,
    taketurns: Any,
    hub: Any,
    folders: list[Path],
    write_team: Write,
    tmp_path: Path,
    home: Path,
    answer: Callable[..., tuple[str, Any]],
    from_folder: Callable[[int], str],
) -> None:
    hub.add("lab/half", folders[1])
    team = write_team(folders[0], model="lab/half")
    assert taketurns("check", "-t", team).code == 0  # all but the weights
    whole = write_team(folders[0], model="lab/tiny")
    assert answer(whole)[0] == from_folder(1)
    asked = len(hub.asked)
    request.getfixturevalue("offline")
    assert answer(whole)[0] == from_folder(1)
    write_team(folders[0], model="lab/other", revision="v2")
    for command in (
        ("check", "-t", team),
        ("generate", "-t", team, "-i", tmp_path / "prompts.jsonl", "-o", tmp_path / "out"),
    ):
        run = taketurns(*command)
        assert run.sentence == (
            "taketurns: b: cannot load the model 'lab/other': there is no such folder, the cache "
            f"{home / 'hub'} has no files of it, and HF_HUB_OFFLINE is set; unset it, or run "
            "`hf download lab/other --revision v2` where there is a network"
        )
        assert run.waited < 1
    write_team(folders[0], model="lab/half")
    run = taketurns(*command)
    assert "b: cannot load the model 'lab/half': " in run.sentence
    assert "model.safetensors" in run.sentence
    assert "(HF_HUB_OFFLINE is set; unset it, or run `hf download lab/half` where" in run.sentence
    assert len(hub.asked) == asked
