"""Whole studies: the only room that knows several stages."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geopov.study.config import Study, read_study
    from geopov.study.downstream import downstream_scores
    from geopov.study.runner import prepare_study, run_study
    from geopov.study.stages import CellModel, extract_features, load_model, open_scenes, predict_map, scene_region
    from geopov.study.surveys import describe_survey
    from geopov.study.workflow import workflow_arguments

__all__ = [
    "CellModel",
    "Study",
    "describe_survey",
    "downstream_scores",
    "extract_features",
    "load_model",
    "open_scenes",
    "predict_map",
    "prepare_study",
    "read_study",
    "run_study",
    "scene_region",
    "workflow_arguments",
]

_HOME = {
    "config": ("Study", "read_study"),
    "downstream": ("downstream_scores",),
    "runner": ("prepare_study", "run_study"),
    "stages": ("CellModel", "extract_features", "load_model", "open_scenes", "predict_map", "scene_region"),
    "surveys": ("describe_survey",),
    "workflow": ("workflow_arguments",),
}


def __getattr__(name: str) -> Any:
    # Every stage of a workflow reads the study first, and none of them needs all the others for that.
    for module, names in _HOME.items():
        if name in names:
            return getattr(importlib.import_module(f"geopov.study.{module}"), name)
    raise AttributeError(f"module 'geopov.study' has no attribute {name!r}")
