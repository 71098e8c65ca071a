"""Tasks: questions by split, and scorers of their answers."""
