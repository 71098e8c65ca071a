"""Scores of existing answers."""
