"""Notebooks run from the first cell to the last."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from geopov.catalog import open_catalog
from geopov.errors import OfflineError, SourceNotFoundError

ROOT = Path(__file__).parents[1]
# What a notebook must have printed for its point to be made.
SAID = {
    "01_whole_path": "beats nightlights alone",
    "02_surveys": "large enough: 10.0 km",
    "03_network": "trained on nightlights: r²",
}
# Those that need nothing from a registry.
OFFLINE = {"02_surveys", "03_network"}


# The kernel's own machinery, not ours.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::RuntimeWarning")
@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.stem, marks=() if path.stem in OFFLINE else pytest.mark.network)
        for path in sorted((ROOT / "notebooks").glob("*.ipynb"))
    ],
)
def test_notebook_runs(path: Path) -> None:
    if path.stem not in OFFLINE:
        try:
            open_catalog(ROOT / "data_catalog.yaml").fetch_many()
        except (SourceNotFoundError, OfflineError) as error:
            pytest.skip(f"the notebook's sources cannot be fetched here: {error}")
    notebook = nbformat.read(path, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "clear the outputs before committing"
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(path.parent)}}).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert SAID[path.stem] in "".join(output.get("text", "") for output in shown)
    assert any("image/png" in output.get("data", {}) for output in shown)
