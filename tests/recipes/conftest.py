"""The fake registry of tests/gguf_registry.py."""

from tests.gguf_registry import publish, registry, tiny_gguf, tiny_model

__all__ = ["publish", "registry", "tiny_gguf", "tiny_model"]
