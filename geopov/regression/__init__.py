"""From image features to welfare: ridge, honest splits, baselines, scores, intervals and the report.

The stage in one call is :func:`evaluate`; :func:`cross_validate` is the same without files.
"""

from geopov.regression.baselines import WelfareNeighbours, nightlights_baselines
from geopov.regression.cross_validation import CrossValidation, cross_validate
from geopov.regression.evaluate import evaluate
from geopov.regression.intervals import Coverage, Support
from geopov.regression.model import WelfareModel
from geopov.regression.report import render_report
from geopov.regression.ridge import WelfareRidge
from geopov.regression.scores import compare, score, score_table
from geopov.regression.splits import GivenFolds, RandomFolds, SpatialBlocks, Splits

__all__ = [
    "Coverage",
    "CrossValidation",
    "GivenFolds",
    "RandomFolds",
    "SpatialBlocks",
    "Splits",
    "Support",
    "WelfareModel",
    "WelfareNeighbours",
    "WelfareRidge",
    "compare",
    "cross_validate",
    "evaluate",
    "nightlights_baselines",
    "render_report",
    "score",
    "score_table",
]
