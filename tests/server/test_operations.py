"""What an operator sees: metrics, logs, traces, readiness, settings."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import openai
import pytest
from typer.testing import CliRunner

from taketurns import Candidate, ConfigError, EngineError, ModelSpec, Policy, ScriptedEngine, Team
from taketurns.cli.app import app
from taketurns.config.loading import load_settings
from taketurns.server.config import ServeConfig, read_settings
from taketurns.server.logs import JsonFormatter
from taketurns.server.middleware import AccessLog
from taketurns.server.model_registry import ModelRegistry
from taketurns.server.run import TeamServer, serve
from taketurns.server.schemas import ChatRequest
from taketurns.switchers.simple import FixedSwitcher

from .conftest import Running, Start, eventually, forever, scripted

ASKED = [{"role": "user", "content": "a private matter"}]


def pair(**options: Any) -> Team:
    return scripted({"a": forever("a"), "b": forever("b")}, **options)


def metrics(server: Running) -> dict[str, float]:
    """Every sample by its name and labels; times are left out."""
    with server.http() as http:
        lines = http.get("/metrics").text.splitlines()
    samples = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in samples if "_created" not in name}


def request_line(caplog: pytest.LogCaptureFixture) -> dict[str, Any]:
    """What is logged of a request for an answer, once it is."""

    def lines() -> list[dict[str, Any]]:
        known = [json.loads(JsonFormatter().format(record)) for record in caplog.records]
        return [line for line in known if line.get("path") == "/v1/chat/completions"]

    eventually(lambda: bool(lines()))
    return lines()[-1]


def lines_about(caplog: pytest.LogCaptureFixture, identifier: str) -> list[dict[str, Any]]:
    """What is logged of a request, its own line included."""

    def lines() -> list[dict[str, Any]]:
        known = [json.loads(JsonFormatter().format(record)) for record in caplog.records]
        return [line for line in known if line.get("id") == identifier]

    eventually(lambda: bool(lines()) and lines()[-1]["message"] == "request")
    return lines()


def test_metrics_count_what_happened(start: Start) -> None:
    server = start(pair(failures={6: EngineError("gone")}))
    client = server.client()
    client.chat.completions.create(model="team", messages=ASKED)  # a b a b a
    list(client.chat.completions.create(model="b", messages=ASKED, max_tokens=4, stream=True))
    with server.http() as http:
        http.post("/v1/chat/completions", json={"messages": ASKED})  # fails at once
        http.post("/v1/chat/completions", json={"messages": []})
    told = metrics(server)
    for name, value in {
        'vllm:num_requests_running{model_name="team"}': 0,
        'vllm:num_requests_waiting{model_name="team"}': 0,
        'vllm:generation_tokens_total{model_name="team"}': 20,
        'vllm:generation_tokens_total{model_name="b"}': 4,
        'vllm:prompt_tokens_total{model_name="b"}': len("a private matter"),
        'vllm:request_success_total{finished_reason="length",model_name="team"}': 1,
        'vllm:request_success_total{finished_reason="error",model_name="team"}': 1,
        'vllm:time_to_first_token_seconds_count{model_name="team"}': 1,
        'vllm:inter_token_latency_seconds_count{model_name="team"}': 19,
        'vllm:e2e_request_latency_seconds_count{model_name="team"}': 2,
        'vllm:request_queue_time_seconds_count{model_name="team"}': 2,
        'vllm:request_generation_tokens_sum{model_name="team"}': 20,
        'taketurns:patches_total{model_name="team",reason="chosen",speaker="a"}': 3,
        'taketurns:speaker_tokens_total{model_name="team",speaker="b"}': 8,
        'taketurns:switcher_seconds_count{model_name="team"}': 5,
        'taketurns:requests_refused_total{code="engine_error"}': 1,
        'taketurns:requests_refused_total{code="400"}': 1,
    }.items():
        assert told[name] == value, name


def test_prompt_tokens_are_those_of_usage(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    """As the speaker reads the prompt who writes first, once for all choices."""
    caplog.set_level(logging.INFO, "taketurns.server")
    specs = [ModelSpec("a", prompt="{text}"), ModelSpec("b", prompt="Question: {text}")]
    engine = ScriptedEngine({"a": forever("a"), "b": forever("b")})
    candidates = [Candidate(spec.model, spec) for spec in specs]
    server = start(Team(candidates, engine, FixedSwitcher([1, 0]), Policy(4, max_tokens=8)))
    answer = server.client().chat.completions.create(model="team", messages=ASKED, n=2)
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == len("Question: a private matter")
    told = metrics(server)
    counted = told['vllm:prompt_tokens_total{model_name="team"}']
    assert counted == request_line(caplog)["prompt_tokens"] == answer.usage.prompt_tokens
    assert told['vllm:request_prompt_tokens_sum{model_name="team"}'] == 2 * counted


def test_logs_are_json_without_anybody_s_text(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "taketurns.server")
    start(pair()).client(api_key="k3y").chat.completions.create(model="team", messages=ASKED)
    line = request_line(caplog)
    assert line["path"] == "/v1/chat/completions"
    assert (line["status"], line["model"], line["tokens"]) == (200, "team", 20)
    assert line["finish"] == ["length"]
    assert line["seconds"] >= line["first_token"] > 0
    assert "private" not in caplog.text + str(line)
    assert "aaaabbbb" not in str(line)
    assert "bbbbaaaa" not in str(line)
    assert "k3y" not in str(line)


def test_what_nobody_foresaw_is_an_answer_and_a_line_without_anybody_s_text(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "taketurns.server")
    server = start(pair())

    secret = "".join(("hunt", "er2"))  # the traceback has this file's lines

    async def breaks() -> Any:
        try:
            ChatRequest.model_validate({"messages": ASKED, "stream": secret})
        except ValueError as error:
            raise RuntimeError("a bug") from error

    server.serving.models = breaks  # type: ignore[method-assign]
    with server.http() as http:
        reply = http.get("/v1/models")
    assert (reply.status_code, reply.json()["error"]["code"]) == (500, "internal_error")
    assert "content-security-policy" in reply.headers
    bug, line = lines_about(caplog, reply.headers["x-request-id"])
    assert (line["path"], line["status"]) == ("/v1/models", 500)
    assert "RuntimeError: a bug" in bug["traceback"]
    assert "ValidationError" in bug["traceback"]
    assert secret not in str(bug)
    assert metrics(server)['taketurns:requests_refused_total{code="internal_error"}'] == 1


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("patches", [0, 2])
def test_why_a_model_failed_is_for_the_log_and_not_for_clients(
    start: Start, caplog: pytest.LogCaptureFixture, streamed: bool, patches: int
) -> None:
    caplog.set_level(logging.INFO, "taketurns.server")
    reason = "a server refused a request with status 400 (http://10.0.0.1:8000)"
    server = start(pair(failures={patches: EngineError(reason)}))
    with server.http() as http:
        reply = http.post("/v1/chat/completions", json={"messages": ASKED, "stream": streamed})
    assert "engine_error" in reply.text
    assert "10.0.0.1" not in reply.text
    (line,) = lines_about(caplog, reply.headers["x-request-id"])
    assert (line["level"], line["error"], line["reason"]) == ("error", "engine_error", reason)


async def test_a_response_that_breaks_off_is_not_begun_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "taketurns.server")

    async def half(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("a bug")

    async def receive() -> Any:
        raise AssertionError

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    await AccessLog(half, count_error=lambda code: None)(scope, receive, send)
    assert [message["type"] for message in sent] == ["http.response.start"]
    _, line = lines_about(caplog, scope["taketurns"]["id"])  # type: ignore[index]
    assert (line["status"], line["error"]) == (200, "internal_error")


def test_every_error_is_counted_wherever_it_is_found(start: Start) -> None:
    with_key = start(pair(), api_keys=("k",), open_metrics=True, max_body=100)
    with with_key.http() as http:
        http.get("/v1/models")
        known = {"authorization": "Bearer k"}
        http.post("/tokenize", content=b" " * 101, headers=known)
        http.get("/nowhere", headers=known)
    told = metrics(with_key)
    without = start(pair())
    with without.http(headers={"host": "rebound.example"}) as http:
        http.get("/v1/models")
    told |= metrics(without)
    for code in ("invalid_api_key", "request_too_large", "404", "unknown_host"):
        assert told[f'taketurns:requests_refused_total{{code="{code}"}}'] == 1, code


def test_text_is_logged_where_it_is_asked_for(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "taketurns.server")
    server = start(pair(), log_text=True)
    server.client().chat.completions.create(model="team", messages=ASKED)
    line = request_line(caplog)
    assert line["prompts"] == [{"messages": [["user", "a private matter"]]}]
    assert line["texts"] == ["aaaabbbbaaaabbbbaaaa"]


async def test_it_lives_before_it_is_ready() -> None:
    """While models load, requests are told to come back."""
    import httpx

    from taketurns.server.app import make_app
    from taketurns.server.serving import Serving

    class Slow(ScriptedEngine):
        loaded = asyncio.Event()

        async def load(self, model: str) -> None:
            await self.loaded.wait()

    engine = Slow({"a": forever("a"), "b": forever("b")})
    team = pair()
    slow = Team(team.candidates, engine, FixedSwitcher([0]), Policy(4, max_tokens=4))
    serving = Serving(ModelRegistry(slow, "team"), ServeConfig())
    transport = httpx.ASGITransport(make_app(serving))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        loading = asyncio.create_task(serving.load())
        assert (await http.get("/health")).status_code == 200
        assert (await http.get("/health/ready")).json() == {"status": "loading"}
        refused = await http.post("/v1/chat/completions", json={"messages": ASKED})
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "loading")
        engine.loaded.set()
        await loading
        assert (await http.get("/health/ready")).status_code == 200
        assert (await http.post("/v1/chat/completions", json={"messages": ASKED})).is_success


def test_settings_come_from_the_command_line_the_file_and_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "serve.yaml"
    file.write_text("port: 9000\nmax_running: 3\ntimeout: 5\napi_keys: [one]\ncors: []\n")
    nothing: dict[str, Any] = {"host": None, "port": None, "name": None, "api_keys": None}
    assert read_settings(file, **nothing) == ServeConfig(
        port=9000, max_running=3, timeout=5, api_keys=("one",)
    )
    assert read_settings(file, **nothing | {"port": 1, "api_keys": ["two"]}).api_keys == ("two",)
    monkeypatch.setenv("TAKETURNS_API_KEY", "three")
    assert read_settings(None, **nothing).api_keys == ("three",)
    assert read_settings(file, **nothing).api_keys == ("one",)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("prot: 1", "serve.yaml:1: unknown key 'prot'; did you mean 'port'?"),
        ("port: x", "port should be a valid integer"),
        ("port: 70000", "port must be from 0 to 65535"),
        ("timeout: 0", "timeout must be more than 0"),
        ("api_keys: ['']", "must not be empty"),
        ("api_keys: [k]\ncors: ['*']", '"*" and "null" would admit every site'),
        ("api_keys: [k]\ncors: ['null']", '"*" and "null" would admit every site'),
        ("api_keys: [' k']", "must not begin or end with a space"),
        ('api_keys: ["k\\n"]', "must not begin or end with a space"),
        ("cors: ['https://x.example/']", "'https://x.example/' is not an origin"),
        ("cors: [x.example]", "'x.example' is not an origin"),
        ("cors: ['https://X.example']", "'https://X.example' is not an origin"),
        ("cors: ['https://x.example:443']", "'https://x.example:443' is not an origin"),
        ("allowed_hosts: ['*']", "'*' is not a host name"),
        ("allowed_hosts: ['x.example:8000']", "'x.example:8000' is not a host name"),
        ("- a", "a serve file must be a mapping"),
    ],
)
def test_a_wrong_setting_is_one_sentence(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "serve.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=re.escape(says)):
        load_settings(file, ServeConfig, "serve file")


def test_names_and_origins_that_can_be_are_taken() -> None:
    origins = ("https://a.example", "http://localhost:3000", "http://[::1]:8080", "https://a:80")
    ServeConfig(cors=origins, allowed_hosts=("team.example.org", "Box_1", "team."))
    ServeConfig(cors=("*", "null"))


@pytest.mark.parametrize(
    ("settings", "warns"),
    [
        ({"host": "0.0.0.0"}, True),
        ({"host": ""}, True),
        ({"host": "0.0.0.0", "api_keys": ("k",)}, False),
        ({}, False),
    ],
)
def test_a_server_for_everybody_without_keys_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], warns: bool
) -> None:
    monkeypatch.setattr(TeamServer, "run", lambda self, sockets: None)
    said: list[str] = []
    serve(pair(), ServeConfig(port=0, **settings), "team", said.append)
    assert any("no API key is set" in sentence for sentence in said) == warns


def test_more_choices_than_there_is_room_for_are_refused_once_and_for_all(start: Start) -> None:
    server = start(pair(), max_running=1, max_waiting=2)
    ask = server.client().chat.completions.create
    assert len(ask(model="team", messages=ASKED, n=3).choices) == 3
    with pytest.raises(openai.BadRequestError, match="may ask for at most 3 choices, not 4"):
        ask(model="team", messages=ASKED, n=4)


def test_the_command_refuses_what_cannot_be(tmp_path: Path) -> None:
    file = tmp_path / "two.yaml"
    file.write_text("candidates: [{name: a, model: o/a}, {name: b, model: o/b}]")

    def fails(*arguments: str) -> str:
        result = CliRunner().invoke(app, ["serve", "--team", str(file), *arguments])
        assert result.exit_code != 0
        return str(result.exception)

    assert "there is no team file" in fails("--team", str(tmp_path / "none.yaml"))
    assert "cannot listen on" in fails("--host", "203.0.113.1")
    assert "have the name 'a': give the team another --name" in fails("--name", "a")
    help_ = CliRunner().invoke(app, ["serve", "--help"]).output
    assert "127.0.0.1" in help_


def test_without_its_packages_it_says_which_to_install() -> None:
    code = (
        "import sys; sys.modules['fastapi'] = None; sys.argv = ['taketurns', 'serve'];"
        "from taketurns.cli.app import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.strip().endswith("pip install 'taketurns[serve]'")
