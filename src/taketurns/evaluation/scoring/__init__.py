"""Scoring answers that are written already."""
