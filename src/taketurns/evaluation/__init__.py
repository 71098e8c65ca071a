"""Evaluation of methods on tasks: stored answers, their scores and costs, and statistics of them.

Importing this package loads neither torch nor scipy.
"""
