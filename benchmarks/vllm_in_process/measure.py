"""What a team costs in vLLM: python -m benchmarks.vllm_in_process.measure [--size 135M] [--json]

Runs in an environment with vLLM (`make test-vllm` makes one) and its program `vllm` beside this
python. In one run: one bare model in vLLM's AsyncLLM; the bundled team, or one of random Llamas, in
this process, with a head inside its checkpoints and with a language model as the switcher, by
requests and by open requests; the same teams on `vllm serve`; the floor; the time to the first
token of a single answer; and the time and memory to start. Every answer has `--tokens` tokens in
patches of `--patch`, greedy, so that all write equally much. The systems take turns, `--rounds`
times, and the best of each counts; compare ratios, because absolute rates depend on the machine and
its other work.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random
from statistics import median
from time import monotonic, perf_counter, sleep
from typing import Any

import httpx
import psutil
import yaml

from taketurns import Query, Team, Trace
from taketurns.config.loading import load_team_config
from taketurns.config.team_config import TeamConfig
from taketurns.engines.vllm.engine import VllmEngine
from taketurns.engines.vllm.running import RunningModel
from taketurns.generation.team import SWITCHER
from taketurns.integrations.launch.plan import ONE_PROCESS
from taketurns.pocket.tasks import TASKS
from taketurns.switchers.factory import make_switcher
from taketurns.types import Delta

from .bare import Rates, rates, write
from .floor import RecordingEngine, floor_seconds
from .teams import NAMES, SIZES, VLLM, Size, write_teams

_READY = 1800  # seconds for the servers to start


@dataclass(frozen=True, slots=True)
class Figures:
    """A system's answers: `rate` is tokens a second at `at_a_time` answers, `first` the seconds to
    the first token of a single answer (median), `floor` the tokens a second if its turns took the
    least time, on processors that its models share. `busy` is the processor time of a token in
    seconds, of this process and all that it started: it changes least with the machine's other
    work."""

    system: str
    at_a_time: int
    tokens: int
    rate: float
    busy: float
    first: float
    load: float
    floor: float | None = None


@dataclass(frozen=True, slots=True)
class Start:
    """The seconds until a system is ready, and the bytes of this process and all that it started,
    with what processes share counted once."""

    system: str
    seconds: float
    memory: int


@dataclass(frozen=True, slots=True)
class Job:
    """What is measured: `answers` at a time, of `tokens` tokens in patches of `patch`."""

    size: Size
    answers: int
    tokens: int
    patch: int
    rounds: int
    singles: int
    floor: bool = True

    def settings(self) -> dict[str, Any]:
        return {
            "policy.patch_size": self.patch,
            "policy.max_tokens": self.tokens,
            "policy.temperature": 0.0,
            "policy.sampling": {"ignore_eos": True},
        }


class Questions:
    """Questions of the bundled world; none is given twice, so no prompt is in a cache."""

    def __init__(self) -> None:
        self._left = [query for task in TASKS.values() for query in task.queries("test")]
        Random(0).shuffle(self._left)
        self._given = 0

    def take(self, count: int) -> list[Query]:
        self._given += count
        taken = [self._left[i % len(self._left)] for i in range(self._given - count, self._given)]
        marks = range(self._given - count, self._given)
        return [
            replace(query, id=f"{mark}", text=f"{mark} {query.text}", messages=None)
            for mark, query in zip(marks, taken, strict=True)
        ]


async def answer_all(team: Team, queries: Sequence[Query]) -> tuple[int, float]:
    """Answer the queries at once; tokens and seconds."""
    began = perf_counter()
    traces: list[Trace] = await asyncio.gather(*map(team.agenerate, queries))
    seconds = perf_counter() - began
    if errors := [trace.error for trace in traces if trace.error]:
        raise SystemExit(errors[0])
    return sum(trace.tokens for trace in traces), seconds


async def first_token(team: Team, query: Query) -> float:
    """The seconds until the first token of a single answer."""
    began = perf_counter()
    stream = team.stream(query)
    try:
        async for event in stream:
            if isinstance(event, Delta) and event.tokens:
                return perf_counter() - began
    finally:
        await stream.aclose()
    raise SystemExit("an answer without a token")


async def measure_team(
    system: str, team: Team, job: Job, questions: Questions, known: Rates | None = None
) -> Figures:
    """Measure a team once, beside its floor if the `known` rates of its models are given."""
    recorder = RecordingEngine(team.engine, _engines(team))
    recorded = Team(team.candidates, recorder, team._switcher, team.policy)
    before = processor_time()
    tokens, seconds = await answer_all(recorded, questions.take(job.answers))
    busy = processor_time() - before
    firsts = [await first_token(team, query) for query in questions.take(job.singles)]
    return Figures(
        system=system,
        at_a_time=job.answers,
        tokens=tokens,
        rate=tokens / seconds,
        busy=busy / tokens,
        first=median(firsts),
        load=os.getloadavg()[0],
        floor=None if known is None else tokens / floor_seconds(recorder.turns, known),
    )


def _engines(team: Team) -> dict[str, str]:
    """The engine of each model, by the name of its candidate; an LM switcher is the last one."""
    names = [candidate.name for candidate in team.candidates]
    return dict(zip([*names, SWITCHER], [*names, names[-1]], strict=True))


async def measure_bare(team: Team, job: Job, questions: Questions) -> Figures:
    """One model with its own prompts of the same questions, by vLLM's interface alone."""
    engine = team.engine
    assert isinstance(engine, VllmEngine)
    model = await engine.running(team.candidates[0].name)

    async def prompts(count: int) -> list[list[int]]:
        drafts = [await team.draft(query) for query in questions.take(count)]
        return [list(draft.prompt(0)) for draft in drafts]

    many, few = await prompts(job.answers), await prompts(job.singles)
    before = processor_time()
    took = await engine.thread.run(lambda _: write(model, many, job.tokens))
    busy = processor_time() - before
    firsts = [await measure_single(engine, model, prompt) for prompt in few]
    tokens = job.answers * job.tokens
    return Figures(
        system="one model, vLLM alone",
        at_a_time=job.answers,
        tokens=tokens,
        rate=tokens / took[-1],
        busy=busy / tokens,
        first=median(firsts),
        load=os.getloadavg()[0],
    )


def processor_time() -> float:
    """The processor time so far, in seconds, of this process and of all that it started."""
    this = psutil.Process()
    times = [process.cpu_times() for process in (this, *this.children(recursive=True))]
    seconds: float = sum(time.user + time.system for time in times)
    return seconds


async def measure_single(engine: VllmEngine, model: RunningModel, prompt: Sequence[int]) -> float:
    """The seconds until the first token of a request on an idle engine."""
    took: list[float] = await engine.thread.run(lambda _: write(model, [prompt], 1))
    return took[0]


def resident() -> int:
    """The bytes of memory of this process and of all that it started."""
    this = psutil.Process()
    every = (this, *this.children(recursive=True))
    return sum(process.memory_full_info().pss for process in every)


async def in_process(
    configs: dict[str, TeamConfig], job: Job, questions: Questions
) -> AsyncIterator[Figures | Start]:
    """All systems that need no server, on the same engines."""
    began = perf_counter()
    folded, lm = configs["folded head"], configs["LM switcher"]
    async with Team.load(lm) as team:
        await team.prepare()
        yield Start("in process", perf_counter() - began, resident())
        engine = team.engine
        assert isinstance(engine, VllmEngine)
        switched = team.switched_by(make_switcher(folded.switcher, SWITCHER))
        teams = {"folded head": switched, "LM switcher": team}
        alone = team.alone(lm.candidates[-1].name)
        model = await engine.running(lm.candidates[-1].name)
        size = job.size
        known = None
        if job.floor:
            known = await engine.thread.run(lambda _: rates(model, size.rows, size.repeats))
            print(json.dumps(asdict(known)), file=sys.stderr, flush=True)
        for _ in range(job.rounds):
            yield await measure_bare(alone, job, questions)
            yield await measure_team("one model, alone", alone, job, questions, known)
            for name, each in teams.items():
                for kept in (False, True):
                    engine.keep_requests(kept)
                    how = "open requests" if kept else "requests"
                    system = f"{name}, in process, {how}"
                    yield await measure_team(system, each, job, questions, known)


async def over_http(
    configs: dict[str, TeamConfig], job: Job, questions: Questions, log: Path
) -> AsyncIterator[Figures | Start]:
    """The same teams on servers, as vLLM starts them and as `taketurns launch` does on a CPU."""
    first = next(iter(configs.values()))
    models = [candidate.spec.model for candidate in first.candidates]
    for how, flags in {"vllm serve": (), "taketurns launch": ONE_PROCESS}.items():
        began = perf_counter()
        with served(models, log, job.size.memory, flags) as urls:
            yield Start(how, perf_counter() - began, resident())
            for _ in range(job.rounds):
                for name, config in configs.items():
                    async with Team.load(on_servers(config, urls, log.parent)) as team:
                        await team.prepare()
                        yield await measure_team(f"{name}, {how}", team, job, questions)


def on_servers(config: TeamConfig, urls: dict[str, str], folder: Path) -> TeamConfig:
    """The team whose models are at these urls, by model."""
    assert config.source is not None
    content = yaml.safe_load(config.source.read_text())
    content["engine"] = {"kind": "http"}
    for entry, candidate in zip(content["candidates"], config.candidates, strict=True):
        entry["model"] = candidate.spec.model
        entry["urls"] = [urls[candidate.spec.model]]
    if config.switcher.spec is not None:
        content["switcher"]["model"] = config.switcher.spec.model
        content["switcher"]["urls"] = [urls[config.switcher.spec.model]]
    path = folder / f"served-{config.switcher.kind}.yaml"
    path.write_text(yaml.safe_dump(content))
    return replace(load_team_config(path), policy=config.policy)


@contextmanager
def served(
    models: Sequence[str], log: Path, memory: int, further: Sequence[str]
) -> Iterator[dict[str, str]]:
    """`vllm serve` for each model, with the arguments of the engines in process, and `further`."""
    program = Path(sys.executable).parent / "vllm"
    flags = [
        "--enforce-eager", "--max-model-len", str(VLLM["max_model_len"]), "--dtype", "float32",
        "--block-size", "32", "--no-enable-chunked-prefill", "--enable-prompt-tokens-details",
        "--kv-cache-memory-bytes", str(memory // len(models)),
        *further,
    ]  # fmt: skip
    environment = {
        **os.environ,
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_LOGGING_LEVEL": "ERROR",
    }
    urls, processes = {}, []
    try:
        with log.open("wb") as output:
            for model in models:
                with socket.create_server(("127.0.0.1", 0)) as listening:
                    port = listening.getsockname()[1]
                urls[model] = f"http://127.0.0.1:{port}"
                command = [str(program), "serve", model, "--port", str(port), *flags]
                processes.append(
                    subprocess.Popen(command, stdout=output, stderr=output, env=environment)
                )
        until = monotonic() + _READY
        for url in urls.values():
            while not _answers(url):
                if monotonic() > until or any(p.poll() is not None for p in processes):
                    raise SystemExit(log.read_text(errors="replace")[-3000:])
                sleep(1)
        yield urls
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(timeout=90)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


async def run(
    job: Job, candidates: Sequence[str], systems: Sequence[str]
) -> AsyncIterator[Figures | Start]:
    """Measure all systems."""
    questions = Questions()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        configs = {
            name: load_team_config(config.source, job.settings())
            for name, config in write_teams(folder, candidates, job.size).items()
            if config.source is not None
        }
        if "process" in systems:
            async for figures in in_process(configs, job, questions):
                yield figures
        if "servers" in systems:
            async for figures in over_http(configs, job, questions, folder / "servers.log"):
                yield figures


def table(found: Sequence[Figures | Start]) -> Iterator[str]:
    """The best round of each system, beside one model, and what each start took."""
    best: dict[str, Figures] = {}
    for each in found:
        if isinstance(each, Figures) and (
            each.system not in best or each.rate > best[each.system].rate
        ):
            best[each.system] = each
    one = best.get("one model, vLLM alone")
    yield "| | tokens/s | of one model | of its floor | processor, ms a token | first token, ms |"
    yield "|---|---|---|---|---|---|"
    for figures in best.values():
        floor = "" if figures.floor is None else f"{figures.rate / figures.floor:.2f}"
        of_one = "" if one is None else f"{figures.rate / one.rate:.2f}"
        yield (
            f"| {figures.system} | {figures.rate:.0f} | {of_one} | {floor} | "
            f"{1000 * figures.busy:.2f} | {1000 * figures.first:.0f} |"
        )
    for each in found:
        if isinstance(each, Start):
            yield f"{each.system}: {each.seconds:.0f} s to start, {each.memory / 2**30:.1f} GiB"


async def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=list(SIZES), default="pocket")
    parser.add_argument("--answers", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--patch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--singles", type=int, default=8)
    parser.add_argument("--candidates", default=",".join(NAMES))
    parser.add_argument("--systems", default="process,servers")
    parser.add_argument("--no-floor", action="store_true", help="where other work runs beside")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    size = SIZES[options.size]
    job = Job(
        size,
        answers=options.answers,
        tokens=options.tokens,
        patch=options.patch,
        rounds=options.rounds,
        singles=options.singles,
        floor=not options.no_floor,
    )
    found = []
    async for each in run(job, options.candidates.split(","), options.systems.split(",")):
        found.append(each)
        print(json.dumps(asdict(each)), file=sys.stderr, flush=True)
    print(json.dumps([asdict(each) for each in found]) if options.json else "\n".join(table(found)))


if __name__ == "__main__":
    asyncio.run(main())
