"""The recipe of the team `smol`: real weights, real questions, two stages trained on a laptop."""
