"""Sizing a deployment: a simulation of a team on replicas, with measured costs."""
