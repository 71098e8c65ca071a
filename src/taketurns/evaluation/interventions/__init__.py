"""What only new answers can say about a team: who helps, which order of speakers, how well the
switcher knows, and whether what it learned carries over.

Modules that ask an engine (`forcing`, `decisions`, `conditions`) write records; pure functions
(`effects`, `helpfulness`, `calibration`, `signatures`) make frozen results of them; `telling`
says them in the report's form.
"""
