"""A router that picks who writes each token and corrects it (FusionRoute, arXiv 2601.05106)."""
