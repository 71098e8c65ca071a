"""A team in other programs: as a model of lm-evaluation-harness, inspect_ai and lighteval, on vLLM
servers and Ray, and as an export with a folded switcher.

The module of a harness is loaded only by this harness.
"""
