"""Tiles to classes of any label, with calibrated probabilities, in one stage or two, and pages to look at them."""
