"""`check` of a team on servers: what they can do, or what is wrong with them."""

from __future__ import annotations

import json
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from taketurns.config.loading import load_team_config
from taketurns.config.team_config import TeamConfig
from taketurns.engines.local.engine import LocalEngine
from taketurns.errors import ConfigError
from taketurns.generation.check.report import CheckReport
from taketurns.generation.check.served import inspect_servers
from taketurns.types import Endpoint

from .engines.http.llama import LlamaServer
from .engines.http.served import ModelServer, Style, serving

NAMES = ("pretrained", "sft", "aligned", "switcher")


def on_servers(*urls: str, **overrides: Any) -> TeamConfig:
    """The bundled team, its models served there."""
    model = load_team_config("pocket").candidates[2].spec.model
    engine = {"kind": "http", "urls": list(urls), "retries": 0}
    switcher = {"kind": "lm", "model": model}
    return load_team_config("pocket", {"engine": engine, "switcher": switcher, **overrides})


def shown(report: CheckReport) -> str:
    console = Console(width=200, file=StringIO())
    console.print(report)
    return console.file.getvalue()  # type: ignore[attr-defined]


@pytest.fixture
def engine() -> LocalEngine:
    specs = {one.name: one.spec for one in load_team_config("pocket").candidates}
    return LocalEngine(specs | {"switcher": specs["aligned"]})


@pytest.mark.parametrize("style", ["vllm", "text"])
async def test_it_says_what_servers_can_do(engine: LocalEngine, style: Style) -> None:
    server = ModelServer(engine, NAMES, style, context=None if style == "text" else 1024)
    async with serving(server):
        report = await inspect_servers(on_servers(server.url))
        assert report.fits
        assert report.exact is (style == "vllm")
        assert json.dumps(report.to_json())
        text = shown(report)
        assert ("vllm 0.32.0" in text) == (style == "vllm")
        assert ("1024" in text) == (style == "vllm")
        assert ("a candidate whose number is not among them" in text) == (style == "text")
    await engine.close()


async def test_it_says_which_models_were_taken_under_another_name(engine: LocalEngine) -> None:
    servers = [LlamaServer(engine, (name,), called=f"/m/{name}.gguf") for name in NAMES]
    async with serving(*servers):
        config = on_servers(servers[0].url)
        candidates = [
            replace(
                one, endpoint=Endpoint((server.url,), "/m/sft.gguf" if one.name == "sft" else None)
            )
            for one, server in zip(config.candidates, servers, strict=False)
        ]
        endpoint = Endpoint((servers[3].url,))
        switcher = replace(config.switcher, endpoint=endpoint)
        report = await inspect_servers(
            replace(config, candidates=tuple(candidates), switcher=switcher)
        )
        assert report.fits
        assert report.exact
        text = shown(report)
        assert f"pretrained: {servers[0].url} serves only the model /m/pretrained.gguf" in text
        assert "serves only the model /m/sft.gguf" not in text, "its name was said"
    await engine.close()


async def test_a_server_that_is_down_is_a_note_and_all_of_them_a_problem(
    engine: LocalEngine,
) -> None:
    server, gone = ModelServer(engine, NAMES), "http://127.0.0.1:9"
    async with serving(server):
        report = await inspect_servers(on_servers(server.url, gone))
        assert report.fits
        assert f"aligned: {gone} is not used yet" in shown(report)
        report = await inspect_servers(on_servers(gone))
        assert not report.fits
        assert report.exact is None
        assert "no server of sft can be reached" in report.problems[1]
    await engine.close()


async def test_a_switcher_needs_log_probabilities_and_a_head_hidden_states(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def none(*arguments: object) -> dict[str, float]:
        return {}

    monkeypatch.setattr(ModelServer, "_most_probable", none)
    server = ModelServer(engine, NAMES, "text")
    async with serving(server):
        report = await inspect_servers(on_servers(server.url))
        assert "the switcher's server reports no log-probabilities" in report.problems[0]
        bundled = load_team_config("pocket").switcher
        assert bundled.kind == "head"
        head = {"kind": "head", "path": bundled.path}
        report = await inspect_servers(on_servers(server.url, switcher=head))
        assert "use a switcher of kind lm" in report.problems[0]
    await engine.close()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"engine.kind": "local"},
            'urls is a key of kind "http", but this engine has the kind "local": remove urls',
        ),
        ({"engine.max_batch": 3}, 'max_batch is a key of kind "local"'),
        ({"engine.urls": []}, "no server for this model: give it urls"),
        ({"engine.urls": ["gpu:8000"]}, "like \"http://host:8000\", not 'gpu:8000'"),
        ({"engine.urls": ["http://h:99999"]}, "a server is written like"),
        ({"engine.urls": ["http://h?x=1"]}, "a server is written like"),
        ({"engine.urls": ["http://u:p@h"]}, "must not hold a password"),
        ({"engine.urls": ["http://h", "http://h/v1/"]}, "the server http://h is listed twice"),
        ({"engine.api_key_env": "sk-abc"}, "the name of an environment variable"),
        ({"engine.concurrency": 0}, "concurrency must be at least 1"),
        ({"engine.timeout": 0}, "timeout must be more than 0 seconds"),
        ({"engine.retries": -1}, "retries must be at least 0 and at most 1000, not -1"),
        ({"switcher": {"kind": "random", "urls": ["http://h"]}}, "urls needs the key model"),
    ],
)
def test_a_team_file_that_cannot_be_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as told:
        on_servers("http://127.0.0.1:9", **settings)
    assert said in str(told.value)
    assert "\n" not in str(told.value)


def test_urls_belong_to_an_engine_on_servers(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="served_as needs engine"):
        load_team_config("pocket", {"candidates.sft.served_as": "x"})


def test_a_run_may_go_on_when_its_servers_have_moved() -> None:
    """The manifest tells runs apart by what is served, not by where; and it holds no key."""
    from taketurns.runs.description import describe_run

    here, there = on_servers("http://h1"), on_servers("http://h2", **{"engine.api_key_env": "K"})
    assert describe_run("generate", here, b"").identity == (
        describe_run("generate", there, b"").identity
    )
