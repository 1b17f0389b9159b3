"""Nightlights as the label of pretraining: sources, cleaning, values of tiles, classes, and points sampled by them."""
