"""The width of an interval as a map: what the pictures show, for programs that show one band at a time."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
from rio_cogeo import cog_validate

from geopov.errors import MapError
from geopov.maps import RasterMap
from geopov.maps.qgis import uncertainty as module
from geopov.maps.qgis.uncertainty import write_interval_width


def test_logarithms_become_a_factor(density, tmp_path):
    path = density()
    style = write_interval_width(path, tmp_path / "width.tif")
    with RasterMap.open(path) as raster:
        lower, upper = raster.read(2), raster.read(3)
    with rasterio.open(tmp_path / "width.tif") as width:
        np.testing.assert_allclose(width.read(1), np.exp(upper - lower), rtol=6e-3)
        assert width.descriptions == ("width",)
        assert width.units == ("upper ÷ lower end of the 90% interval",)
        assert width.tags()["interval_of"] == "log_density"
        assert (width.tags()["source"], width.tags()["year"]) == ("A census", "2021")
        assert width.crs == "EPSG:32645"
    assert style.name == "interval"
    assert style.legend == style.labels
    assert cog_validate(tmp_path / "width.tif", strict=True)[0]


def test_shares_become_percentage_points(make_map, tmp_path):
    bands = {"headcount": np.full((2, 2), 0.5), "lower": np.full((2, 2), 0.4), "upper": [[0.5, 0.6], [0.7, 0.9]]}
    style = write_interval_width(make_map(bands, tags={"style": "headcount"}), tmp_path / "width.tif")
    with rasterio.open(tmp_path / "width.tif") as width:
        np.testing.assert_allclose(width.read(1), [[10, 20], [30, 50]], rtol=1e-2)
    assert style.unit == "width of the interval, percentage points"


@pytest.mark.parametrize(
    ("bands", "name"), [(("mean",), "density"), (("mean", "lower"), "density"), (("a", "lower", "upper"), "quintile")]
)
def test_nothing_is_written_where_there_is_no_interval(make_map, tmp_path, bands, name):
    path = make_map({band: np.ones((2, 2)) for band in bands}, tags={"style": name})
    assert write_interval_width(path, tmp_path / "width.tif") is None
    assert not (tmp_path / "width.tif").exists()


def test_an_unknown_style_is_named(density, tmp_path):
    with pytest.raises(MapError, match="no style 'rainbow'"):
        write_interval_width(density(), tmp_path / "width.tif", style="rainbow")


def test_strips_do_not_show(density, tmp_path, monkeypatch):
    path = density()
    write_interval_width(path, tmp_path / "a.tif")
    monkeypatch.setattr(module, "_STRIP_CELLS", 700)
    write_interval_width(path, tmp_path / "b.tif")
    assert (tmp_path / "a.tif").read_bytes() == (tmp_path / "b.tif").read_bytes()
