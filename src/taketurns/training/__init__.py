"""Learning a switcher from labels: a language model that reads the tagged trace, or a linear head.

Importing this package loads neither torch nor TRL.
"""

SWITCHER_SCHEMA = "taketurns.switcher/1"
"""Of the metrics in a folder with a trained switcher."""
