"""Scoring answers that somebody already has."""
