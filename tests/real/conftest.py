"""Where the real inputs are; without them these tests are skipped."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

DATA = Path(os.environ.get("GEOPOV_REAL_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))


@pytest.fixture
def real_data(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of real inputs, also in the environment for the catalogue beside this file."""
    if not DATA.is_dir():
        pytest.skip(f"there is no folder {DATA}; set GEOPOV_REAL_DATA to the real inputs")
    monkeypatch.setenv("GEOPOV_REAL_DATA", str(DATA))
    return DATA
