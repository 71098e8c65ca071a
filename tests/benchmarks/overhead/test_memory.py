import pytest
import torch

from benchmarks.overhead.memory import peak_memory
from benchmarks.processes import PROC


@pytest.mark.skipif(not PROC.exists(), reason="needs Linux' /proc")
def test_the_peak_is_seen_though_it_passes() -> None:
    size = 64 << 20
    with peak_memory(torch.device("cpu")) as memory:
        for _ in range(20):
            held = torch.ones(size // 4)
            held.sum()
        del held
    assert memory.bytes is not None
    assert size * 0.9 < memory.bytes < size * 4
