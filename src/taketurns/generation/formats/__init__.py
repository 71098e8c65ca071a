"""Answers in a format: one grammar for the whole answer, for all of its speakers."""
