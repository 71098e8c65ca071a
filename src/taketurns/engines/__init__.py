"""Engines run the models: the protocol, and its implementations."""
