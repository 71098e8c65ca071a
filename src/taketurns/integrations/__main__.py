"""Prints the path of the model definition for lighteval."""

from pathlib import Path

print(Path(__file__).with_name("lighteval.py"))  # noqa: T201
