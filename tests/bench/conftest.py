from collections.abc import Iterator

import pytest

from taketurns.bench.models import Pool, random_pool


@pytest.fixture(scope="package")
def tiny() -> Iterator[Pool]:
    with random_pool("tiny", "cpu") as pool:
        pool.load()
        yield pool
