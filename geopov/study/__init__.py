"""Whole studies: the only room that knows several stages."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geopov.study.cells import CellModel
    from geopov.study.config import Study, read_study
    from geopov.study.countries import Country, read_countries, run_countries
    from geopov.study.downstream import downstream_scores
    from geopov.study.engine import StageOptions
    from geopov.study.estimate import estimate_study
    from geopov.study.execution import open_run
    from geopov.study.predict import predict_map
    from geopov.study.runner import prepare_study, run_study
    from geopov.study.stages import extract_features, load_model, open_scenes, scene_region
    from geopov.study.surveys import describe_survey
    from geopov.study.workflow import workflow_arguments

__all__ = [
    "CellModel",
    "Country",
    "StageOptions",
    "Study",
    "describe_survey",
    "downstream_scores",
    "estimate_study",
    "extract_features",
    "load_model",
    "open_run",
    "open_scenes",
    "predict_map",
    "prepare_study",
    "read_countries",
    "read_study",
    "run_countries",
    "run_study",
    "scene_region",
    "workflow_arguments",
]

_HOME = {
    "cells": ("CellModel",),
    "config": ("Study", "read_study"),
    "countries": ("Country", "read_countries", "run_countries"),
    "downstream": ("downstream_scores",),
    "engine": ("StageOptions",),
    "estimate": ("estimate_study",),
    "execution": ("open_run",),
    "predict": ("predict_map",),
    "runner": ("prepare_study", "run_study"),
    "stages": ("extract_features", "load_model", "open_scenes", "scene_region"),
    "surveys": ("describe_survey",),
    "workflow": ("workflow_arguments",),
}


def __getattr__(name: str) -> Any:
    # Every stage of a workflow reads the study first, and none of them needs all the others for that.
    for module, names in _HOME.items():
        if name in names:
            return getattr(importlib.import_module(f"geopov.study.{module}"), name)
    raise AttributeError(f"module 'geopov.study' has no attribute {name!r}")
