"""Answers in a format: a grammar for the whole answer, whoever writes its patches."""
