"""Tests that run where vLLM is installed; `test_in_process.py` starts them there."""

from __future__ import annotations

import os

import pytest

if not os.environ.get("TAKETURNS_INSIDE_VLLM"):
    pytest.skip("these run in vLLM's environment: make test-vllm", allow_module_level=True)
