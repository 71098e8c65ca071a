"""The same servers for Docker Compose, Kubernetes and Ray Serve: they place vLLM and us, no
more."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

import yaml

from taketurns.errors import DataError, UsageError
from taketurns.integrations.launch.plan import Server
from taketurns.utils.files import write_text

VLLM_IMAGE = "vllm/vllm-openai:v0.32.0"
OUR_IMAGE = "taketurns"  # built by the user, from `pip install taketurns[serve]`
_PORT = 8000
_GPUS = "CUDA_VISIBLE_DEVICES"

Kind = Literal["compose", "kubernetes", "ray-serve"]
KINDS: tuple[Kind, ...] = get_args(Kind)


def write_manifests(
    servers: Sequence[Server], team: str, folder: Path, kinds: Sequence[Kind] = KINDS
) -> list[Path]:
    """Write a YAML file of each kind into `folder`. Raises as `manifest` does, and DataError if it
    cannot be written or another file is in its place; then none is written."""
    texts = {folder / f"{kind}.yaml": manifest(kind, servers, team) for kind in kinds}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in texts.items():
            if path.exists() and path.read_bytes() != text.encode("utf-8"):
                raise DataError(
                    f"{path} is there already and says something else: remove it, or name another "
                    "folder"
                )
    except OSError as error:
        raise DataError(f"cannot write {folder}: {error.strerror}") from error
    for path, text in texts.items():
        write_text(path, text)
    return list(texts)


def manifest(kind: Kind, servers: Sequence[Server], team: str) -> str:
    """The manifest as YAML; `team` is the team file. Raises UsageError if a container would need a
    model that is a folder of this host."""
    if kind == "ray-serve":
        documents = [ray_serve(servers, team)]
    else:
        for server in servers:
            if Path(server.arguments[1]).exists():
                raise UsageError(
                    f"{server.arguments[1]} is a folder of this host, which a container cannot "
                    "see: name the model by its hub id"
                )
        documents = [compose(servers)] if kind == "compose" else kubernetes(servers)
    return yaml.safe_dump_all(documents, sort_keys=False)


def compose(servers: Sequence[Server]) -> dict[str, Any]:
    """A Compose file: a service a server, and ours, which waits for them."""
    services: dict[str, Any] = {}
    for server, name in zip(servers, _names(servers), strict=True):
        services[name] = {
            "image": VLLM_IMAGE,
            "command": list(_inside(server)),
            "ipc": "host",
            "volumes": ["huggingface:/root/.cache/huggingface"],
            "healthcheck": {
                "test": ["CMD", "curl", "-f", f"http://localhost:{_PORT}/health"],
                "interval": "10s",
                "start_period": "600s",
            },
        }
        if gpus := _gpus(server):
            devices = [{"driver": "nvidia", "device_ids": gpus, "capabilities": ["gpu"]}]
            services[name]["deploy"] = {"resources": {"reservations": {"devices": devices}}}
    services["taketurns"] = {
        "image": OUR_IMAGE,
        "entrypoint": ["taketurns"],
        "command": ["serve", "--team", "/team/team.yaml", "--host", "0.0.0.0"],
        "ports": [f"{_PORT}:{_PORT}"],
        "volumes": ["./team:/team:ro"],
        "depends_on": {name: {"condition": "service_healthy"} for name in list(services)},
    }
    return {"services": services, "volumes": {"huggingface": {}}}


def kubernetes(servers: Sequence[Server]) -> list[dict[str, Any]]:
    """Deployments and services: one of each for a server, and for us. Replicas of a model are
    scaled by giving its deployment more of them and the team file their URLs."""
    made: list[dict[str, Any]] = []
    for server, name in zip(servers, _names(servers), strict=True):
        container: dict[str, Any] = {
            "name": "vllm",
            "image": VLLM_IMAGE,
            "args": list(_inside(server)),
            "ports": [{"containerPort": _PORT}],
            "readinessProbe": _probe("/health"),
            "startupProbe": {**_probe("/health"), "failureThreshold": 120},
            "volumeMounts": [{"name": "shm", "mountPath": "/dev/shm"}],
        }
        if gpus := _gpus(server):
            container["resources"] = {"limits": {"nvidia.com/gpu": str(len(gpus))}}
        volumes = [{"name": "shm", "emptyDir": {"medium": "Memory"}}]
        made += [_deployment(name, container, volumes), _service(name)]
    ours: dict[str, Any] = {
        "name": "taketurns",
        "image": OUR_IMAGE,
        "command": ["taketurns"],
        "args": ["serve", "--team", "/team/team.yaml", "--host", "0.0.0.0"],
        "ports": [{"containerPort": _PORT}],
        "readinessProbe": _probe("/health/ready"),
        "volumeMounts": [{"name": "team", "mountPath": "/team", "readOnly": True}],
    }
    team = [{"name": "team", "configMap": {"name": "team"}}]
    return [*made, _deployment("taketurns", ours, team), _service("taketurns")]


def ray_serve(servers: Sequence[Server], team: str) -> dict[str, Any]:
    """A configuration of Ray Serve: an application with a deployment a server, and ours, which asks
    them where they are (`taketurns.integrations.launch.ray_serve`)."""
    names = _names(servers)
    placed = [
        {
            "name": name,
            "url": server.url,
            "arguments": list(server.arguments),
            "environment": {k: v for k, v in server.environment.items() if k != _GPUS},
        }
        for server, name in zip(servers, names, strict=True)
    ]
    deployments = [
        {
            "name": name,
            "num_replicas": 1,
            "ray_actor_options": {"num_cpus": 1, "num_gpus": _share(server, servers)},
        }
        for server, name in zip(servers, names, strict=True)
    ]
    ours = {"name": "taketurns", "num_replicas": 1, "ray_actor_options": {"num_cpus": 1}}
    return {
        "http_options": {"host": "0.0.0.0", "port": _PORT},
        "applications": [
            {
                "name": "taketurns",
                "route_prefix": "/",
                "import_path": "taketurns.integrations.launch.ray_serve:build",
                "args": {"team": str(Path(team).absolute()), "servers": placed},
                "deployments": [ours, *deployments],
            }
        ],
    }


def team_urls(servers: Sequence[Server]) -> dict[str, str]:
    """Where the team file must look for each server in a cluster, by where it is here."""
    return {
        server.url: f"http://{name}:{_PORT}"
        for server, name in zip(servers, _names(servers), strict=True)
    }


def _inside(server: Server) -> tuple[str, ...]:
    """The image's entry point is `vllm serve`; in a container a server has its own port."""
    return server.at("0.0.0.0", _PORT).arguments[1:]


def _names(servers: Sequence[Server]) -> list[str]:
    names = ["".join(c if c.isalnum() else "-" for c in s.name.lower()).strip("-") for s in servers]
    return [
        f"vllm-{name}-{urlsplit(server.url).port}" if names.count(name) > 1 else f"vllm-{name}"
        for server, name in zip(servers, names, strict=True)
    ]


def _gpus(server: Server) -> list[str]:
    return [gpu for gpu in server.environment.get(_GPUS, "").split(",") if gpu]


def _share(server: Server, servers: Sequence[Server]) -> float:
    """How many GPUs a server has; where several share one, a part of it."""
    mine = _gpus(server)
    sharing = sum(_gpus(other) == mine for other in servers)
    return 10_000 * len(mine) // sharing / 10_000  # Ray counts so, and all of them must fit


def _probe(path: str) -> dict[str, Any]:
    return {"httpGet": {"path": path, "port": _PORT}, "periodSeconds": 10}


def _deployment(
    name: str, container: dict[str, Any], volumes: list[dict[str, Any]]
) -> dict[str, Any]:
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [container], "volumes": volumes},
            },
        },
    }


def _service(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"selector": {"app": name}, "ports": [{"port": _PORT, "targetPort": _PORT}]},
    }
