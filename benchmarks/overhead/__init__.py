"""What taking turns costs beside one model alone. benchmarks/README.md says what is measured."""
