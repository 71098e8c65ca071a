from benchmarks.overhead.models import SHAPES, ModelPool
from benchmarks.overhead.workload import Workload, queries
from taketurns.checkpoints.text import TextCodec


def test_patches_fill_the_budget() -> None:
    assert Workload(batch=1, tokens=256).patches == (50, 50, 50, 50, 50, 6)
    assert Workload(batch=1, tokens=100).patches == (50, 50)


def test_prompts_are_as_long_as_they_should_be(tiny: ModelPool) -> None:
    codec = TextCodec.load(tiny.candidates[0].spec)
    workload = Workload(batch=3, tokens=8)
    lengths = [len(codec.encode(query.text or "")) for query in queries(workload, tiny.words)]
    assert lengths == [128, 128, 128]


def test_digits_are_single_tokens_and_nothing_ends_an_answer(tiny: ModelPool) -> None:
    codec = TextCodec.load(tiny.candidates[0].spec)
    assert [len(codec.encode(str(digit))) for digit in range(3)] == [1, 1, 1]
    assert codec.tokenizer.eos_token_id is None
    assert not any(map(codec.is_control, range(codec.size)))


def test_the_default_shape_has_about_100_million_weights() -> None:
    assert 95e6 < SHAPES["100m"].parameters < 100e6
    assert 8.0e9 < SHAPES["8b"].parameters < 8.1e9
