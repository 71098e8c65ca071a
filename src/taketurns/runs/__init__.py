"""Runs: records in files, with a manifest of their inputs; a killed run can be continued."""
