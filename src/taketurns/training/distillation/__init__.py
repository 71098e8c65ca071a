"""Distilling a team: one of its checkpoints is trained to write what the team wrote.

Answers are sampled (`sampling`), the good ones are kept (`filtering`) and made into token rows
(`rows`) with the speakers' distributions (`targets`); the student is trained on them (`objective`,
`training/fine_tuning.py`) and compared with the team (`comparison`, `summary`). Importing this
package loads neither torch nor TRL.
"""
