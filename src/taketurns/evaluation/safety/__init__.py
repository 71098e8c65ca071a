"""How often a team complies with harmful requests, and the cost of rules that prevent it."""
