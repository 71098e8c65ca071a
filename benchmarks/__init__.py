"""Benchmarks of the software's costs and of its methods; run `python -m benchmarks.NAME`."""
