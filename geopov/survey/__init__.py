"""Survey clusters: where households were asked, and what they said.

Three ways lead to the same table of clusters: a table of clusters (:func:`read_clusters`), households
(:func:`aggregate_households`), and the areas of a census (:func:`read_areas`, :func:`build_areas`).
"""

from geopov.survey.areas import density_outliers, read_areas
from geopov.survey.clusters import dropped, read_clusters, write_clusters
from geopov.survey.households import aggregate_households
from geopov.survey.names import NameRules, match_names
from geopov.survey.recipe import AreaRecipe, build_areas, read_recipe

__all__ = [
    "AreaRecipe",
    "NameRules",
    "aggregate_households",
    "build_areas",
    "density_outliers",
    "dropped",
    "match_names",
    "read_areas",
    "read_clusters",
    "read_recipe",
    "write_clusters",
]
