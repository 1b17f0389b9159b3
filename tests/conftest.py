"""What holds for every test, however many run side by side."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Rich asks the terminal for its width when it is imported, and beside other tests there is none to ask.
os.environ["COLUMNS"] = "120"

# Files of more than about 15 seconds of one core, the longest first. Files are handed out to the processes in the order
# of collection, so that a long one that came last would keep one process at work while the others wait.
LONGEST = (
    "real/test_studies.py",
    "study/test_end_to_end.py",
    "study/test_network.py",
    "study/test_surveys.py",
    "test_notebooks.py",
    "study/test_cells.py",
    "study/test_cluster.py",
    "study/test_estimate.py",
    "study/test_countries.py",
    "regression/test_cross_validation.py",
    "features/test_pretrain_resume.py",
    "real/test_pretraining_real.py",
    "real/test_fusion_real.py",
    "real/test_extractors_real.py",
    "features/test_pretrain_ddp.py",
    "features/test_networks.py",
    "features/test_pretrain.py",
    "survey/test_displacement.py",
    "features/test_compare.py",
    "features/test_explain.py",
    "features/test_classify_network.py",
    "features/test_backbones.py",
)
_TURN = {Path(__file__).parent / name: turn for turn, name in enumerate(LONGEST)}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first; the others, and the tests within each file, stay in their order."""
    items.sort(key=lambda item: _TURN.get(item.path, len(LONGEST)))
