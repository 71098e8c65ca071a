"""Exports a team's checkpoints with its head folded in, for servers."""
