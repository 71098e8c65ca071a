"""Real vLLM servers with the bundled checkpoints, started by `taketurns launch --run`.

`make test-vllm` sets TAKETURNS_VLLM to vLLM's program. TAKETURNS_VLLM_CANDIDATES names the
candidates to serve (each takes 2.4 GB of memory) and TAKETURNS_VLLM_REPLICAS how many servers the
last one has; one more serves the switcher.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import httpx
import pytest
import yaml

from taketurns.config.loading import load_team_config
from taketurns.engines.local.library_logging import asked_by_an_old_name

READY = 1800  # seconds that all servers may take to start
# Compiling takes longer than all tests; 2048 blocks of 32 tokens are more than they need.
FLAGS = ("--max-model-len", "2048", "--dtype", "float32", "--num-gpu-blocks-override", "2048",
         "--enforce-eager")  # fmt: skip


@dataclass(frozen=True)
class Served:
    """A team file on servers, the same team in this process, and the servers. The switcher is the
    last candidate's model; in `adapted` and `adapted_local` it is an adapter on it, with a server
    of its own."""

    team: Path
    local: Path
    adapted: Path
    adapted_local: Path
    urls: tuple[str, ...]
    log: Path


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    program()
    folder = tmp_path_factory.mktemp("vllm")
    names = os.environ.get("TAKETURNS_VLLM_CANDIDATES", "pretrained,sft,aligned").split(",")
    replicas = int(os.environ.get("TAKETURNS_VLLM_REPLICAS", "1"))
    *urls, apart = [f"http://127.0.0.1:{free_port()}" for _ in range(len(names) + replicas)]
    last = urls[len(names) - 1 :]
    bundled = {one.name: one.spec for one in load_team_config("pocket").candidates}
    candidates: list[dict[str, Any]] = []
    for index, name in enumerate(names):
        entry: dict[str, Any] = {"name": name, "model": bundled[name].model}
        if bundled[name].prompt is not None:
            entry["prompt"] = bundled[name].prompt
        candidates.append(entry | {"urls": last if name == names[-1] else [urls[index]]})
    base = bundled[names[-1]].model
    adapter = {"kind": "lm", "model": base, "adapter": make_adapter(base, folder / "switcher")}
    policy = {"patch_size": 16, "max_tokens": 96, "temperature": 0}
    team = {"candidates": candidates, "policy": policy}
    plain = {"kind": "lm", "model": base}
    there = {"engine": {"kind": "http"}}
    here = {"candidates": [{k: v for k, v in one.items() if k != "urls"} for one in candidates]}
    contents = {
        "team": team | there | {"switcher": plain | {"urls": last, "served_as": names[-1]}},
        "local": team | here | {"switcher": plain},
        "adapted": team | there | {"switcher": adapter | {"urls": [apart]}},
        "adapted_local": team | here | {"switcher": adapter},
    }
    paths = {name: folder / f"{name}.yaml" for name in contents}
    for name, content in contents.items():
        paths[name].write_text(yaml.safe_dump(content), encoding="utf-8")
    log = folder / "servers.log"
    with launched(paths["adapted"], [*urls, apart], log):
        yield Served(**paths, urls=tuple(urls), log=log)


@contextmanager
def launched(
    team: Path, urls: Sequence[str], log: Path, flags: Sequence[str] = FLAGS
) -> Iterator[None]:
    """The servers of a team file, which are at `urls`, answer within the block."""
    command = [
        sys.executable,
        "-m",
        "taketurns",
        "launch",
        "--team",
        str(team),
        "--run",
    ]
    command += ["--vllm", program(), *(f"--arg={flag}" for flag in flags)]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stderr=output)
        try:
            wait(urls, process, log)
            yield
        finally:
            process.terminate()
            process.wait(timeout=90)


def program() -> str:
    """vLLM's, where there is one."""
    if not (vllm := os.environ.get("TAKETURNS_VLLM")):
        pytest.skip("needs vLLM: make test-vllm")
    return vllm


def wait(urls: Sequence[str], process: subprocess.Popen[bytes], log: Path) -> None:
    """Until all servers answer."""
    until = monotonic() + READY
    for url in urls:
        while True:
            assert process.poll() is None, log.read_text(encoding="utf-8")[-3000:]
            assert monotonic() < until, log.read_text(encoding="utf-8")[-3000:]
            try:
                if httpx.get(f"{url}/health", timeout=5).status_code == 200:
                    break
            except httpx.HTTPError:
                pass
            sleep(1)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


def make_adapter(model: str, folder: Path) -> str:
    """A switcher of random taste: a LoRA adapter strong enough to be told from its base."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    config = LoraConfig(
        r=8, lora_alpha=16, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"
    )
    with asked_by_an_old_name():
        tuned = get_peft_model(AutoModelForCausalLM.from_pretrained(model), config)
    for name, weight in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3)
    tuned.save_pretrained(folder)
    return str(folder)
