"""Seeing what a network sees: the tiles that move its filters and classes most, and where in them it looks.

from geopov.features.explanation.report import explain

explain(extractor, tiles, folder="explained", values=points.set_index("cluster_id")["lights"])
"""
