"""Manifests that run the same servers on Docker Compose, Kubernetes and Ray Serve.

`templates/` has a file for each. They contain vLLM and taketurns only.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

import yaml

from taketurns.errors import DataError, UsageError
from taketurns.integrations.launch.plan import VllmServer
from taketurns.utils.files import write_text

VLLM_IMAGE = "vllm/vllm-openai:v0.32.0"
OUR_IMAGE = "taketurns"  # built by the user, from `pip install taketurns[serve]`
_PORT = 8000
_GPUS = "CUDA_VISIBLE_DEVICES"

ManifestKind = Literal["compose", "kubernetes", "ray-serve"]
KINDS: tuple[ManifestKind, ...] = get_args(ManifestKind)


def write_manifests(
    servers: Sequence[VllmServer],
    team: str,
    folder: Path,
    kinds: Sequence[ManifestKind] = KINDS,
) -> list[Path]:
    """Write a YAML file of each kind into `folder`. Raises as `manifest`, and DataError if a file
    cannot be written or exists with other content; then none is written."""
    texts = {folder / f"{kind}.yaml": manifest(kind, servers, team) for kind in kinds}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in texts.items():
            if path.exists() and path.read_bytes() != text.encode("utf-8"):
                raise DataError(
                    f"{path} exists already with other content: remove it, or name another folder"
                )
    except OSError as error:
        raise DataError(f"cannot write {folder}: {error.strerror}") from error
    for path, text in texts.items():
        write_text(path, text)
    return list(texts)


def manifest(kind: ManifestKind, servers: Sequence[VllmServer], team: str) -> str:
    """The manifest as YAML; `team` is the team file. Raises UsageError for a model that is a folder
    of this host and would be needed in a container."""
    return yaml.safe_dump_all(documents(kind, servers, team), sort_keys=False)


def documents(kind: ManifestKind, servers: Sequence[VllmServer], team: str) -> list[dict[str, Any]]:
    """The YAML documents of a manifest. Raises as `manifest`."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    for server in servers:
        if kind != "ray-serve" and Path(server.arguments[1]).exists():
            raise UsageError(
                f"{server.arguments[1]} is a folder of this host, which a container cannot "
                "see: name the model by its hub id"
            )
    loader = PackageLoader("taketurns.integrations.launch")
    environment = Environment(loader=loader, undefined=StrictUndefined, autoescape=False)
    environment.filters["yaml"] = _inline
    text = environment.get_template(f"{kind}.yaml.j2").render(
        servers=[
            {
                "name": name,
                "url": server.url,
                "arguments": list(server.arguments),
                "at": server.at,
                "environment": {k: v for k, v in server.environment.items() if k != _GPUS},
                "gpus": _gpus(server),
                "gpu_share": _gpu_share(server, servers),
            }
            for server, name in zip(servers, _names(servers), strict=True)
        ],
        team=str(Path(team).absolute()),
        port=_PORT,
        vllm_image=VLLM_IMAGE,
        image=OUR_IMAGE,
    )
    return list(yaml.safe_load_all(text))


def team_urls(servers: Sequence[VllmServer]) -> dict[str, str]:
    """The URLs of the servers in a cluster, for the team file there, by their URLs here."""
    return {
        server.url: f"http://{name}:{_PORT}"
        for server, name in zip(servers, _names(servers), strict=True)
    }


def _inline(value: Any) -> str:
    """A value as YAML on one line."""
    text: str = yaml.safe_dump(value, default_flow_style=True, width=1 << 30)
    return text.removesuffix("...\n").rstrip("\n")


def _names(servers: Sequence[VllmServer]) -> list[str]:
    names = ["".join(c if c.isalnum() else "-" for c in s.name.lower()).strip("-") for s in servers]
    return [
        f"vllm-{name}-{urlsplit(server.url).port}" if names.count(name) > 1 else f"vllm-{name}"
        for server, name in zip(servers, names, strict=True)
    ]


def _gpus(server: VllmServer) -> list[str]:
    return [gpu for gpu in server.environment.get(_GPUS, "").split(",") if gpu]


def _gpu_share(server: VllmServer, servers: Sequence[VllmServer]) -> float:
    """The number of GPUs of a server; a fraction if several servers share a GPU."""
    gpus = _gpus(server)
    sharing = sum(_gpus(other) == gpus for other in servers)
    return 10_000 * len(gpus) // sharing / 10_000  # Ray counts in 1/10,000; the sum must fit
