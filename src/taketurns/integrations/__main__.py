"""Prints where lighteval's model definition is."""

from pathlib import Path

print(Path(__file__).with_name("lighteval.py"))  # noqa: T201
