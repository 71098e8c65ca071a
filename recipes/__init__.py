"""How what the project stands on is made."""
