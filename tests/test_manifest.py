import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from taketurns.config.policy import Guard, Policy
from taketurns.config.team_config import SwitcherConfig, TeamConfig
from taketurns.errors import DataError
from taketurns.runs.description import describe_run, fingerprint
from taketurns.runs.manifest import PARTS, Manifest, path_for
from taketurns.switchers import candidate_order
from taketurns.types import Candidate, ModelSpec

DATA = b'{"id": "1", "text": "x"}\n'


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


@pytest.fixture
def team(model: Path) -> TeamConfig:
    local = Candidate("local", ModelSpec(str(model)))
    return TeamConfig((local, Candidate("hub", ModelSpec("org/model"))), source=Path("team.yaml"))


def identity(team: TeamConfig, data: bytes = DATA) -> str:
    return describe_run("generate", team, data).identity


def test_it_says_what_the_run_was_made_with(team: TeamConfig, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    manifest = describe_run("generate", team, DATA, limit=3).claim(output)
    manifest.finish(output)
    record = json.loads(path_for(output).read_text())
    assert record["schema"] == "taketurns.manifest/1"
    assert record["about"]["versions"].keys() >= {"python", "torch", "transformers", "taketurns"}
    assert record["about"]["limit"] == 3
    assert record["determined"]["policy"]["seed"] == 0
    assert record["started"] <= record["finished"]


def test_what_decides_the_records_decides_the_identity(team: TeamConfig, model: Path) -> None:
    same = identity(team)
    assert identity(replace(team, source=Path("elsewhere.yaml"))) == same
    assert identity(replace(team, policy=Policy(seed=1))) != same
    assert identity(replace(team, switcher=SwitcherConfig("fixed", sequence=(0,)))) != same
    assert identity(replace(team, candidates=team.candidates[::-1])) != same
    assert identity(team, DATA + DATA) != same
    guarded = replace(team, policy=Policy(guard=Guard(0, judge="(judge)")))
    judged = replace(guarded, judge=Candidate("(judge)", ModelSpec(str(model))))
    other = replace(guarded, judge=Candidate("(judge)", ModelSpec("org/judge")))
    assert len({same, *map(identity, (guarded, judged, other))}) == 4
    (model / "model.safetensors").write_bytes(b"WEIGHTS")
    assert identity(team) != same


def test_whose_the_switchers_numbers_are_counts_where_it_is_not_the_teams_order(
    team: TeamConfig, model: Path
) -> None:
    """An output from before it was written down is gone on with, if it was made in that order."""
    names = tuple(candidate.name for candidate in team.candidates)
    team = replace(team, switcher=SwitcherConfig("lm", ModelSpec(str(model))))
    same = identity(team)
    candidate_order.save(names, model)
    assert identity(team) == same
    candidate_order.save(names[::-1], model)
    assert identity(team) != same
    assert identity(replace(team, switcher=replace(team.switcher, candidates=names))) == same


def test_rules_that_are_not_used_leave_the_identity_as_it_was(team: TeamConfig) -> None:
    """An output from before there were guards and shares is gone on with."""
    policy = describe_run("generate", team, DATA).inputs["policy"]
    assert not {"guard", "max_share", "judge"} & policy.keys()
    assert policy.keys() >= {"seed", "opening", "stop"}


def test_a_model_is_known_by_its_contents_wherever_it_stands(model: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(model, moved)
    (moved / "README.md").write_text("a card changes nothing")
    assert fingerprint(ModelSpec(str(moved))) == fingerprint(ModelSpec(str(model)))
    assert fingerprint(ModelSpec("nobody/nothing")) is None


def test_a_large_file_is_known_by_its_ends(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taketurns.runs.description.WHOLE", 64)
    weights = model / "model.safetensors"

    def changed_at(place: int) -> str | None:
        data = bytearray(1000)
        data[place] = 1
        weights.write_bytes(data)
        return fingerprint(ModelSpec(str(model)))

    assert changed_at(0) != changed_at(999)


def claimed(output: Path, determined: dict) -> Manifest:
    manifest = Manifest("generate", determined, {}, started="then")
    return manifest.claim(output)


def test_an_output_of_another_run_is_refused(tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    claimed(output, {"policy": 1, "input": "a", "candidates": []})
    output.write_text("{}\n")
    claimed(output, {"policy": 1, "input": "a", "candidates": []})
    with pytest.raises(DataError, match="another run, whose policy and input differed"):
        claimed(output, {"policy": 2, "input": "b", "candidates": []})
    with pytest.raises(DataError, match="another run, whose command differed"):
        Manifest("rollout", {"policy": 1, "input": "a", "candidates": []}, {}, "now").claim(output)
    assert json.loads(path_for(output).read_text())["determined"]["policy"] == 1


def test_a_part_may_grow_and_not_change(tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"

    def claim(switchers: dict[str, str], policy: int = 1) -> dict[str, str]:
        determined = {"policy": policy, "switchers": switchers}
        manifest = Manifest("evaluate", determined, {}, started="then")
        found: dict[str, str] = manifest.claim(output, "switchers").inputs["switchers"]
        return found

    claim({"sums": "one"})
    output.write_text("{}\n")
    both = {"sums": "one", "names": "other"}
    assert claim({"names": "other"}) == claim({"sums": "one"}) == claim(both) == both
    with pytest.raises(DataError, match="another run, whose switchers differed"):
        claim({"sums": "changed"})
    with pytest.raises(DataError, match="another run, whose policy differed"):
        claim(both, policy=2)
    assert json.loads(path_for(output).read_text())["determined"]["switchers"] == both


def test_other_code_of_a_users_own_part_is_named(tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    first = {"name": "mine:score", "module": "mine", "version": "1.0", "digest": "a"}
    claimed(output, {"policy": 1})
    output.write_text("{}\n")
    both = claimed(output, {"policy": 1, PARTS: {"sums": [first]}})
    assert both.inputs[PARTS] == {"sums": [first]}  # an output from before is gone on with
    more = claimed(output, {"policy": 1, PARTS: {"names": [first]}})
    assert more.inputs[PARTS] == {"sums": [first], "names": [first]}
    assert claimed(output, {"policy": 1}).inputs == more.inputs
    with pytest.raises(DataError, match="another run, whose part mine:score differed"):
        claimed(output, {"policy": 1, PARTS: {"sums": [{**first, "version": "1.1"}]}})
    with pytest.raises(DataError, match="another run, whose policy differed"):
        claimed(output, {"policy": 2, PARTS: {"sums": [first]}})


def test_an_output_without_a_manifest_is_refused(tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    output.write_text("{}\n")
    with pytest.raises(DataError, match="has no manifest beside it"):
        claimed(output, {})
    assert not path_for(output).exists()


def test_an_empty_output_and_a_stale_manifest_are_taken_over(tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    claimed(output, {"policy": 1})
    output.touch()
    claimed(output, {"policy": 2})
    assert json.loads(path_for(output).read_text())["determined"] == {"policy": 2}


def test_a_run_that_goes_on_keeps_its_start(tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    claimed(output, {"policy": 1})
    output.write_text("{}\n")
    again = Manifest("generate", {"policy": 1}, {}, started="now").claim(output)
    assert again.started == "then"


@pytest.mark.parametrize("text", ["", "[]", "{"])
def test_a_broken_manifest_is_a_sentence(tmp_path: Path, text: str) -> None:
    output = tmp_path / "out.jsonl"
    output.write_text("{}\n")
    path_for(output).write_text(text)
    with pytest.raises(DataError, match="manifest"):
        claimed(output, {})


def test_an_output_in_no_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot write"):
        claimed(tmp_path / "no" / "out.jsonl", {})
    with pytest.raises(DataError, match="it is a folder"):
        claimed(tmp_path, {})


def test_a_head_is_known_by_its_contents(team: TeamConfig, tmp_path: Path) -> None:
    def with_head(folder: Path) -> str:
        return identity(replace(team, switcher=SwitcherConfig("head", path=str(folder))))

    head = tmp_path / "head"
    head.mkdir()
    (head / "head.json").write_text("{}")
    (head / "head.safetensors").write_bytes(b"numbers")
    same = with_head(head)
    (head / "README.md").write_text("a card")
    assert with_head(Path(shutil.copytree(head, tmp_path / "moved"))) == same
    (head / "head.safetensors").write_bytes(b"NUMBERS")
    assert with_head(head) != same
