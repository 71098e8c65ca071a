"""How the bundled checkpoints and their switchers are made: `python -m recipes.pocket`."""
