"""A deferral head, trained without labels on texts (Co-LLM, arXiv 2403.03870)."""
