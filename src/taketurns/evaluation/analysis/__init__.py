"""What the stored answers of an evaluation say about who writes what, and whether it helps.

Every analysis is a function from turns (`turns.py`) to a frozen result; `sections.py` is the form
in which results reach the report. What is measured by answering anew is a section too: the report
shows every section in its folder, whoever wrote it.
"""
