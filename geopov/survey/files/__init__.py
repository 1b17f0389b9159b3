"""Files as survey programmes ship them: archives, microdata with their labels, and tables."""
