"""What the stored answers of an evaluation say about who writes what, and whether it helps.

Every analysis is a function from answers (`answers.py`) to a frozen result, and `sections/` renders
each result for the report. What is measured by answering anew is a section too: the report shows
every section in its folder.
"""
