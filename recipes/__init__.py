"""Recipes: how the bundled checkpoints, the real models and a release are made."""
