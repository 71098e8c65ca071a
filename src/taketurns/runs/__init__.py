"""Runs: records in files, resumed after a kill, with a manifest of what they were made with."""
