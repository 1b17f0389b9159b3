"""From image features to welfare: ridge, honest splits, baselines, scores, intervals and the report.

The stage in one call is :func:`evaluate`; :func:`cross_validate` is the same without files.
"""

from geopov.regression.banded import BandedRidge
from geopov.regression.baselines import Baseline, baselines_for
from geopov.regression.boosting import WelfareBoosting
from geopov.regression.cross_validation import CrossValidation, cross_validate
from geopov.regression.curves import poorest_curve
from geopov.regression.evaluate import evaluate
from geopov.regression.fusion import fuse
from geopov.regression.given import read_predictions, score_predictions
from geopov.regression.intervals import Coverage, Intervals
from geopov.regression.kriging import OrdinaryKriging
from geopov.regression.leakage import check_leakage
from geopov.regression.model import WelfareModel
from geopov.regression.neighbours import WelfareNeighbours
from geopov.regression.nested import NestedFit, nested_ridge
from geopov.regression.permutation import PermutationTest, permutation_test, repeat_splits
from geopov.regression.report import render_report
from geopov.regression.ridge import WelfareRidge
from geopov.regression.sample import footprint_km
from geopov.regression.scores import compare, score, score_table
from geopov.regression.shrinkage import Deshrinkage, bias_by_decile, shrinkage_table
from geopov.regression.splits import (
    GivenFolds,
    LeaveOneCountryOut,
    LeaveOneSurveyOut,
    RandomFolds,
    SpatialBlocks,
    Splits,
)
from geopov.regression.subsets import scores_by_subset
from geopov.regression.support import Support
from geopov.regression.variogram import BlockAdvice, Variogram, empirical_variogram, suggest_block_km

__all__ = [
    "BandedRidge",
    "Baseline",
    "BlockAdvice",
    "Coverage",
    "CrossValidation",
    "Deshrinkage",
    "GivenFolds",
    "Intervals",
    "LeaveOneCountryOut",
    "LeaveOneSurveyOut",
    "NestedFit",
    "OrdinaryKriging",
    "PermutationTest",
    "RandomFolds",
    "SpatialBlocks",
    "Splits",
    "Support",
    "Variogram",
    "WelfareBoosting",
    "WelfareModel",
    "WelfareNeighbours",
    "WelfareRidge",
    "baselines_for",
    "bias_by_decile",
    "check_leakage",
    "compare",
    "cross_validate",
    "empirical_variogram",
    "evaluate",
    "footprint_km",
    "fuse",
    "nested_ridge",
    "permutation_test",
    "poorest_curve",
    "read_predictions",
    "render_report",
    "repeat_splits",
    "score",
    "score_predictions",
    "score_table",
    "scores_by_subset",
    "shrinkage_table",
    "suggest_block_km",
]
