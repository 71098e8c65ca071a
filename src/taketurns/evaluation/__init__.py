"""Methods on tasks: every answer kept, what it cost, and what follows from all of them.

Importing this package loads neither torch nor scipy.
"""
