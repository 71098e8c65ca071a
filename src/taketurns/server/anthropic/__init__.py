"""Anthropic's Messages API: the same answers in its form."""
