"""Experiments on a team, which need new answers: the contribution of each candidate, the effect of
sequences of speakers, the quality of the switcher's decisions, and its generalisation.

Modules that ask an engine (`forcing`, `decisions`, `conditions`) write records; pure functions
(`effects`, `shapley`, `calibration`, `invariance`) compute frozen results from them; `sections`
renders the results for the report.
"""
