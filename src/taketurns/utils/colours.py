"""Colours that colour-blind readers can tell apart."""

COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#F0E442", "#D55E00", "#0072B2")
"""Okabe and Ito's, as hexadecimal RGB, without their black."""
