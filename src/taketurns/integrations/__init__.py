"""A team as a model in the harnesses that people use: lm-evaluation-harness, inspect_ai, lighteval.

Each module here is loaded by its harness alone.
"""
