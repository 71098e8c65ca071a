"""The timed variants: ways of writing the same answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from benchmarks.overhead.forgetful import ForgetfulEngine
from benchmarks.overhead.impartial import ImpartialSwitcher
from benchmarks.overhead.memory import peak_memory
from benchmarks.overhead.models import ModelPool
from benchmarks.overhead.plain import generate
from benchmarks.overhead.public import PublicAnswer, PublicLoop
from benchmarks.overhead.weights import same_attention
from benchmarks.overhead.workload import CANDIDATES, Workload, queries
from taketurns.checkpoints.prompts import TaggedTrace
from taketurns.checkpoints.text import SharedVocabulary, TextCodec
from taketurns.engines.base import Engine
from taketurns.errors import EngineError
from taketurns.generation.team import SWITCHER, Team
from taketurns.switchers.base import Switcher
from taketurns.switchers.lm import LMSwitcher
from taketurns.switchers.simple import RandomSwitcher
from taketurns.types import Query


@dataclass(frozen=True, slots=True)
class VariantRun:
    """One run of a variant: wall-clock `seconds`, `peak` bytes above the loaded models, and the
    seconds that a switcher which samples text would save by stopping at its first token."""

    seconds: float
    peak: int | None
    rambling: float = 0.0


Variant = Callable[[ModelPool, Workload], VariantRun]


def single(pool: ModelPool, workload: Workload) -> VariantRun:
    """One candidate by transformers' own generate."""
    model = pool.model(pool.candidates[0].name)
    codec = TextCodec.load(pool.candidates[0].spec)
    prompts = [codec.encode(query.text or "") for query in queries(workload, pool.words)]
    with peak_memory(pool.device) as memory:
        begun = workload.now()
        written = generate(
            model, prompts, workload.tokens, temperature=workload.temperature, top_p=workload.top_p
        )
        seconds = workload.now() - begun
    _require_full(map(len, written), workload)
    return VariantRun(seconds, memory.bytes)


def kept(pool: ModelPool, workload: Workload) -> VariantRun:
    """The team with kept caches, random speakers."""
    return _team(pool, workload, pool.engine(), RandomSwitcher())


def kept_with_switcher(pool: ModelPool, workload: Workload) -> VariantRun:
    """The team with kept caches and a switcher of a candidate's size."""
    return _team(
        pool, workload, pool.engine(switcher=True), ImpartialSwitcher(LMSwitcher(SWITCHER))
    )


def reencode(pool: ModelPool, workload: Workload) -> VariantRun:
    """The team without kept caches, random speakers."""
    return _team(pool, workload, ForgetfulEngine(pool.engine()), RandomSwitcher())


def deterministic(pool: ModelPool, workload: Workload) -> VariantRun:
    """`kept` with tokens that do not depend on the batch."""
    with same_attention(pool.model(candidate.name) for candidate in pool.candidates):
        return _team(pool, workload, pool.engine(deterministic=True), RandomSwitcher())


def public(pool: ModelPool, workload: Workload) -> VariantRun:
    """The loop as public code runs it, with a switcher of a candidate's size."""
    codec = TextCodec.load(pool.candidates[0].spec)
    loop = PublicLoop(
        [pool.model(candidate.name) for candidate in pool.candidates],
        pool.model(SWITCHER),
        workload.policy,
        now=workload.now,
    )
    answers = [
        PublicAnswer(
            [codec.encode(query.text or "")] * CANDIDATES, tagged_trace(codec, query), turns
        )
        for query, turns in zip(queries(workload, pool.words), workload.turns, strict=True)
    ]
    with peak_memory(pool.device) as memory:
        begun = workload.now()
        run = loop.run(answers)
        seconds = workload.now() - begun
    _require_full((len(answer.token_ids) for answer in answers), workload)
    return VariantRun(seconds, memory.bytes, run.rambling)


VARIANTS: Mapping[str, Variant] = MappingProxyType(
    {
        "single": single,
        "kept": kept,
        "kept_with_switcher": kept_with_switcher,
        "reencode": reencode,
        "public": public,
        "deterministic": deterministic,
    }
)


def tagged_trace(codec: TextCodec, query: Query) -> TaggedTrace:
    """The text of a query for a switcher that shares its tokens with the candidates."""
    return TaggedTrace(codec, query, range(CANDIDATES), vocabulary=SharedVocabulary.of([codec]))


def _team(pool: ModelPool, workload: Workload, engine: Engine, switcher: Switcher) -> VariantRun:
    return asyncio.run(_write(pool, workload, engine, switcher))


async def _write(
    pool: ModelPool, workload: Workload, engine: Engine, switcher: Switcher
) -> VariantRun:
    """Write all answers of a batch at once; loading comes first and is not timed."""
    async with Team(pool.candidates, engine, switcher, workload.policy) as team:
        await team.prepare()
        async with engine.session(0, 1):  # a switcher's weights load with the first session
            pass
        asked = queries(workload, pool.words)
        with peak_memory(pool.device) as memory:
            begun = workload.now()
            traces = await asyncio.gather(*map(team.agenerate, asked))
            seconds = workload.now() - begun
    for trace, turns in zip(traces, workload.turns, strict=True):
        if trace.error is not None:
            raise EngineError(trace.error)
        if tuple(patch.speaker for patch in trace.patches) != turns:
            raise EngineError(
                f"the answer {trace.query.id} has other speakers than the workload draws: the "
                "variants cannot be compared"
            )
    _require_full((trace.tokens for trace in traces), workload)
    return VariantRun(seconds, memory.bytes)


def _require_full(lengths: Iterable[int], workload: Workload) -> None:
    written = list(lengths)
    if written != [workload.tokens] * workload.batch:
        raise EngineError(
            f"the answers have {written} tokens instead of {workload.tokens} each: the variants "
            "cannot be compared"
        )
