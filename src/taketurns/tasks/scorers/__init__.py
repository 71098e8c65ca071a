"""Scorers of answers; each is for one kind of answer. `registry.py` has them by name."""
