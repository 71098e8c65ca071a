"""Learning a switcher from labels: a language model that reads the tagged trace, or a linear
head."""
