"""Survey clusters: where households were asked, and what they said.

Five ways lead to the same table of clusters: the files of the DHS Program (:func:`dhs_clusters`) and of LSMS surveys
(:func:`lsms_clusters`), a table of clusters (:func:`read_clusters`) or of households (:func:`aggregate_households`),
and the areas of a census (:func:`read_areas`, :func:`build_areas`).
"""

from geopov.survey.areas.names import NameRules, match_names
from geopov.survey.areas.polygons import density_outliers, read_areas
from geopov.survey.areas.recipe import AreaRecipe, build_areas, read_recipe
from geopov.survey.assets.asset_index import AssetIndex
from geopov.survey.assets.deprivation import deprivation_score, deprivations
from geopov.survey.assets.iwi import iwi
from geopov.survey.clusters import dropped, read_clusters, write_clusters
from geopov.survey.data_dictionary import dictionary
from geopov.survey.describe import FileDescription, clusters_in, describe_files, draw_clusters, text_map
from geopov.survey.design import aggregate_clusters, estimate
from geopov.survey.dhs import DhsSurvey, read_dhs
from geopov.survey.displacement.attenuation import Attenuation, attenuation
from geopov.survey.displacement.draws import average_over_draws
from geopov.survey.displacement.positions import (
    RULES,
    DisplacementRule,
    check_window,
    displace,
    displacement_km,
    draw_positions,
    minimum_window_km,
)
from geopov.survey.households import aggregate_households
from geopov.survey.lsms import Adapter, Ppp, adapter_names, adapter_table, read_adapter, read_lsms
from geopov.survey.poverty import fgt, shortfalls
from geopov.survey.sampling import within_cluster_sd
from geopov.survey.welfare import DHS_OUTCOMES, describe_measures, dhs_clusters, lsms_clusters
from geopov.survey.year_gap import GAPS, gap_text, limit_year_gap, year_gap

__all__ = [
    "DHS_OUTCOMES",
    "GAPS",
    "RULES",
    "Adapter",
    "AreaRecipe",
    "AssetIndex",
    "Attenuation",
    "DhsSurvey",
    "DisplacementRule",
    "FileDescription",
    "NameRules",
    "Ppp",
    "adapter_names",
    "adapter_table",
    "aggregate_clusters",
    "aggregate_households",
    "attenuation",
    "average_over_draws",
    "build_areas",
    "check_window",
    "clusters_in",
    "density_outliers",
    "deprivation_score",
    "deprivations",
    "describe_files",
    "describe_measures",
    "dhs_clusters",
    "dictionary",
    "displace",
    "displacement_km",
    "draw_clusters",
    "draw_positions",
    "dropped",
    "estimate",
    "fgt",
    "gap_text",
    "iwi",
    "limit_year_gap",
    "lsms_clusters",
    "match_names",
    "minimum_window_km",
    "read_adapter",
    "read_areas",
    "read_clusters",
    "read_dhs",
    "read_lsms",
    "read_recipe",
    "shortfalls",
    "text_map",
    "within_cluster_sd",
    "write_clusters",
    "year_gap",
]
