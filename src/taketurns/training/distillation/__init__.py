"""Distilling a team: one of its checkpoints learns to write what the team wrote.

Answers are sampled (`sampling`), the good ones kept (`keeping`), made into rows (`rows`) with the
speakers' distributions beside them (`targets`), learned (`tuning`, `trainer`) and the student asked
beside the team (`comparing`, `gain`). Importing this package loads neither torch nor TRL.
"""
