"""What a study will take before it runs: tiles, pixels, bytes, seconds, memory and disk, stage by stage.

Counts are worked out from the survey, the scenes' headers and the grid. Times are measured on this machine, with this
study's own scenes and extractors: each stage as its process starts, and then a small piece of its work.
"""

from __future__ import annotations

from geopov.study.estimate.estimator import estimate_study
from geopov.study.estimate.result import Cost, Estimate, StageEstimate

__all__ = ["Cost", "Estimate", "StageEstimate", "estimate_study"]
