"""Training a switcher from labels: a language model or a linear head."""
