"""A product that others can use has no problems, and each thing that is missing is named."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
from affine import Affine

from geopov.maps.product_check import check_product


def test_a_good_map_has_no_problems(density):
    assert check_product(density()) == []


def test_what_is_missing_is_named(tmp_path):
    path = tmp_path / "bare.tif"
    options = {"driver": "GTiff", "width": 600, "height": 10, "count": 1, "dtype": "float32", "crs": "EPSG:32645"}
    with rasterio.open(path, "w", transform=Affine(1, 0, 0, 0, -1, 10), **options) as target:
        target.write(np.ones((1, 10, 600), "float32"))
    problems = check_product(path)
    assert len(problems) == 6
    for part in ("Cloud Optimized", "600 x 10 cells and no overviews", "tag style is ''", "name", "unit", "nodata"):
        assert any(part in problem for problem in problems)


def test_no_raster_is_a_problem(tmp_path):
    (tmp_path / "text.tif").write_text("text")
    assert "not a readable raster" in check_product(tmp_path / "text.tif")[0]
    assert "there is no map" in check_product(tmp_path / "none.tif")[0]


@pytest.mark.parametrize(("resampling", "good"), [("nearest", True), ("mode", True), ("average", False)])
def test_overviews_of_classes_must_be_classes(make_map, resampling, good):
    rng = np.random.default_rng(0)
    classes = rng.integers(1, 6, (700, 600)).astype(float)
    tags = {"style": "quintile"}
    problems = check_product(
        make_map({"quintile": classes}, units="quintile", tags=tags, overview_resampling=resampling)
    )
    assert (problems == []) == good
    assert all("overview 1 hold" in problem for problem in problems)


def test_values_between_classes_are_a_problem(make_map):
    path = make_map({"in_support": np.array([[0, 1, 0.5]])}, units="0 or 1", tags={"style": "in_support"})
    assert check_product(path) == ["the cells hold 0.5, which is none of the classes 0, 1."]
