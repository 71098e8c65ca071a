"""The vLLM servers that a team needs on this host, and the command of each.

A server is a URL of this host in the team file. It serves one base model, under the names of all
candidates that use it, and the LoRA adapters on it. GPUs are allocated in the order of the servers:
each server gets as many as its weights need (a power of two, tensor parallelism); with fewer GPUs
than servers, several servers share a GPU with equal parts of its memory.
"""

from __future__ import annotations

import shlex
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from taketurns.config.team_config import TeamConfig
from taketurns.engines.http.probe import names_of
from taketurns.engines.vllm.adapters import max_rank
from taketurns.errors import ConfigError
from taketurns.generation.team import SWITCHER
from taketurns.integrations.launch.hardware import Gpu
from taketurns.types import Candidate, ModelSpec

_USABLE = 0.9  # of a GPU's memory, vLLM's own default
_WEIGHTS = 0.6  # the part of usable memory for weights; the rest is for keys and values
_LOCAL = {"localhost", "127.0.0.1", "::1", "0.0.0.0"}
# On a CPU vLLM 0.32 gives even a server's only worker a process of its own, and the two spin while
# they wait for each other. "uni" is taken for "mp" there; the class that "uni" stands for is not.
ONE_PROCESS = (
    "--distributed-executor-backend",
    "vllm.v1.executor.uniproc_executor.UniProcExecutor",
)
_WORKERS = ("--distributed-executor-backend", "--tensor-parallel-size", "-tp",
            "--pipeline-parallel-size", "-pp")  # fmt: skip


@dataclass(frozen=True, slots=True)
class VllmServer:
    """One `vllm serve`: its command, and the environment variables that it needs."""

    name: str
    url: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)

    def at(self, host: str, port: int) -> VllmServer:
        """The same server, listening at `host` and `port`."""
        arguments = list(self.arguments)
        for option, value in (("--host", host), ("--port", str(port))):
            arguments[arguments.index(option) + 1] = value
        shown = f"[{host}]" if ":" in host else host
        return replace(self, url=f"http://{shown}:{port}", arguments=tuple(arguments))

    def __str__(self) -> str:
        """The command for a shell."""
        variables = [f"{name}={shlex.quote(value)}" for name, value in self.environment.items()]
        return " ".join([*variables, shlex.join(("vllm", *self.arguments))])


def plan_servers(
    team: TeamConfig,
    gpus: Sequence[Gpu],
    weight_bytes: Callable[[ModelSpec], int | None],
    extra_arguments: Sequence[str] = (),
) -> tuple[VllmServer, ...]:
    """The servers of this host. `weight_bytes` gives the size of a model's weights in bytes, None
    if unknown; `extra_arguments` go to all servers. Raises ConfigError for a team without servers
    here, for weights that do not fit, and for what vLLM cannot serve."""
    if team.engine.kind != "http":
        raise ConfigError(
            "taketurns launch needs a team whose engine.kind is http, and this team's is "
            f"{team.engine.kind}"
        )
    models = list(team.candidates)
    if team.switcher.spec is not None:
        models.append(Candidate(SWITCHER, team.switcher.spec, team.switcher.endpoint))
    if team.judge is not None and team.judge not in models:
        models.append(team.judge)
    here: dict[str, list[Candidate]] = {}
    for model in models:
        for url in model.endpoint.urls if model.endpoint is not None else ():
            if (urlsplit(url).hostname or "") in _LOCAL | {socket.gethostname()}:
                here.setdefault(url, []).append(model)
    if not here:
        urls = {url for model in models if model.endpoint for url in model.endpoint.urls}
        raise ConfigError(
            f"none of the team's urls is on this host, so there is nothing to launch: "
            f"{', '.join(sorted(urls))}; run this on their hosts, or write localhost"
        )
    weights = [weight_bytes(served[0].spec) for served in here.values()]
    shares = allocate_gpus(weights, gpus)
    return tuple(
        _server(url, served, share, extra_arguments)
        for (url, served), share in zip(here.items(), shares, strict=True)
    )


@dataclass(frozen=True, slots=True)
class GpuShare:
    """A server's GPUs by index (none: the CPU) and its part of their memory."""

    gpus: tuple[int, ...]
    memory: float


def allocate_gpus(weights: Sequence[int | None], gpus: Sequence[Gpu]) -> list[GpuShare]:
    """A share for each server, by the bytes of its weights (None: unknown, counts as 0). Raises
    ConfigError if they do not fit."""
    if not gpus:
        return [GpuShare((), _USABLE)] * len(weights)
    smallest = min(gpu.memory for gpu in gpus)
    if len(gpus) < len(weights):
        at_a_gpu = -(-len(weights) // len(gpus))
        part = round(_USABLE / at_a_gpu, 3)
        for weight in weights:
            if (weight or 0) > part * smallest:
                raise ConfigError(
                    f"{at_a_gpu} servers must share a GPU of {smallest >> 30} GiB, and one of them "
                    f"has {(weight or 0) >> 30} GiB of weights: put some on another host"
                )
        return [GpuShare((gpus[i // at_a_gpu].index,), part) for i in range(len(weights))]
    counts = []
    for weight in weights:
        count = 1
        while (weight or 0) > count * smallest * _USABLE * _WEIGHTS and count < len(gpus):
            count *= 2
        if (weight or 0) > count * smallest * _USABLE:
            raise ConfigError(
                f"a model has {(weight or 0) >> 30} GiB of weights, and {len(gpus)} GPUs of "
                f"{smallest >> 30} GiB cannot hold them: put it on another host"
            )
        counts.append(count)
    if sum(counts) > len(gpus):
        raise ConfigError(
            f"the servers need {sum(counts)} GPUs for their weights, and there are {len(gpus)}: "
            "put some on another host"
        )
    ends = [sum(counts[: i + 1]) for i in range(len(counts))]
    return [
        GpuShare(tuple(gpu.index for gpu in gpus[end - count : end]), _USABLE)
        for end, count in zip(ends, counts, strict=True)
    ]


def _server(
    url: str, served: Sequence[Candidate], share: GpuShare, extra: Sequence[str]
) -> VllmServer:
    bases = {(model.spec.model, model.spec.revision) for model in served}
    if len(bases) > 1:
        which = " and ".join(sorted(base for base, _ in bases))
        raise ConfigError(
            f"{url} would serve {which}; a vLLM server has one base model: give each its own url"
        )
    plain = [model for model in served if model.spec.adapter is None]
    adapters = [model for model in served if model.spec.adapter is not None]
    if plain and adapters and not share.gpus:
        raise ConfigError(
            f"{url} would serve {plain[0].name} and an adapter on it, {adapters[0].name}: on a CPU "
            "vLLM applies the adapter also to requests for the base in the same batch, so give the "
            "adapter a separate url"
        )
    spec = served[0].spec
    if spec.gguf_file is not None:
        raise ConfigError(
            f"{served[0].name} is a GGUF file, and only checkpoints are launched: start a server "
            "for it yourself, such as llama.cpp's, at the url of another host"
        )
    parts = urlsplit(url)
    names = list(dict.fromkeys(names_of(model)[0] for model in plain)) or [spec.model]
    arguments = ["serve", spec.model, "--served-model-name", *names]
    arguments += ["--host", parts.hostname or "127.0.0.1", "--port", str(parts.port or 80)]
    arguments += ["--enable-prompt-tokens-details"]
    if spec.revision is not None:
        arguments += ["--revision", spec.revision]
    if spec.tokenizer is not None:
        tokenizer, revision = spec.tokenizer_source
        arguments += ["--tokenizer", tokenizer, "--tokenizer-revision", revision or "main"]
    if spec.dtype != "auto":
        arguments += ["--dtype", spec.dtype]
    if spec.trust_remote_code:
        arguments += ["--trust-remote-code"]
    if adapters:
        modules = [f"{names_of(model)[0]}={model.spec.adapter}" for model in adapters]
        arguments += ["--enable-lora", "--max-lora-rank", str(max_rank(adapters))]
        arguments += ["--max-loras", str(len(adapters)), "--lora-modules", *modules]
    environment = {}
    if share.gpus:
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, share.gpus))
        arguments += ["--tensor-parallel-size", str(len(share.gpus))]
        arguments += ["--gpu-memory-utilization", str(share.memory)]
    else:
        # On a CPU a sampled request whose prompt is read in chunks stops the server (vLLM 0.32).
        arguments += ["--no-enable-chunked-prefill", "--block-size", "32"]
        if not any(_names(argument, _WORKERS) for argument in extra):
            arguments += ONE_PROCESS
        environment |= {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    return VllmServer(names[0], url, (*arguments, *extra), environment)


def _names(argument: str, options: Sequence[str]) -> bool:
    """Whether an argument is one of these options, as vLLM spells them: also with underscores, and
    with its value after a "="."""
    return argument.partition("=")[0].replace("_", "-") in options
