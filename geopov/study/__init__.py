"""Whole studies: the only room that knows several stages."""

from geopov.study.config import Study, read_study
from geopov.study.runner import prepare_study, run_study
from geopov.study.stages import CellModel, extract_features, open_scenes, predict_map
from geopov.study.surveys import describe_survey
from geopov.study.workflow import workflow_arguments

__all__ = [
    "CellModel",
    "Study",
    "describe_survey",
    "extract_features",
    "open_scenes",
    "predict_map",
    "prepare_study",
    "read_study",
    "run_study",
    "workflow_arguments",
]
