"""Training: a switcher from labels, a switcher on reward, and a student of the team (distillation).

Importing this package loads neither torch nor TRL.
"""

SWITCHER_SCHEMA = "taketurns.switcher/1"
"""The schema of metrics.json in a folder with a trained switcher."""
