"""Convolutional networks: their weights and cards, how they are cut, made over for other bands, and run."""
