"""Other ways to answer with the same checkpoints: what taking turns is compared with."""
