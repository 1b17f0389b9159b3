"""Scenes know their files from the headers; bad files get an answer that names them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.enums import ColorInterp, Resampling

from geopov.errors import RasterError
from geopov.raster import BlockReader, Scene, agree_on_bands

UTM = "EPSG:32736"


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """``write(name, data, **profile)``: a GeoTIFF of 10 m pixels in UTM 36S unless told otherwise."""

    def make(name: str, data: np.ndarray, *, names: tuple[str, ...] = (), **profile: Any) -> Path:
        path = tmp_path / f"{name}.tif"
        profile = {"crs": UTM, "transform": Affine(10, 0, 500_000, 0, -10, 9_700_000)} | profile
        count, height, width = data.shape
        with rasterio.open(
            path, "w", driver="GTiff", count=count, height=height, width=width, dtype=data.dtype, **profile
        ) as dataset:
            dataset.write(data)
            if names:
                dataset.descriptions = names
        return path

    return make


def ramp(bands: int = 1, height: int = 20, width: int = 30, dtype: str = "uint16") -> np.ndarray:
    return np.arange(bands * height * width).reshape(bands, height, width).astype(dtype)


def read_all(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """All pixels of a one-unit, one-file scene, and where they are valid."""
    file = scene.files[0]
    with BlockReader() as reader:
        block = reader.read(file, file.levels[0], 0, 0)
    valid = np.ones(block.data.shape[1:], dtype=bool) if block.valid is None else block.valid
    return block.data, valid


def test_header_is_what_rasterio_says(write: Callable[..., Path]) -> None:
    path = write("a", ramp(2), names=("red", "nir"))
    scene = Scene.open(path)
    with rasterio.open(path) as dataset:
        assert scene.crs == dataset.crs.to_wkt()
        assert scene.transform == dataset.transform
        assert (scene.width, scene.height) == (dataset.width, dataset.height)
        assert scene.bounds == pytest.approx(tuple(dataset.bounds))
    assert scene.band_names == ["red", "nir"]
    assert (scene.name, scene.dtype, [Path(f) for f in scene.files]) == ("a", np.uint16, [path])
    west, south, east, north = scene.lonlat_bounds
    assert 33 <= west < east < 33.1
    assert -2.8 < south < north < -2.6


def test_opening_reads_no_pixels(write: Callable[..., Path]) -> None:
    path = write("cut", ramp(1, 600, 600), compress="deflate", tiled=True, blockxsize=256, blockysize=256)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    scene = Scene.open(path)
    file = scene.files[0]
    with BlockReader() as reader, pytest.raises(RasterError, match=r"cut\.tif.*row 512, column 512.*fetch it again"):
        reader.read(file, file.levels[0], 2, 2)


@pytest.mark.parametrize(
    ("interps", "names", "expected"),
    [
        ((ColorInterp.red, ColorInterp.green), (), ["red", "green"]),
        ((ColorInterp.gray, ColorInterp.undefined), (), ["band_1", "band_2"]),
        ((ColorInterp.gray, ColorInterp.undefined), ("x", "x"), ["band_1", "band_2"]),
    ],
)
def test_band_names(write: Callable[..., Path], interps: Any, names: Any, expected: list[str]) -> None:
    path = write("a", ramp(2), names=names)
    with rasterio.open(path, "r+") as dataset:
        dataset.colorinterp = interps
    assert Scene.open(path).band_names == expected


def test_stack_of_files_names_bands_by_file(write: Callable[..., Path]) -> None:
    first, second = write("lights", ramp()), write("ndvi", ramp(2, dtype="float32"))
    scene = Scene.open([first, second])
    assert scene.band_names == ["lights", "ndvi_1", "ndvi_2"]
    assert scene.dtype == np.result_type(np.uint16, np.float32)
    assert [file.slots for file in scene.files] == [(0,), (1, 2)]


def test_bands_are_chosen_by_name_or_number_in_the_order_asked(write: Callable[..., Path]) -> None:
    path = write("a", ramp(3), names=("red", "green", "blue"))
    scene = Scene.open(path, bands=["blue", 1])
    assert scene.band_names == ["blue", "red"]
    data, _ = read_all(scene)
    np.testing.assert_array_equal(data, ramp(3)[[2, 0]])


@pytest.mark.parametrize("bands", [["swir"], [4], [0], [], ["red", 1]])
def test_missing_or_repeated_band(write: Callable[..., Path], bands: list[Any]) -> None:
    path = write("a", ramp(3), names=("red", "green", "blue"))
    with pytest.raises(RasterError, match=r"has no band .*red, green, blue|at least one band, and each only once"):
        Scene.open(path, bands=bands)


@pytest.mark.parametrize("text", [b"", b"not a raster", b"II*\x00"])
def test_unreadable_file(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "broken.tif"
    path.write_bytes(text)
    with pytest.raises(RasterError, match=r"broken\.tif cannot be opened.*Fetch it again"):
        Scene.open(path)


def test_absent_file_and_no_file(tmp_path: Path) -> None:
    with pytest.raises(RasterError, match=r"absent\.tif cannot be opened"):
        Scene.open(tmp_path / "absent.tif")
    with pytest.raises(RasterError, match="no file was given"):
        Scene.open([])


def test_no_crs(write: Callable[..., Path]) -> None:
    with pytest.raises(RasterError, match=r"bare\.tif has no CRS.*gdal_edit\.py -a_srs"):
        Scene.open(write("bare", ramp(), crs=None))


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")  # writing it is the point
def test_no_georeference_at_all(write: Callable[..., Path]) -> None:
    with pytest.raises(RasterError, match=r"bare\.tif has no CRS"):
        Scene.open(write("bare", ramp(), crs=None, transform=Affine.identity()))


@pytest.mark.parametrize(
    "transform",
    [Affine(9.8, 1.7, 5e5, 1.7, -9.8, 9.7e6), Affine(10, 0, 5e5, 0, 10, 9.7e6)],
    ids=["turned", "south"],
)
def test_rotated_or_south_up(write: Callable[..., Path], transform: Affine) -> None:
    with pytest.raises(RasterError, match=r"askew\.tif is rotated or not north up.*gdalwarp"):
        Scene.open(write("askew", ramp(), transform=transform))


@pytest.mark.parametrize(
    ("west", "pixel", "expected"),
    [(-180.0, 12.0, (-180, 180)), (0.0, 12.0, (-180, 180)), (30.0, 0.1, (30, 33))],
)
def test_lonlat_bounds_of_degrees(
    write: Callable[..., Path], west: float, pixel: float, expected: tuple[float, float]
) -> None:
    scene = Scene.open(write("a", ramp(), crs="EPSG:4326", transform=Affine(pixel, 0, west, 0, -pixel / 2, 60)))
    assert (scene.lonlat_bounds[0], scene.lonlat_bounds[2]) == pytest.approx(expected)


def test_lonlat_bounds_of_a_world_in_mollweide(write: Callable[..., Path]) -> None:
    scene = Scene.open(write("a", ramp(), crs="ESRI:54009", transform=Affine(1.21e6, 0, -18.1e6, 0, -0.91e6, 9.1e6)))
    assert scene.lonlat_bounds == (-180, -90, 180, 90)


def test_overviews_are_levels(write: Callable[..., Path]) -> None:
    path = write("a", ramp(1, 101, 203), tiled=True, blockxsize=16, blockysize=16)
    with rasterio.open(path, "r+") as dataset:
        dataset.build_overviews([2, 4], Resampling.average)
    levels = Scene.open(path).files[0].levels
    assert [(level.overview, level.width, level.height) for level in levels] == [
        (None, 203, 101),
        (0, 102, 51),
        (1, 51, 26),
    ]
    # Every level spans the same ground.
    assert {round(level.width * level.dx, 6) for level in levels} == {2030.0}


@pytest.mark.parametrize(
    ("width", "block", "unit"),
    [
        (1000, (16, 16), (256, 256)),
        (1000, (512, 512), (512, 512)),
        (1000, None, (1000, 256)),
        (40_000, None, (40_000, 6)),
    ],
)
def test_read_units_group_small_blocks(write: Callable[..., Path], width: int, block: Any, unit: Any) -> None:
    tiling = {"tiled": True, "blockxsize": block[0], "blockysize": block[1]} if block else {"blockysize": 1}
    path = write("a", np.zeros((1, 600, width), "uint8"), compress="deflate", **tiling)
    level = Scene.open(path).files[0].levels[0]
    assert (level.unit_width, level.unit_height) == unit


@pytest.mark.parametrize(
    ("dtype", "tag", "stored"),
    [
        ("uint8", 0, 0),
        ("uint16", 65535, 65535),
        ("int16", -32768, -32768),
        ("int32", -2147483647, -2147483647),
        ("float32", -9999, -9999),
        ("float32", -3.4e38, np.finfo("float32").min),
        ("float32", np.finfo("float32").min, np.finfo("float32").min),
        ("float32", 0.1, np.float32(0.1)),
        ("float64", -3.4028234663852886e38, -3.4028234663852886e38),
        ("float32", float("nan"), np.nan),
        ("float32", None, np.inf),
        ("float64", None, np.nan),
    ],
)
def test_missing_values(write: Callable[..., Path], dtype: str, tag: float | None, stored: float) -> None:
    data = ramp(1, dtype=dtype) % 100 + 1
    data[0, 3, 4] = stored
    found, valid = read_all(Scene.open(write("a", data, nodata=tag)))
    expected = np.ones(data.shape[1:], dtype=bool)
    expected[3, 4] = False
    np.testing.assert_array_equal(valid, expected)
    np.testing.assert_array_equal(found[0], np.where(expected, data[0], 0))


def test_untagged_missing_value_is_given(write: Callable[..., Path]) -> None:
    data = ramp(2) + 1
    data[0, 0, 0], data[1, 1, 1] = 7777, 8888
    path = write("a", data)
    assert read_all(Scene.open(path))[1].all()
    assert np.argwhere(~read_all(Scene.open(path, nodata=7777))[1]).tolist() == [[0, 0]]
    assert np.argwhere(~read_all(Scene.open(path, nodata=[None, 8888]))[1]).tolist() == [[1, 1]]
    with pytest.raises(RasterError, match="3 values for 2 bands"):
        Scene.open(path, nodata=[1, 2, 3])


def test_given_missing_value_replaces_the_tag(write: Callable[..., Path]) -> None:
    data = ramp() + 1
    path = write("a", data, nodata=5)
    assert np.argwhere(~read_all(Scene.open(path))[1]).tolist() == [[0, 4]]
    assert np.argwhere(~read_all(Scene.open(path, nodata=9))[1]).tolist() == [[0, 8]]


def test_value_the_type_cannot_hold_marks_nothing(write: Callable[..., Path]) -> None:
    path = write("a", ramp(dtype="uint8"))
    assert read_all(Scene.open(path, nodata=-9999))[1].all()
    assert read_all(Scene.open(path, nodata=3.5))[1].all()


def test_internal_mask(write: Callable[..., Path]) -> None:
    path = write("a", ramp(2) + 1)
    mask = np.ones((20, 30), dtype=bool)
    mask[5:9, 2:11] = False
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as dataset:
        dataset.write_mask(mask)
    data, valid = read_all(Scene.open(path))
    np.testing.assert_array_equal(valid, mask)
    assert (data[:, ~mask] == 0).all()


def test_alpha_is_a_mask_unless_asked_for(write: Callable[..., Path]) -> None:
    data = np.full((4, 20, 30), 9, dtype="uint8")
    data[3] = 255
    data[3, 2:5] = 0
    path = write("a", data, photometric="RGB", alpha="yes")
    scene = Scene.open(path)
    assert scene.band_names == ["red", "green", "blue"]
    np.testing.assert_array_equal(read_all(scene)[1], data[3] > 0)
    everything = Scene.open(path, bands=[1, 2, 3, 4])
    found, valid = read_all(everything)
    assert valid.all()
    np.testing.assert_array_equal(found, data)


def test_reader_closes_and_bounds_its_handles(write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    real = rasterio.open

    def spy(*args: Any, **kwargs: Any) -> Any:
        opened.append(real(*args, **kwargs))
        return opened[-1]

    scenes = [Scene.open(write(f"s{i}", ramp())) for i in range(40)]
    monkeypatch.setattr(rasterio, "open", spy)
    with BlockReader() as reader:
        for scene in scenes:
            reader.read(scene.files[0], scene.files[0].levels[0], 0, 0)
        assert sum(not dataset.closed for dataset in opened) == 32
    assert len(opened) == 40
    assert all(dataset.closed for dataset in opened)


@pytest.mark.parametrize(
    ("names", "agreed"),
    [
        ([["T36_B04", "T36_B08"], ["T37_B04", "T37_B08"]], ["B04", "B08"]),
        ([["LC08_B4_2014", "LC08_B5_2014"], ["LE07_B4_2012", "LE07_B5_2012"]], ["B4", "B5"]),
        ([["red", "nir"], ["red", "nir"]], ["red", "nir"]),
        ([["a_red", "a_nir"], ["red", "nir"]], ["red", "nir"]),
    ],
)
def test_stacks_of_a_mosaic_agree_on_band_names(write, names, agreed) -> None:
    scenes = [Scene.open([write(name, ramp()) for name in group]) for group in names]
    assert [scene.band_names for scene in agree_on_bands(scenes)] == [agreed, agreed]


def test_scenes_with_other_bands_stay_as_they_are(write) -> None:
    scenes = [Scene.open([write("a_red", ramp()), write("a_nir", ramp())]), Scene.open(write("b_red", ramp(2)))]
    before = [scene.band_names for scene in scenes]
    assert [scene.band_names for scene in agree_on_bands(scenes)] == before


def test_renaming_needs_one_name_a_band(write) -> None:
    scene = Scene.open(write("a", ramp(2)))
    assert scene.rename(["red", "nir"]).band_names == ["red", "nir"]
    for names in (["red"], ["red", "red"]):
        with pytest.raises(RasterError, match="expected one different name for each"):
            scene.rename(names)


def test_stacked_scenes_keep_their_order_of_bands(write) -> None:
    stacked = Scene.stack(
        [Scene.open(write("a", ramp(2), names=("r", "g"))), Scene.open(write("b", ramp(), names=("n",)))]
    )
    assert stacked.band_names == ["r", "g", "n"]
    assert [file.slots for file in stacked.files] == [(0, 1), (2,)]
    with pytest.raises(RasterError, match="in more than one of the stacked scenes"):
        Scene.stack([stacked, stacked])
    with pytest.raises(RasterError, match="at least one"):
        Scene.stack([])
