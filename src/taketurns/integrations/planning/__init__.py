"""How large a deployment must be: a team on replicas, simulated with measured costs."""
