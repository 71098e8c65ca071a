"""Helpers for all packages: whole-file writes, locks, seeds, checks of numbers. No models here."""
