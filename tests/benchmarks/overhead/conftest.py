from collections.abc import Iterator

import pytest

from benchmarks.overhead.models import ModelPool, random_pool
from benchmarks.overhead.weights import same_attention


@pytest.fixture(scope="package")
def tiny() -> Iterator[ModelPool]:
    with random_pool("tiny", "cpu") as pool:
        pool.load()
        yield pool


@pytest.fixture(autouse=True)
def _attention(tiny: ModelPool) -> Iterator[None]:
    with same_attention(tiny.model(name) for name in tiny.specs(True)):
        yield
