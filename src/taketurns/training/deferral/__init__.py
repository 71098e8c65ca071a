"""A deferral head: trained without labels on texts (Co-LLM, arXiv 2403.03870), or on where the
answers of two models part (R2R, 2505.21600)."""
