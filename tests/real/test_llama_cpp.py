"""Teams on real llama.cpp servers, which run the GGUF files as they are.

Their kernels round activations, so what is written is not what the same weights write here. What
holds is: each server is sent the ids that are the answer so far, the text is what they spell, and
the switcher decides by the server's own log-probabilities.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
import yaml
from openai import OpenAI

from recipes.real.llama_cpp import llama_server, missing_tools
from recipes.real.models import MODELS
from taketurns import Query, Team, Trace
from taketurns.config.loading import load_team_config
from taketurns.engines.http.connections import connections
from taketurns.generation.team import SWITCHER
from taketurns.types import Delta

from .questions import QUESTIONS
from .reference import Plain

CONTEXT = 2048
PATCH, BUDGET = 8, 48
FACES = "Repeat this row ten times, and nothing else: 😀 😃 😄 😁 😆 😅 😂"  # several tokens each
ASKED = QUESTIONS[::2]
PLAIN_PROMPT = "Question: {text}\nAnswer:"
GGUF = {model.name: model.gguf for model in MODELS}


@dataclass(frozen=True)
class Served:
    """The team files: `pair` is SmolLM2 with two prompts, `three` all models with LM switcher."""

    pair: Path
    three: Path
    urls: Mapping[str, str]


@pytest.fixture(scope="module")
def served(real_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    if missing := missing_tools():
        pytest.skip(f"building llama.cpp needs {' and '.join(missing)}")
    program = llama_server(real_cache)
    folder = tmp_path_factory.mktemp("llama")
    with ExitStack() as stack:
        urls = {
            name: stack.enter_context(
                running(program, real_cache / "gguf" / gguf, folder / f"{name}.log")
            )
            for name, gguf in GGUF.items()
        }

        def place(model: str, **more: Any) -> dict[str, Any]:
            return {"model": str(real_cache / model), "urls": [urls[model]], **more}

        common = {
            "engine": {"kind": "http"},
            "policy": {"patch_size": PATCH, "max_tokens": BUDGET, "temperature": 0},
        }
        switcher = {"kind": "lm"} | place("qwen")
        teams = {
            "pair": [place("smollm2", name="chat"),
                     place("smollm2", name="plain", prompt=PLAIN_PROMPT)],
            "three": [place("gemma", name="gemma", prompt=PLAIN_PROMPT),
                      place("smollm2", name="smollm2"), place("qwen", name="qwen")],
        }  # fmt: skip
        for name, candidates in teams.items():
            content = {"candidates": candidates, "switcher": switcher} | common
            (folder / f"{name}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
        yield Served(folder / "pair.yaml", folder / "three.yaml", urls)


@contextmanager
def running(program: Path, gguf: Path, log: Path) -> Iterator[str]:
    """A server of a GGUF file, with room for two answers at a time."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    command = [
        str(program),
        "-m",
        str(gguf),
        "--host",
        "127.0.0.1",
        "--port",
        url.rpartition(":")[2],
    ]
    with log.open("wb") as output:
        server = subprocess.Popen(
            [*command, "-c", str(2 * CONTEXT), "-np", "2", "-t", "2"], stdout=output, stderr=output
        )
        try:
            until = time.monotonic() + 120
            while not ready(f"{url}/health"):
                assert server.poll() is None, log.read_text(encoding="utf-8")[-3000:]
                assert time.monotonic() < until, log.read_text(encoding="utf-8")[-3000:]
                time.sleep(0.2)
            yield url
        finally:
            server.terminate()
            server.wait(timeout=60)


def ready(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


@dataclass
class Recording(httpx.AsyncBaseTransport):
    """Carries requests to the servers, and keeps the bodies of those that ask a model."""

    asked: list[dict[str, Any]] = field(default_factory=list)
    inner: httpx.AsyncBaseTransport = field(default_factory=connections)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/completions":
            self.asked.append(json.loads(await request.aread()))
        return await self.inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self.inner.aclose()


def command(*arguments: str | Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "taketurns", *map(str, arguments)],
        capture_output=True, text=True, timeout=600, env=environment(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def environment() -> dict[str, str]:
    return os.environ | {
        "PYTHONPATH": str(Path(__file__).parents[2] / "src"),
        "PYTHONIOENCODING": "utf-8",
    }


@pytest.mark.parametrize("team", ["pair", "three"])
def test_check_finds_what_they_can_do(served: Served, real_cache: Path, team: str) -> None:
    """They call their models by their files, and need no `served_as` for that."""
    told = json.loads(command("check", "--team", getattr(served, team), "--json"))
    assert told["fits"], told["problems"]
    assert told["exact"] is (team == "pair")
    for model in told["models"]:
        [server] = model["servers"]
        able = server["abilities"]
        assert (able["software"], able["context"], able["top_logprobs"]) == (
            "llamacpp",
            CONTEXT,
            1000,
        )
        assert able["served_as"] == str(real_cache / "gguf" / GGUF[Path(model["model"]).name])
        assert able["only"]
        assert able["token_ids"]
        assert able["prompt_ids"]


def test_a_server_of_another_model_is_refused(served: Served, tmp_path: Path) -> None:
    config = yaml.safe_load(served.three.read_text(encoding="utf-8"))
    config["candidates"][1]["urls"] = [served.urls["qwen"]]
    (tmp_path / "wrong.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "taketurns", "check", "--team", str(tmp_path / "wrong.yaml")],
        capture_output=True, text=True, env=environment(),
    )  # fmt: skip
    assert done.returncode != 0
    assert "serve that model, or set the candidate's key tokenizer" in " ".join(
        (done.stdout + done.stderr).split()
    )


async def test_ids_are_handed_over(served: Served) -> None:
    """Also those inside characters, which the servers leave out of what they stream."""
    recording, hidden = Recording(), 0
    async with Team.load(load_team_config(served.pair)) as team:
        team.engine.connect = lambda: recording  # type: ignore[attr-defined]
        await team.prepare()
        for question in (FACES, *ASKED):
            draft = await team.draft(Query("q", text=question))
            codec = (await team.engine.info("chat")).codec
            recording.asked.clear()
            trace = await team.agenerate(question)
            sent = [body for body in recording.asked if body.get("return_tokens")]
            assert trace.error is None
            assert trace.exact
            ids = [token for patch in trace.patches for token in patch.token_ids]
            assert not any(map(codec.is_control, ids))
            assert trace.text == codec.decode(ids).rstrip("\N{REPLACEMENT CHARACTER}")
            # Nothing else was ever sent than a speaker's prompt and the ids so far.
            begun = [
                draft.prompt(speaker) + ids[:n] for speaker in (0, 1) for n in range(len(ids) + 1)
            ]
            assert [body["prompt"] for body in sent if body["prompt"] not in begun] == []
            hidden += sum(not body.get("stream") for body in sent)
            print(f"\n{len(sent)} requests: {trace.text!r}")
        # A server goes on from what it has read: it need not do so to the last bit.
        whole = await team.agenerate(FACES)
        *events, streamed = [event async for event in team.stream(FACES)]
        assert isinstance(streamed, Trace)
        assert streamed.error is None
        assert "".join(e.text for e in events if isinstance(e, Delta)) == streamed.text
        print(f"\nstreamed {'alike' if streamed.text == whole.text else 'otherwise'}")
    assert hidden, "no question was answered with a character of several tokens"


async def test_sampling_options_reach_the_servers(served: Served) -> None:
    """A server refuses what it does not know, and what is drawn from one token is the greedy
    answer."""
    question = QUESTIONS[0]

    async def written(**policy: Any) -> str:
        async with Team.load(load_team_config(served.pair, policy)) as team:
            trace = await team.alone("chat").agenerate(question, seed=1)
        assert trace.error is None, trace.error
        return trace.text

    greedy = await written()
    drawn = {"policy.temperature": 1.5, "policy.speaker_top_p": 1.0}
    for option in ({"top_k": 1}, {"min_p": 1.0}):
        assert (await written(**drawn, sampling=option))[:40] == greedy[:40]
    assert (await written(**drawn))[:40] != greedy[:40]
    assert await written(sampling={"repetition_penalty": 2.0}) != greedy
    first = greedy.split()[0]
    async with Team.load(load_team_config(served.pair)) as team:
        codec = (await team.engine.info("chat")).codec
    ids = {codec.encode(word)[0] for word in (first, f" {first}")}
    banned = await written(sampling={"logit_bias": dict.fromkeys(ids, -100)})
    assert banned.split()[0] != first
    stopped = await written(sampling={"stop_token_ids": sorted(codec.encode(greedy)[3:5])})
    assert greedy.startswith(stopped)
    assert len(codec.encode(stopped)) <= 4


async def test_text_is_handed_over_between_tokenizers(served: Served) -> None:
    """Digits, commas and letters of every language are where the speakers wrote them."""
    async with Team.load(load_team_config(served.three)) as team:
        codecs = [(await team.engine.info(one.name)).codec for one in team.candidates]
        for question in ASKED:
            trace = await team.agenerate(question)
            assert trace.error is None
            assert not trace.exact
            told = "".join(
                codecs[p.speaker].decode(p.token_ids)
                for p in trace.patches
                if p.speaker is not None
            )
            assert _ink(told) == _ink(trace.text)
            print(f"\n{[p.speaker for p in trace.patches]}: {trace.text!r}")
        counted = await team.agenerate("Count from 1 to 9, separated by commas.")
        assert any(c.isdigit() for c in counted.text)
        assert "," in counted.text


def _ink(text: str) -> str:
    """Without what tokenizers do at the edge of a patch: spaces, and the bytes of half a
    character."""
    return "".join(text.replace("\N{REPLACEMENT CHARACTER}", "").split())


async def test_the_switcher_decides_by_the_servers_log_probabilities(
    served: Served, real_cache: Path
) -> None:
    """They are close to what the same weights say here, and there are all three of them."""
    recording = Recording()
    qwen = Plain.load(real_cache / "qwen")
    gaps = []
    async with Team.load(load_team_config(served.three)) as team:
        team.engine.connect = lambda: recording  # type: ignore[attr-defined]
        await team.prepare()
        info = await team.engine.info(SWITCHER)
        digits = [info.codec.single(str(i)) for i in range(3)]
        for question in QUESTIONS[:4]:
            recording.asked.clear()
            trace = await team.agenerate(question)
            asked = [body["prompt"] for body in recording.asked if body.get("logprobs") == 1000]
            chosen = [patch.probabilities for patch in trace.patches if patch.probabilities]
            assert len(asked) == len(chosen)
            for prompt, probabilities in zip(asked, chosen, strict=True):
                with torch.no_grad():
                    logits = qwen.model(torch.tensor([prompt])).logits[0, -1]
                here = logits[digits].softmax(-1).tolist()
                gaps += [abs(a - b) for a, b in zip(here, probabilities, strict=True)]
                assert all(probabilities)
    print(
        f"\n{len(gaps)} probabilities, at most {max(gaps):.3f} from those of the same weights here"
    )
    assert max(gaps) < 0.1


def test_it_is_served(served: Served) -> None:
    with running_server(served.pair) as client:
        model = client.models.list().data[0].id
        asked: Any = {
            "model": model,
            "messages": [{"role": "user", "content": QUESTIONS[6]}],
            "seed": 3,
        }
        whole = client.chat.completions.create(**asked)
        assert whole.choices[0].message.content
        assert whole.usage is not None
        assert 0 < whole.usage.completion_tokens <= BUDGET
        chunks = list(client.chat.completions.create(**asked, stream=True))
        parts = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
        assert "".join(parts)
        print(f"\n{whole.choices[0].message.content!r}\n{''.join(parts)!r}")


@contextmanager
def running_server(team: Path) -> Iterator[OpenAI]:
    """`taketurns serve`, within the block."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = team.with_suffix(".log")
    with log.open("wb") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", "taketurns", "serve", "--team", str(team), "--port", str(port)],
            stderr=output,
            env=environment(),
        )
        try:
            until = time.monotonic() + 120
            while not ready(f"http://127.0.0.1:{port}/health/ready"):
                assert server.poll() is None, log.read_text(encoding="utf-8")[-3000:]
                assert time.monotonic() < until, log.read_text(encoding="utf-8")[-3000:]
                time.sleep(0.5)
            yield OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0)
        finally:
            server.terminate()
            server.wait(timeout=60)
