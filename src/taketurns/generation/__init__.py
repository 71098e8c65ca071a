"""The loop: candidates take turns writing one answer."""
