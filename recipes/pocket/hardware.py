"""Abilities of this machine."""

from __future__ import annotations


def can_bf16() -> bool:
    """Can the CPU multiply bfloat16 natively? This nearly halves a training step."""
    import torch

    flags = torch.backends.cpu.get_cpu_capability()
    native = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
    return flags.startswith("AVX512") and bool(native)
