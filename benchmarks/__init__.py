"""What the software costs and what its methods are worth; `python -m benchmarks.NAME` of each."""
