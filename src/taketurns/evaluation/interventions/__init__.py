"""What only new answers can say about a team: who helps, which order of speakers, how well the
switcher knows, and whether what it learned carries over.

Modules that ask an engine (`forcing`, `decisions`, `conditions`) write records; pure functions
(`effects`, `shapley`, `calibration`, `invariance`) make frozen results of them; `sections` renders
these for the report.
"""
