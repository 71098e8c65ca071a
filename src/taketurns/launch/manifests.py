"""The same servers for Docker Compose and Kubernetes: they place vLLM and us, no more."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from taketurns.errors import DataError, UsageError
from taketurns.launch.plan import Server

VLLM_IMAGE = "vllm/vllm-openai:v0.32.0"
OUR_IMAGE = "taketurns"  # built by the user, from `pip install taketurns[serve]`
_PORT = 8000


def write_manifests(servers: Sequence[Server], folder: Path) -> list[Path]:
    """Write `compose.yaml` and `kubernetes.yaml` into `folder`. Raises UsageError if a model is a
    folder of this host, DataError if they cannot be written."""
    for server in servers:
        if Path(server.arguments[1]).exists():
            raise UsageError(
                f"{server.arguments[1]} is a folder of this host, which a container cannot see: "
                "name the model by its hub id"
            )
    made = {"compose.yaml": [compose(servers)], "kubernetes.yaml": kubernetes(servers)}
    written = []
    for name, documents in made.items():
        path = folder / name
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path.write_text(yaml.safe_dump_all(documents, sort_keys=False), encoding="utf-8")
        except OSError as error:
            raise DataError(f"cannot write {path}: {error.strerror}") from error
        written.append(path)
    return written


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
        "command": ["taketurns", "serve", "--team", "/team/team.yaml", "--host", "0.0.0.0"],
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
        "args": ["serve", "--team", "/team/team.yaml", "--host", "0.0.0.0"],
        "ports": [{"containerPort": _PORT}],
        "readinessProbe": _probe("/health/ready"),
        "volumeMounts": [{"name": "team", "mountPath": "/team", "readOnly": True}],
    }
    team = [{"name": "team", "configMap": {"name": "team"}}]
    return [*made, _deployment("taketurns", ours, team), _service("taketurns")]


def team_urls(servers: Sequence[Server]) -> dict[str, str]:
    """Where the team file must look for each server in a cluster, by where it is here."""
    return {
        server.url: f"http://{name}:{_PORT}"
        for server, name in zip(servers, _names(servers), strict=True)
    }


def _inside(server: Server) -> tuple[str, ...]:
    """The image's entry point is `vllm serve`; in a container a server has its own port."""
    arguments = list(server.arguments[1:])
    arguments[arguments.index("--host") + 1] = "0.0.0.0"
    arguments[arguments.index("--port") + 1] = str(_PORT)
    return tuple(arguments)


def _names(servers: Sequence[Server]) -> list[str]:
    names = ["".join(c if c.isalnum() else "-" for c in s.name.lower()).strip("-") for s in servers]
    return [
        f"vllm-{name}-{urlsplit(server.url).port}" if names.count(name) > 1 else f"vllm-{name}"
        for server, name in zip(servers, names, strict=True)
    ]


def _gpus(server: Server) -> list[str]:
    return [gpu for gpu in server.environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if gpu]


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
