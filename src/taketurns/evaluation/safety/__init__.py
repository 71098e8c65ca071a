"""How often a team complies where it should not, and what keeping it from that costs."""
