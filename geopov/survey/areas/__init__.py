"""Clusters from a census: areas, their names, and recipes that join polygons to counts."""
