"""Methods: ways to answer with the same checkpoints, which a switching team is compared with."""
