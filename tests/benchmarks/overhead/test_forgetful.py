from benchmarks.overhead.forgetful import ForgetfulEngine
from benchmarks.overhead.models import ModelPool
from benchmarks.overhead.workload import Workload, queries
from taketurns.generation.team import SWITCHER, Team
from taketurns.switchers.lm import LMSwitcher

SETTING = Workload(batch=1, tokens=40, prompt=20, patch=6, temperature=0)


async def test_forgetting_changes_the_cost_and_not_the_answer(tiny: ModelPool) -> None:
    query = queries(SETTING, tiny.words)[0]
    keeping = tiny.engine(deterministic=True, switcher=True)
    forgetting = tiny.engine(deterministic=True, switcher=True)
    traces, read = [], []
    for engine, seen in ((keeping, keeping), (ForgetfulEngine(forgetting), forgetting)):
        switcher = LMSwitcher(SWITCHER)
        async with Team(tiny.candidates, engine, switcher, SETTING.policy) as team:
            traces.append(await team.agenerate(query))
            read.append(sum(seen.counters(name).encoded_tokens for name in tiny.specs(True)))
    kept, anew = traces
    assert [p.token_ids for p in anew.patches] == [p.token_ids for p in kept.patches]
    assert [p.speaker for p in anew.patches] == [p.speaker for p in kept.patches]
    assert read[1] > 2 * read[0]


async def test_every_call_of_a_session_starts_from_nothing(tiny: ModelPool) -> None:
    engine = tiny.engine()
    forgetful = ForgetfulEngine(engine)
    name = tiny.candidates[0].name
    try:
        async with forgetful.session(1, 64) as session:
            for _ in range(3):
                await session.score(name, list(range(12)), [0])
        assert engine.counters(name).encoded_tokens == 36
    finally:
        await forgetful.close()
