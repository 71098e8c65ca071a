"""Which servers a team needs here, and on which GPUs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from taketurns.config.loading import load_team_config
from taketurns.config.team_config import TeamConfig
from taketurns.errors import ConfigError, DataError, UsageError
from taketurns.integrations.launch.hardware import Gpu, find_gpus, parse_gpus
from taketurns.integrations.launch.manifests import documents, team_urls, write_manifests
from taketurns.integrations.launch.plan import VllmServer, allocate_gpus, plan_servers

GIB = 1 << 30
H100 = 80 * GIB


def team(tmp_path: Path, **changes: Any) -> TeamConfig:
    content = {
        "candidates": [
            {"name": "base", "model": "org/base", "urls": ["http://127.0.0.1:8001"]},
            {
                "name": "chat",
                "model": "org/chat",
                "urls": ["http://localhost:8002", "http://far:8002"],
                "dtype": "bfloat16",
                "revision": "v1",
            },
        ],
        "switcher": {
            "kind": "lm",
            "model": "org/chat",
            "revision": "v1",
            "adapter": "org/switcher",
            "urls": ["http://localhost:8002"],
        },
        "engine": {"kind": "http"},
    } | changes
    path = tmp_path / "team.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return load_team_config(path)


def gpus(count: int, memory: int = H100) -> list[Gpu]:
    return [Gpu(index, memory) for index in range(count)]


def words(server: VllmServer) -> str:
    return " ".join(server.arguments)


def test_a_tokenizer_elsewhere_is_asked_for_at_its_own_revision(tmp_path: Path) -> None:
    models = {"base": {"tokenizer": "org/words"}, "chat": {"tokenizer": "org/words"}}
    models["chat"]["tokenizer_revision"] = "w2"
    candidates = [
        {
            "name": name,
            "model": f"org/{name}",
            "revision": "v1",
            "urls": [f"http://127.0.0.1:800{i}"],
            **keys,
        }
        for i, (name, keys) in enumerate(models.items())
    ]
    planned = team(tmp_path, candidates=candidates, switcher={"kind": "random"})
    base, chat = plan_servers(planned, gpus(2), lambda spec: 16 * GIB)
    assert "--revision v1 --tokenizer org/words --tokenizer-revision main" in words(base)
    assert "--revision v1 --tokenizer org/words --tokenizer-revision w2" in words(chat)


def test_a_server_a_url_with_the_adapters_on_its_base(tmp_path: Path) -> None:
    base, chat = plan_servers(team(tmp_path), gpus(2), lambda spec: 16 * GIB)
    assert words(base) == (
        "serve org/base --served-model-name base --host 127.0.0.1 --port 8001 "
        "--enable-prompt-tokens-details --tensor-parallel-size 1 --gpu-memory-utilization 0.9"
    )
    assert "--lora-modules switcher=org/switcher" in words(chat)
    assert "--max-lora-rank 64 --max-loras 1" in words(chat)
    assert "--revision v1" in words(chat)
    assert "--dtype bfloat16" in words(chat)
    assert chat.environment == {"CUDA_VISIBLE_DEVICES": "1"}
    assert str(chat).startswith("CUDA_VISIBLE_DEVICES=1 vllm serve org/chat ")


@pytest.mark.parametrize(
    ("extra", "own"),
    [
        ((), False),
        (("--max-model-len", "4096"), False),
        (("--tensor-parallel-size", "2"), True),
        (("--tensor_parallel_size=2",), True),
        (("-tp", "2"), True),
        (("--distributed-executor-backend=mp",), True),
    ],
)
def test_on_a_cpu_the_only_worker_of_a_server_has_no_process_of_its_own(
    tmp_path: Path, extra: tuple[str, ...], own: bool
) -> None:
    config = team(tmp_path, switcher={"kind": "random"})
    for server in plan_servers(config, (), lambda spec: None, extra):
        assert ("UniProcExecutor" not in words(server)) is own
    for server in plan_servers(config, gpus(2), lambda spec: None, extra):
        assert "UniProcExecutor" not in words(server)


def test_the_team_finds_what_was_launched_for_it(tmp_path: Path) -> None:
    """The served names are those the engine looks for."""
    from taketurns.engines.http.probe import names_of

    config = team(tmp_path)
    base, chat = plan_servers(config, gpus(2), lambda spec: None)
    assert names_of(config.candidates[0])[0] in base.arguments
    assert names_of(config.candidates[1])[0] in chat.arguments


@pytest.mark.parametrize(
    ("weights", "cards", "shares"),
    [
        ([16, 16], 2, [((0,), 0.9), ((1,), 0.9)]),
        ([140, 16], 8, [((0, 1, 2, 3), 0.9), ((4,), 0.9)]),
        ([16, 16, 16, 16], 1, [((0,), 0.225)] * 4),
        ([16, 16, 16], 2, [((0,), 0.45), ((0,), 0.45), ((1,), 0.45)]),
        ([None, 16], 2, [((0,), 0.9), ((1,), 0.9)]),
        ([60], 1, [((0,), 0.9)]),
        ([16, 16], 0, [((), 0.9), ((), 0.9)]),
    ],
)
def test_gpus_are_dealt_by_what_weighs(
    weights: list[int | None], cards: int, shares: list[tuple[tuple[int, ...], float]]
) -> None:
    sizes = [None if weight is None else weight * GIB for weight in weights]
    dealt = allocate_gpus(sizes, gpus(cards))
    assert [(share.gpus, share.memory) for share in dealt] == shares


@pytest.mark.parametrize(
    ("weights", "cards"), [([140, 140], 4), ([40, 40, 40], 1), ([140], 1), ([400], 4)]
)
def test_what_does_not_fit_is_refused(weights: list[int], cards: int) -> None:
    with pytest.raises(ConfigError, match=r"put (some|it) on another host"):
        allocate_gpus([weight * GIB for weight in weights], gpus(cards))


def test_two_bases_behind_one_url_are_refused(tmp_path: Path) -> None:
    config = team(tmp_path, switcher={"kind": "random"})
    both = [{"name": name, "model": f"org/{name}", "urls": ["http://localhost:1"]} for name in "ab"]
    config = team(tmp_path, switcher={"kind": "random"}, candidates=both)
    with pytest.raises(ConfigError, match="a vLLM server has one base model"):
        plan_servers(config, (), lambda spec: None)


def test_on_a_cpu_an_adapter_needs_a_server_apart_from_its_base(tmp_path: Path) -> None:
    """vLLM mixes them up there."""
    with pytest.raises(ConfigError, match=r"serve chat and an adapter on it, .switcher.: on a CPU"):
        plan_servers(team(tmp_path), (), lambda spec: None)
    switcher = {"kind": "lm", "model": "org/chat", "adapter": "org/switcher"}
    apart = team(tmp_path, switcher=switcher | {"urls": ["http://localhost:8003"]})
    third = plan_servers(apart, (), lambda spec: None)[2]
    assert "serve org/chat --served-model-name org/chat" in words(third)
    assert "--lora-modules switcher=org/switcher" in words(third)


def test_a_team_that_needs_no_server_here_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"needs a team whose engine.kind is http"):
        plan_servers(load_team_config("pocket"), (), lambda spec: None)
    far = [{"name": n, "model": f"org/{n}", "urls": ["http://far:1"]} for n in "ab"]
    config = team(tmp_path, candidates=far, switcher={"kind": "random"})
    with pytest.raises(ConfigError, match="is on this host"):
        plan_servers(config, (), lambda spec: None)


def test_gpus_are_read_from_nvidia_smi(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told = "0, GPU-aa01, 81559\n1, GPU-bb02, 81559\n"
    assert parse_gpus(told) == (Gpu(0, 81559 << 20), Gpu(1, 81559 << 20))
    for line in ("0, GPU-aa01, [N/A]\n", "0\n", "no devices\n", "0, GPU-aa01, 1, 2\n"):
        with pytest.raises(UsageError, match="cannot read this line of nvidia-smi's list"):
            parse_gpus(line)
    # Those that are hidden from us are somebody else's.
    for visible in ("1", "7, 1", "GPU-bb"):
        assert [gpu.index for gpu in parse_gpus(told, visible)] == [1]
    assert parse_gpus(told, "") == parse_gpus(told, "-1") == ()
    with pytest.raises(UsageError, match="names no GPU of this host"):
        parse_gpus(told, "MIG-cc03")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_gpus() == ()


def test_manifests_place_the_servers_and_us(tmp_path: Path) -> None:
    config = team(tmp_path)
    servers = plan_servers(config, gpus(2), lambda spec: 16 * GIB)
    services = documents("compose", servers, "team.yaml")[0]["services"]
    assert set(services) == {"vllm-base", "vllm-chat", "taketurns"}
    assert "--port 8000" in " ".join(services["vllm-chat"]["command"])
    assert set(services["taketurns"]["depends_on"]) == {"vllm-base", "vllm-chat"}
    made = documents("kubernetes", servers, "team.yaml")
    # One image of ours runs in both, whatever its own entry point.
    ours = made[-2]["spec"]["template"]["spec"]["containers"][0]
    assert ours["command"] == services["taketurns"]["entrypoint"] == ["taketurns"]
    assert ours["args"] == services["taketurns"]["command"]
    assert [(one["kind"], one["metadata"]["name"]) for one in made] == [
        (kind, name)
        for name in ("vllm-base", "vllm-chat", "taketurns")
        for kind in ("Deployment", "Service")
    ]
    for deployment in made[::2]:
        labels = deployment["spec"]["selector"]["matchLabels"]
        assert deployment["spec"]["template"]["metadata"]["labels"] == labels
    limits = made[2]["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert limits == {"nvidia.com/gpu": "1"}
    assert team_urls(servers) == {
        "http://127.0.0.1:8001": "http://vllm-base:8000",
        "http://localhost:8002": "http://vllm-chat:8000",
    }
    paths = write_manifests(servers, "team.yaml", tmp_path / "out")
    assert [len(list(yaml.safe_load_all(path.read_text()))) for path in paths] == [1, 6, 1]
    assert write_manifests(servers, "team.yaml", tmp_path / "out") == paths
    paths[1].write_text("of the user")
    paths[0].unlink()
    with pytest.raises(DataError, match=r"kubernetes.yaml exists already with other"):
        write_manifests(servers, "team.yaml", tmp_path / "out")
    assert paths[1].read_text() == "of the user"
    assert not paths[0].exists()


def test_a_folder_of_this_host_is_not_put_into_a_container(tmp_path: Path) -> None:
    server = VllmServer("a", "http://localhost:1", ("serve", str(tmp_path)))
    with pytest.raises(UsageError, match="name the model by its hub id"):
        write_manifests([server], "team.yaml", tmp_path / "out")
