"""Cloud Optimized GeoTIFFs: validators, known answers, and the same bytes however the rows arrive."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray as xr
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.errors import RasterioIOError
from rio_cogeo import cog_validate

from geopov.errors import RasterError
from geopov.raster.checksums import Checksums
from geopov.raster.write import check_cog, write_cog, write_dataarray

PLACE = {"crs": "EPSG:32645", "transform": Affine(1000, 0, 300_000, 0, -1000, 3_100_000)}


def write(path, values, *, rows=None, **options):
    """Write ``values`` (band, y, x) in strips of ``rows`` rows (an int, or a list of heights)."""
    height = values.shape[1]
    heights = rows if isinstance(rows, list) else [rows or height] * math.ceil(height / (rows or height))
    firsts = np.cumsum([0, *heights[:-1]])
    strips = [(int(first), values[:, first : first + n]) for first, n in zip(firsts, heights, strict=True)]
    options = {"band_names": [f"b{i}" for i in range(len(values))]} | PLACE | options
    return write_cog(path, strips, width=values.shape[2], height=height, **options)


def field(bands=2, height=700, width=900, seed=0):
    values = np.random.default_rng(seed).normal(50, 10, (bands, height, width)).astype(np.float32)
    values[:, :100, :200] = np.nan
    return values


def test_all_that_was_given_is_read_back(tmp_path):
    values = field()
    path = write(
        tmp_path / "map.tif",
        values,
        rows=64,
        band_names=["mean", "lower"],
        units=["people/km²", "ln"],
        description="Density",
        tags={"provenance": '{"inputs": {}}'},
    )
    with rasterio.open(path) as source:
        np.testing.assert_array_equal(source.read(), values)
        assert source.crs.to_epsg() == 32645
        assert source.transform == PLACE["transform"]
        assert source.descriptions == ("mean", "lower")
        assert source.units == ("people/km²", "ln")
        assert math.isnan(source.nodata)
        tags = source.tags()
        assert tags == {
            "AREA_OR_POINT": "Area",
            "TIFFTAG_IMAGEDESCRIPTION": "Density",
            "provenance": '{"inputs": {}}',
        }
        assert source.overviews(1) == [2]
    assert [item.name for item in tmp_path.iterdir()] == ["map.tif"]


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 17, 5), (2, 700, 900)])
def test_rio_cogeo_finds_it_valid(tmp_path, shape):
    valid, errors, warnings = cog_validate(write(tmp_path / "map.tif", np.ones(shape, "float32"), rows=5), strict=True)
    assert (valid, errors, warnings) == (True, [], [])


def test_gdal_finds_it_valid(tmp_path):
    validator = ["/usr/bin/python3", "-m", "osgeo_utils.samples.validate_cloud_optimized_geotiff"]
    env = {"PATH": os.environ["PATH"]}
    if (
        not Path(validator[0]).exists()
        or subprocess.run([validator[0], "-c", "import osgeo_utils"], env=env).returncode
    ):
        pytest.skip("Debian's python3-gdal is not installed for /usr/bin/python3")
    path = write(tmp_path / "map.tif", field(), rows=100)
    done = subprocess.run([*validator, "--full-check=yes", str(path)], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "is a valid cloud optimized GeoTIFF" in done.stdout


def test_statistics_are_those_of_the_valid_cells(tmp_path):
    values = field(bands=1)
    with rasterio.open(write(tmp_path / "map.tif", values, rows=50)) as source:
        tags = {key: float(value) for key, value in source.tags(1).items()}
    known = values[np.isfinite(values)].astype(float)
    assert tags["STATISTICS_MINIMUM"] == known.min()
    assert tags["STATISTICS_MAXIMUM"] == known.max()
    assert tags["STATISTICS_MEAN"] == pytest.approx(known.mean(), rel=1e-12)
    assert tags["STATISTICS_STDDEV"] == pytest.approx(known.std(), rel=1e-12)
    assert tags["STATISTICS_VALID_PERCENT"] == pytest.approx(100 * known.size / values.size, rel=1e-3)


def test_nan_becomes_the_nodata_value(tmp_path):
    values = np.array([[[1, np.nan], [-9999, 4]]], "float32")
    with rasterio.open(write(tmp_path / "map.tif", values, nodata=-9999)) as source:
        np.testing.assert_array_equal(source.read(1), [[1, -9999], [-9999, 4]])
        assert float(source.tags(1)["STATISTICS_MEAN"]) == 2.5
        assert source.tags(1)["STATISTICS_VALID_PERCENT"] == "50"


def test_a_band_without_data_has_no_mean(tmp_path):
    with rasterio.open(write(tmp_path / "map.tif", np.full((1, 4, 4), np.nan, "float32"))) as source:
        assert source.tags(1) == {"STATISTICS_VALID_PERCENT": "0"}


def test_overviews_average_quantities_and_keep_classes(tmp_path):
    values = np.tile(np.array([[0, 4], [4, 4]], "uint8"), (1, 300, 300))
    options = {"dtype": "uint8", "nodata": None}
    for resampling, expected in (("average", {3}), ("mode", {4})):
        path = write(tmp_path / f"{resampling}.tif", values, overview_resampling=resampling, **options)
        with rasterio.open(path, overview_level=0) as overview:
            assert set(np.unique(overview.read(1))) == expected


@settings(max_examples=25, deadline=None)
@given(data=st.data(), height=st.integers(1, 40), width=st.integers(1, 30), seed=st.integers(0, 99))
def test_bytes_do_not_depend_on_the_strips(tmp_path_factory, data, height, width, seed):
    folder = tmp_path_factory.mktemp("strips")
    rng = np.random.default_rng(seed)
    values = np.where(rng.random((2, height, width)) < 0.2, np.nan, rng.lognormal(3, 2, (2, height, width)))
    heights = []
    while sum(heights) < height:
        heights.append(data.draw(st.integers(1, height - sum(heights))))
    whole = write(folder / "whole.tif", values)
    cut = write(folder / "cut.tif", values, rows=heights)
    assert whole.read_bytes() == cut.read_bytes()


def test_bytes_repeat_across_blocks(tmp_path):
    values = field(height=1100, width=600)
    assert write(tmp_path / "a.tif", values, rows=7).read_bytes() == write(tmp_path / "b.tif", values).read_bytes()


def bad(strips, message, tmp_path, **options):
    options = {"band_names": ["a"], "width": 4, "height": 6} | PLACE | options
    before = tmp_path / "map.tif"
    before.write_bytes(b"an older map")
    with pytest.raises(RasterError, match=message):
        write_cog(before, strips, **options)
    assert [item.name for item in tmp_path.iterdir()] == ["map.tif"]
    assert before.read_bytes() == b"an older map"


def rows(n, bands=1, width=4, dtype="float32"):
    return np.ones((bands, n, width), dtype)


@pytest.mark.parametrize(
    ("strips", "message"),
    [
        ([(0, rows(3))], "rows 3 to 5 are missing"),
        ([], "rows 0 to 5 are missing"),
        ([(0, rows(2)), (4, rows(2))], "rows 2 to 3 are missing"),
        ([(0, rows(4)), (3, rows(3))], "north to south without overlap"),
        ([(0, rows(7))], "ends at row 7 of 6"),
        ([(0, rows(6, width=5))], r"expected \(1, rows, 4\)"),
        ([(0, rows(6, bands=2))], r"expected \(1, rows, 4\)"),
        ([(0, rows(6)[0])], r"expected \(1, rows, 4\)"),
        ([(0, rows(6, dtype="complex64"))], "which float32 cannot hold"),
    ],
)
def test_wrong_strips_leave_the_old_file(tmp_path, strips, message):
    bad(strips, message, tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crs": None}, "no CRS"),
        ({"crs": "EPSG:1"}, "is no CRS"),
        ({"width": 0}, "0 x 6 cells"),
        ({"band_names": []}, "one name a band"),
        ({"band_names": ["a", "a"]}, "repeat a"),
        ({"units": ["m", "m"]}, "2 units for 1 bands"),
        ({"dtype": "uint8"}, "nodata is nan, which uint8 cannot hold"),
        ({"dtype": "uint8", "nodata": 256}, "nodata is 256"),
        ({"dtype": "uint8", "nodata": 0}, "is float32, which uint8 cannot hold"),
        ({"overview_resampling": "magic"}, "expected one of nearest"),
    ],
)
def test_wrong_descriptions(tmp_path, options, message):
    bad([(0, rows(6))], message, tmp_path, **options)


def raster(**changes):
    coords = {"band": ["a", "b"], "y": [30.0, 20.0, 10.0], "x": [5.0, 15.0]} | changes
    values = np.arange(12, dtype="float32").reshape(2, 3, 2)
    return xr.DataArray(values, dims=("band", "y", "x"), coords=coords, attrs={"crs": "EPSG:32645", "units": "m"})


def test_a_dataarray_keeps_its_place(tmp_path):
    with rasterio.open(write_dataarray(tmp_path / "map.tif", raster(), description="heights")) as source:
        assert source.bounds == (0, 5, 20, 35)
        assert source.descriptions == ("a", "b")
        assert source.units == ("m", "m")
        np.testing.assert_array_equal(source.read(), raster().to_numpy())


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (raster().transpose("y", "x", "band"), "expected \\('band', 'y', 'x'\\)"),
        (raster(y=[10.0, 20.0, 30.0]), "not north up"),
        (raster(y=[30.0, 20.0, 19.0]), "not evenly spaced"),
        (raster().isel(x=[0]), "1 cells along x"),
        (raster().assign_attrs(crs=None), "no CRS"),
    ],
)
def test_a_dataarray_that_is_no_grid(tmp_path, array, message):
    with pytest.raises(RasterError, match=message):
        write_dataarray(tmp_path / "map.tif", array)


def test_values_that_are_equal_have_equal_bytes(tmp_path):
    values = np.zeros((1, 600, 600), "float32")
    values[0, :300, :300] = np.nan
    other = np.negative(values)
    assert other.tobytes() != values.tobytes()
    for nodata in (math.nan, 0, None):
        one, two = (write(tmp_path / name, v, nodata=nodata) for name, v in (("a.tif", values), ("b.tif", other)))
        assert one.read_bytes() == two.read_bytes()


def test_what_cannot_be_written_is_told_beforehand():
    place = PLACE | {"width": 4, "height": 6, "band_names": ["a"]}
    check_cog(**place)
    for wrong, message in (
        ({"nodata": 1e300}, "nodata is"),
        ({"crs": None}, "no CRS"),
        ({"units": ["m", "m"]}, "units"),
    ):
        with pytest.raises(RasterError, match=message):
            check_cog(**(place | wrong))


def test_checksums_tell_a_changed_value_and_a_lost_end(tmp_path):
    values = field(bands=2, height=200, width=600)
    path = write(tmp_path / "map.tif", values)
    checksums = Checksums(2, 600)
    for first in range(0, 200, 90):
        checksums.add_rows(values[:, first : first + 90])
    assert checksums.match(path)
    values[1, 150, 580] += 1
    changed = write(tmp_path / "changed.tif", values)
    assert not checksums.match(changed)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(RasterioIOError):
        checksums.match(path)


@pytest.fixture
def small_disk(tmp_path):
    """Mounts a disk of so many bytes, or makes it so large."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def size(size_bytes):
        how = f"remount,size={size_bytes}" if folder.is_mount() else f"size={size_bytes}"
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", how, "none", folder], capture_output=True, check=False)
        if done.returncode:
            pytest.skip("only root may mount a disk in memory")
        return folder

    yield size
    subprocess.run(["umount", folder], capture_output=True, check=False)


def test_a_disk_that_fills_up_at_any_time_leaves_no_half_map(tmp_path, small_disk):
    values = field(height=600, width=600)
    whole = write(tmp_path / "whole.tif", values).read_bytes()
    told = []
    # The rows take up to 8.4 MB, what is made of them 3.9 MB and its overviews for a time 0.7 MB.
    for size_bytes in (40_000, 8_300_000, 10_500_000, 12_000_000, 12_500_000, 14_000_000):
        path = small_disk(size_bytes) / "map.tif"
        try:
            write(path, values, rows=100)
        except RasterError as error:
            told.append(str(error))
            assert not list(path.parent.iterdir())
        else:
            assert path.read_bytes() == whole
            path.unlink()
    assert 3 <= len(told) < 6
    assert all(re.search(r"map\.tif cannot be written: .* MB are free there", text) for text in told)


_MEASURE = """
import resource, sys
import numpy as np
from affine import Affine
from geopov.raster.write import write_cog
side = int(sys.argv[1])
rows = lambda first: (np.arange(first, first + 32, dtype="float32")[:, None] + np.arange(side) % 97)[None]
strips = ((first, rows(first)) for first in range(0, side, 32))
place = {"crs": "EPSG:32645", "transform": Affine(1000, 0, 3e5, 0, -1000, 3.1e6), "width": side, "height": side}
write_cog(sys.argv[2], strips, band_names=["a"], **place)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def test_memory_does_not_grow_with_the_area(tmp_path):
    peaks_mb = []
    for side in (1024, 3072):
        command = [sys.executable, "-c", _MEASURE, str(side), str(tmp_path / "map.tif")]
        peaks_mb.append(float(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    # Nine times the cells are 34 MB more of them. The cache and the buffer for overviews are full at the first size.
    assert peaks_mb[1] - peaks_mb[0] < 16
