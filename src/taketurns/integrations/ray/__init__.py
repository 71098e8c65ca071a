"""Answers and rollouts on Ray."""
