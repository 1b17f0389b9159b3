"""A country made up for the whole path: image, nightlights, census and survey that follow from one known truth."""
