"""Training a switcher on reward: policy gradient on the scores of whole answers.

`sampling` lets the team write several answers to each question, `objective` computes the advantage
of each decision against the other answers to its question, a learner (`head`, `lm`) updates the
switcher, and `run` repeats this, keeps the best step and writes the same files as `taketurns
train`.
"""
