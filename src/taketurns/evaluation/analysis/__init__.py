"""Analysis of an evaluation's stored answers: speakers, sequences, skills and their effects.

Each analysis is a function from answers (`answers.py`) to a frozen result, and `sections/` renders
each result for the report. The report shows every section in its folder, including those of
experiments, which need new answers.
"""
