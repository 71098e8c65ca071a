"""A team's checkpoints, written for where they are to run."""
