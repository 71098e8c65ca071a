"""vLLM servers for a team: their commands and GPUs, and a supervisor that keeps them running."""
