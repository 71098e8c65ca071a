"""What taking turns costs in time and memory, as one table."""
