"""The manifests are what Docker Compose, Kubernetes and Ray Serve read, by their own schemas."""

from __future__ import annotations

import copy
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from taketurns.cli.app import app
from taketurns.integrations.launch.manifests import documents, manifest, write_manifests
from taketurns.integrations.launch.plan import VllmServer

KUBERNETES = ("1.29", "1.37")
TEAM = {
    "candidates": [
        {"name": "base", "model": "org/base", "urls": ["http://127.0.0.1:8001"]},
        {
            "name": "chat",
            "model": "org/chat",
            "urls": ["http://localhost:8002", "http://localhost:8003"],
        },
    ],
    "switcher": {
        "kind": "lm",
        "model": "org/chat",
        "adapter": "org/switcher",
        "urls": ["http://localhost:8004"],
    },
    "engine": {"kind": "http"},
}


def server(name: str, port: int, gpus: str | None) -> VllmServer:
    arguments = ("serve", f"org/{name}", "--host", "127.0.0.1", "--port", str(port))
    environment = {"CUDA_VISIBLE_DEVICES": gpus} if gpus else {"VLLM_CPU_KVCACHE_SPACE": "1"}
    return VllmServer(name, f"http://127.0.0.1:{port}", arguments, environment)


SERVERS = [server("base", 8001, "0,1"), server("chat", 8002, "2"), server("chat", 8003, "2")]


@pytest.fixture
def team(tmp_path: Path) -> Path:
    path = tmp_path / "team.yaml"
    path.write_text(yaml.safe_dump(TEAM), encoding="utf-8")
    return path


def launch(*arguments: str | Path, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["launch", *map(str, arguments)])
    assert done.exit_code == code, done.output
    return done.stdout


def compose_says(path: Path) -> subprocess.CompletedProcess[str]:
    """Checked with the schema of the Compose specification."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    return subprocess.run([*command, path], capture_output=True, text=True, check=False)


def test_docker_compose_can_read_it(team: Path, tmp_path: Path) -> None:
    path = tmp_path / "compose.yaml"
    for text in (launch("--team", team, "--manifest", "compose"), manifest("compose", SERVERS, "")):
        path.write_text(text, encoding="utf-8")
        assert (said := compose_says(path)).returncode == 0, said.stdout
    path.write_text(text.replace("depends_on", "depend_on"), encoding="utf-8")
    assert "depend_on" in compose_says(path).stdout


@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_can_read_it(team: Path, version: str) -> None:
    from kubernetes_validate import ValidationError, validate

    printed = list(yaml.safe_load_all(launch("--team", team, "--manifest", "kubernetes")))
    for document in [*printed, *documents("kubernetes", SERVERS, "")]:
        validate(document, version, strict=True)
    wrong = copy.deepcopy(printed[0])
    wrong["spec"]["template"]["spec"]["containers"][0]["arg"] = []
    with pytest.raises(ValidationError, match="arg"):
        validate(wrong, version, strict=True)


def test_the_parts_of_the_kubernetes_manifest_find_each_other() -> None:
    """What the schema does not say: names that are allowed, ports and volumes that are there."""
    made = documents("kubernetes", SERVERS, "")
    for deployment, service in zip(made[::2], made[1::2], strict=True):
        name = deployment["metadata"]["name"]
        assert re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", name)
        pod = deployment["spec"]["template"]
        assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
        (container,) = pod["spec"]["containers"]
        ports = [port["containerPort"] for port in container["ports"]]
        assert [port["targetPort"] for port in service["spec"]["ports"]] == ports
        assert container["readinessProbe"]["httpGet"]["port"] in ports
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["spec"]["volumes"]}
    assert len({one["metadata"]["name"] for one in made}) == len(made) / 2


def test_ray_serve_can_read_it(team: Path) -> None:
    schema = pytest.importorskip("ray.serve.schema")
    from taketurns.integrations.launch.ray_serve import RayServeArguments

    printed = yaml.safe_load(launch("--team", team, "--manifest", "ray-serve"))
    for one in (printed, documents("ray-serve", SERVERS, "team.yaml")[0]):
        read = schema.ServeDeploySchema.model_validate(one)
        assert read.model_dump(exclude_unset=True) == one  # nothing is left out as unknown
        (application,) = read.applications
        asked = RayServeArguments.model_validate(application.args)
        deployed = {deployment.name for deployment in application.deployments}
        assert deployed == {"taketurns", *(server.name for server in asked.servers)}
    printed["applications"][0]["deployments"][0]["num_replicas"] = -1
    with pytest.raises(ValueError, match="num_replicas"):
        schema.ServeDeploySchema.model_validate(printed)
    with pytest.raises(ValueError, match="timeouts"):
        RayServeArguments.model_validate({"team": "pocket", "timeouts": 3})


def test_ray_is_asked_for_the_gpus_of_the_plan() -> None:
    (application,) = documents("ray-serve", SERVERS, "team.yaml")[0]["applications"]
    ours, base, *chats = application["deployments"]
    assert "num_gpus" not in ours["ray_actor_options"]
    assert base["ray_actor_options"]["num_gpus"] == 2
    assert [chat["ray_actor_options"]["num_gpus"] for chat in chats] == [0.5, 0.5]
    assert [chat["name"] for chat in chats] == ["vllm-chat-8002", "vllm-chat-8003"]
    many = [server("small", 8001 + i, "0") for i in range(7)]
    (crowd,) = documents("ray-serve", many, "team.yaml")
    _, *small = crowd["applications"][0]["deployments"]
    assert 0.99 < sum(one["ray_actor_options"]["num_gpus"] for one in small) <= 1.0
    # Ray says which GPUs a server sees.
    assert all(not one["environment"] for one in application["args"]["servers"])


def test_a_team_of_folders_is_for_ray_but_not_for_containers(tmp_path: Path) -> None:
    there: Any = VllmServer("a", "http://localhost:1", ("serve", str(tmp_path)))
    (path,) = write_manifests([there], "team.yaml", tmp_path / "out", ["ray-serve"])
    (application,) = yaml.safe_load(path.read_text())["applications"]
    assert application["args"]["team"] == str(Path("team.yaml").absolute())
    assert application["args"]["servers"][0]["arguments"] == ["serve", str(tmp_path)]


def test_one_manifest_alone_is_written_where_it_is_asked_for(team: Path, tmp_path: Path) -> None:
    launch("--team", team, "--manifest", "ray-serve", "--write", tmp_path / "one")
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["ray-serve.yaml"]
    launch("--team", team, "--write", tmp_path / "all")
    names = {path.name for path in (tmp_path / "all").iterdir()}
    assert names == {"compose.yaml", "kubernetes.yaml", "ray-serve.yaml"}
