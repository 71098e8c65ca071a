import pytest

from benchmarks.overhead.floor import ForwardWork, Rates, catch_up, switcher_work, team_work
from benchmarks.overhead.models import ModelPool
from benchmarks.overhead.overhead import switcher_work_of
from benchmarks.overhead.variants import tagged_trace
from benchmarks.overhead.workload import Workload, queries
from taketurns.checkpoints.text import TextCodec
from taketurns.generation.team import SWITCHER, Team
from taketurns.switchers.lm import LMSwitcher


def test_a_speaker_catches_up_with_what_others_wrote() -> None:
    # prompt 10; patches of 4: 0 writes, goes on, 1 writes, 0 comes back, 2 is new
    assert catch_up(10, [4, 4, 4, 4, 4], [0, 0, 1, 0, 2]) == (10, 1, 18, 5, 26)


def test_answers_in_step_share_forwards(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = ((0, 0), (0, 1), (2, 1))
    monkeypatch.setattr(Workload, "turns", turns)
    work = team_work(Workload(batch=3, tokens=8, prompt=10, patch=4))
    # Round 1: models 0 (two rows) and 2 (one). Round 2: 0 goes on alone, 1 reads for two.
    assert work.steps == {2: 3 + 3, 1: 3 + 3 + 1}
    assert work.read == {2: 10 + 10 + 14 + 14, 1: 10}
    # Adapters on one base: all three rows in every step, those that go on in one of one row.
    shared = team_work(Workload(batch=3, tokens=8, prompt=10, patch=4), shared=True)
    assert shared.steps == {3: 3 + 3, 1: 1}
    assert shared.read == {3: 10 + 10 + 10, 2: 14 + 14}


def test_the_floor_is_work_times_rates() -> None:
    rates = Rates(step={1: 2.0, 3: 4.0}, read={1: 0.5})
    assert rates.seconds(ForwardWork(steps={1: 10, 3: 2}, read={1: 6})) == 20 + 8 + 3
    assert (ForwardWork({1: 1}, {1: 5}) + ForwardWork({1: 2}, {3: 7})).read == {1: 5, 3: 7}


async def test_the_engine_reads_exactly_what_the_floor_counts(tiny: ModelPool) -> None:
    workload = Workload(batch=1, tokens=45, prompt=20, patch=7, temperature=0)
    engine = tiny.engine(switcher=True)
    async with Team(tiny.candidates, engine, LMSwitcher(SWITCHER), workload.policy) as team:
        trace = await team.agenerate(queries(workload, tiny.words)[0])
        turns = [patch.speaker for patch in trace.patches if patch.speaker is not None]
        read = sum(engine.counters(c.name).encoded_tokens for c in tiny.candidates)
        assert read == sum(catch_up(workload.prompt, workload.patches, turns))
        work = switcher_work_of(tiny, workload)
        assert engine.counters(SWITCHER).encoded_tokens == work.tokens_read


def test_the_switcher_reads_patches_tags_and_question(tiny: ModelPool) -> None:
    workload = Workload(batch=2, tokens=20, prompt=16, patch=8)
    work = switcher_work(workload, tags=10, question=22)
    assert work.read == {2: 2 * (16 + 16 + 2 * 10 + 3 * 22)}
    codec = TextCodec.load(tiny.candidates[0].spec)
    query = queries(workload, tiny.words)[0]
    assert len(tagged_trace(codec, query).prompt(())) == 16 + 22
