"""Calls of tools: the formats in which models write them, and conversations that have them."""
