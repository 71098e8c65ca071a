"""The cost of taking turns compared with one model alone; see benchmarks/README.md."""
