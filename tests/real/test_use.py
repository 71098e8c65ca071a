"""What people do with a team, done with a real one: talking, being cut short, drawing, serving."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import pytest
from openai import OpenAI

from taketurns import Message, Policy, Query, Team
from taketurns.switchers.simple import FixedSwitcher

from .questions import QUESTIONS
from .reference import Plain, follow, report

SIZE, BUDGET = 8, 32
TALKERS = [1, 2]  # SmolLM2 and Qwen, whose templates take a conversation
GREEDY = ("policy.temperature=0", f"policy.patch_size={SIZE}", f"policy.max_tokens={BUDGET}",
          "switcher.kind=fixed", "switcher.sequence=[smollm2, qwen, gemma]")  # fmt: skip


@pytest.fixture(scope="module")
def greedy(team: Team) -> Team:
    policy = Policy(patch_size=SIZE, max_tokens=BUDGET, temperature=0)
    return team.ruled_by(policy).switched_by(FixedSwitcher([1, 2, 0]))


@pytest.fixture(scope="module")
def talkers(greedy: Team) -> Team:
    return greedy.switched_by(FixedSwitcher(TALKERS))


def members(plain: Mapping[str, Plain]) -> list[Plain]:
    return [plain[name] for name in ("gemma", "smollm2", "qwen")]


def talk(*turns: tuple[str, str]) -> Query:
    return Query("talk", messages=tuple(Message(role, text) for role, text in turns))  # type: ignore[arg-type]


def test_a_conversation_goes_on(talkers: Team, plain: Mapping[str, Plain]) -> None:
    query = talk(
        ("system", "You answer in one short sentence."),
        ("user", "My dog is called Zoë, and she is 7 years old."),
        ("assistant", "What a nice name!"),
        ("user", "How old will she be in 5 years?"),
    )
    trace = talkers.generate(query)
    ties = follow(trace, _templated(plain), SIZE, BUDGET, one_tokenizer=False)
    report(ties, "a conversation")


def test_an_answer_that_was_begun_is_continued(talkers: Team, plain: Mapping[str, Plain]) -> None:
    query = talk(("user", QUESTIONS[11]), ("assistant", "As a decimal, 3/4 is 0.75, as"))
    trace = talkers.generate(query)
    ties = follow(trace, _templated(plain), SIZE, BUDGET, one_tokenizer=False)
    report(ties, "an answer that was begun")


def test_a_base_model_continues_what_was_begun(team: Team, plain: Mapping[str, Plain]) -> None:
    policy = Policy(max_tokens=16, temperature=0)
    query = talk(("user", "What is 3/4 as a decimal?"), ("assistant", "It is 0."))
    trace = team.ruled_by(policy).alone("gemma").generate(query)
    gemma = plain["gemma"]
    ids = gemma.encode("Question: What is 3/4 as a decimal?\nAnswer: It is 0.")
    assert trace.patches[0].token_ids == tuple(gemma.greedy(ids, 16))


def test_stop_strings_end_an_answer_where_they_stand(greedy: Team) -> None:
    whole = greedy.generate(list(QUESTIONS))
    stops = (", ", "\n", "1")
    policy = Policy(patch_size=SIZE, max_tokens=BUDGET, temperature=0, stop=stops)
    stopped = greedy.generate(list(QUESTIONS), policy=policy)
    met = 0
    for full, cut in zip(whole, stopped, strict=True):
        found = [at for stop in stops if (at := full.text.find(stop)) >= 0]
        assert cut.text == full.text[: min(found, default=None)]
        met += bool(found)
        assert not found or cut.finish == "stop"
    assert met >= 6


def test_a_seed_decides_the_answer_whatever_else_is_asked(team: Team) -> None:
    policy = Policy(patch_size=SIZE, max_tokens=BUDGET)
    drawing = team.ruled_by(policy)
    first, second = (Query(f"q{index}", text=QUESTIONS[index]) for index in (0, 4))
    alone = drawing.generate(first, seed=5)
    beside = drawing.generate([second, first], seed=5)[1]
    assert beside.text == alone.text
    assert [p.speaker for p in beside.patches] == [p.speaker for p in alone.patches]
    assert drawing.generate(first, seed=6).text != alone.text


def test_chat_remembers_what_was_said(real_cache: Path, greedy: Team) -> None:
    asked = ("What is the capital of Italy?", "And of Spain?")
    done = subprocess.run(
        [sys.executable, "-m", "taketurns", "chat", "--team", real_cache / "team.yaml", *_sets()],
        input="".join(f"{line}\n" for line in asked),
        capture_output=True,
        text=True,
        env=_environment(),
    )
    assert done.returncode == 0, done.stderr
    first = greedy.generate(talk(("user", asked[0])))
    second = greedy.generate(
        talk(("user", asked[0]), ("assistant", first.text), ("user", asked[1]))
    )
    assert _letters(done.stdout) == _letters(first.text) + _letters(second.text)


@pytest.fixture(scope="module")
def client(real_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenAI]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("serve") / "log"
    command = [sys.executable, "-m", "taketurns", "serve", "--team", str(real_cache / "team.yaml")]
    with log.open("wb") as output:
        server = subprocess.Popen(
            [*command, "--port", str(port), *_sets()], stderr=output, env=_environment()
        )
        try:
            until = time.monotonic() + 300
            while not _ready(f"http://127.0.0.1:{port}/health/ready"):
                assert server.poll() is None, log.read_text(encoding="utf-8")[-3000:]
                assert time.monotonic() < until, log.read_text(encoding="utf-8")[-3000:]
                time.sleep(0.5)
            url = f"http://127.0.0.1:{port}/v1"
            with OpenAI(base_url=url, api_key="none", max_retries=0) as connected:
                yield connected
        finally:
            server.terminate()
            server.wait(timeout=60)


def test_served_it_answers_as_it_does_here(client: OpenAI, greedy: Team) -> None:
    model = client.models.list().data[0].id
    for question in QUESTIONS[:4]:
        asked = {"model": model, "messages": [{"role": "user", "content": question}]}
        here = greedy.generate(question)
        whole = client.chat.completions.create(**asked)
        assert whole.choices[0].message.content == here.text
        assert whole.choices[0].finish_reason == here.finish
        assert whole.usage.completion_tokens == here.tokens
        chunks = client.chat.completions.create(**asked, stream=True)
        parts = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
        assert "".join(parts) == here.text
        assert len(parts) > here.tokens // 2


def test_a_served_seed_draws_the_same_again(client: OpenAI) -> None:
    model = client.models.list().data[0].id

    def draw(seed: int) -> str | None:
        answer = client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": QUESTIONS[0]}],
            temperature=1.0,
            seed=seed,
        )
        return answer.choices[0].message.content

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


def _templated(plain: Mapping[str, Plain]) -> list[Plain]:
    """Gemma is not asked in these."""
    smollm2, qwen = plain["smollm2"], plain["qwen"]
    return [smollm2, smollm2, qwen]


def _sets() -> list[str]:
    return [argument for setting in GREEDY for argument in ("--set", setting)]


def _environment() -> dict[str, str]:
    source = str(Path(__file__).parents[2] / "src")
    return os.environ | {"PYTHONPATH": source, "PYTHONIOENCODING": "utf-8"}


def _letters(text: str) -> str:
    """A printed answer without the marks of its speakers and the breaks of its lines."""
    return "".join(text.translate(dict.fromkeys(map(ord, "●▲■"))).split())


def _ready(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False
