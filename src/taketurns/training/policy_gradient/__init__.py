"""Learning a switcher from the reward of whole answers, by policy gradient.

The flow: `sampling` has the switcher switch several answers to each question, `objective` says what
each decision was worth beside the other answers to its question, a learner (`head`, `lm`) moves the
switcher that way, and `run` goes round, keeps the best and writes what `taketurns train` writes.
"""
