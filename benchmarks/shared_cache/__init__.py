"""Do checkpoints of one pipeline read each other's keys and values?"""
