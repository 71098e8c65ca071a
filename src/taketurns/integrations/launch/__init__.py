"""vLLM servers for a team: which commands, on which GPUs, and keeping them running."""
