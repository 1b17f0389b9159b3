from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas as gpd
import pandas as pd
import pytest
import rasterio
import yaml
from rasterio.enums import ColorInterp
from shapely.geometry import Point

import geopov.catalog
from geopov.catalog import find_catalog, open_catalog
from geopov.catalog.cache import default_cache_dir
from geopov.errors import CatalogError, ChecksumError, OfflineError, SourceNotFoundError
from geopov.raster import Scene

Write = Callable[..., Path]
RASTER = {"kind": "raster", "crs": "EPSG:4326", "nodata": None, "units": "1", "bands": ["a"]}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def states(source: geopov.catalog.Source) -> list[str]:
    return [status.state for status in source.verify()]


def test_the_public_names_are_these() -> None:
    assert geopov.catalog.__all__ == [
        "Catalog",
        "FileStatus",
        "Source",
        "SourceRecord",
        "find_catalog",
        "open_catalog",
    ]


def test_a_catalogue_is_a_mapping(write: Write) -> None:
    catalog = open_catalog(write(b={"uri": "b.csv", "kind": "table"}, a={"uri": "a.csv", "kind": "table"}))
    assert list(catalog) == ["a", "b"]
    assert len(catalog) == 2
    assert "a" in catalog
    assert catalog.get("c") is None
    assert (catalog["a"].name, catalog["a"].licence, catalog["a"].year) == ("a", "CC0", 2020)
    with pytest.raises(SourceNotFoundError, match="no source 'aa'; did you mean 'a'"):
        catalog["aa"]
    with pytest.raises(KeyError, match=r"it has a, b\."):
        catalog["xyz"]


def test_a_raster_of_two_files_opens_as_a_scene(write: Write, write_tiff: Write) -> None:
    path = write(s={**RASTER, "uri": ["one.tif", "two.tif"], "bands": ["x", "y", "z"], "nodata": 3.0})
    write_tiff(path.parent / "one.tif")
    write_tiff(path.parent / "two.tif", n_bands=2, crs="EPSG:3857")
    source = open_catalog(path)["s"]
    assert source.presence == "here"
    assert states(source) == ["not hashed", "not hashed"]
    scene = source.open()
    assert isinstance(scene, Scene)
    assert (scene.name, scene.band_names) == ("s", ["x", "y", "z"])
    assert [file.nodata for file in scene.files] == [(3.0,), (3.0, 3.0)]
    with pytest.raises(CatalogError, match=r"has 2 files; take \.paths"):
        _ = source.path


@pytest.mark.parametrize("nodata", [[3.0], [3.0, None]])
def test_nodata_may_be_said_for_each_band(write: Write, write_tiff: Write, nodata: list[float | None]) -> None:
    path = write(s={**RASTER, "uri": "a.tif", "bands": ["x", "y"], "nodata": nodata})
    write_tiff(path.parent / "a.tif", n_bands=2)
    scene = open_catalog(path)["s"].open()
    assert isinstance(scene, Scene)
    assert scene.files[0].nodata == ((3.0, 3.0) if len(nodata) == 1 else (3.0, None))


def test_band_names_that_do_not_fit_are_an_error(write: Write, write_tiff: Write) -> None:
    path = write(s={**RASTER, "uri": "one.tif", "bands": ["x", "y"]})
    write_tiff(path.parent / "one.tif")
    with pytest.raises(CatalogError, match="the catalogue names 2"):
        open_catalog(path)["s"].open()


@pytest.mark.parametrize("suffix", ["parquet", "gpkg", "geojson", "shp", "csv"])
def test_tables_and_vectors_open_as_frames(write: Write, suffix: str) -> None:
    path = write(t={"uri": f"t.{suffix}", "kind": "vector", "crs": "EPSG:4326"})
    table = gpd.GeoDataFrame({"n": [1, 2]}, geometry=[Point(1, 2), Point(3, 4)], crs="EPSG:4326")
    target = path.parent / f"t.{suffix}"
    if suffix == "parquet":
        table.to_parquet(target)
    elif suffix == "csv":
        table[["n"]].to_csv(target, index=False)
    else:
        table.to_file(target)
    opened = open_catalog(path)["t"].open()
    assert isinstance(opened, gpd.GeoDataFrame if suffix != "csv" else pd.DataFrame)
    assert list(opened["n"]) == [1, 2]


def test_a_parquet_file_without_geometry_opens_as_a_plain_frame(write: Write) -> None:
    path = write(t={"uri": "t.parquet", "kind": "survey"})
    pd.DataFrame({"n": [1]}).to_parquet(path.parent / "t.parquet")
    opened = open_catalog(path)["t"].open()
    assert type(opened) is pd.DataFrame


def test_the_crs_of_a_vector_is_set_where_absent_and_refused_where_another(write: Write) -> None:
    path = write(t={"uri": "t.parquet", "kind": "vector", "crs": "EPSG:3857"})
    bare = gpd.GeoDataFrame({"n": [1]}, geometry=[Point(1, 2)])
    bare.to_parquet(path.parent / "t.parquet")
    opened = open_catalog(path)["t"].open()
    assert isinstance(opened, gpd.GeoDataFrame)
    assert opened.crs.to_epsg() == 3857
    bare.set_crs("EPSG:4326").to_parquet(path.parent / "t.parquet")
    with pytest.raises(CatalogError, match="the catalogue says EPSG:3857"):
        open_catalog(path)["t"].open()


@pytest.mark.parametrize(
    ("entry", "content", "says"),
    [
        ({"uri": "w.pth", "kind": "weights"}, b"w", "network weights"),
        ({"uri": "t.dta", "kind": "survey"}, b"t", "geopov.survey reads Stata"),
        ({"uri": "t.parquet", "kind": "table"}, b"no parquet", "cannot be read as .parquet"),
        ({"uri": "t.gpkg", "kind": "table"}, b"no geopackage", "cannot be read as .gpkg"),
    ],
)
def test_what_cannot_be_opened_says_so(write: Write, entry: dict[str, Any], content: bytes, says: str) -> None:
    path = write(s=entry)
    (path.parent / entry["uri"]).write_bytes(content)
    with pytest.raises(CatalogError, match=says):
        open_catalog(path)["s"].open()


def test_a_missing_local_file_is_named(write: Write) -> None:
    source = open_catalog(write(s={"uri": "gone.csv", "kind": "table"}))["s"]
    assert (source.presence, states(source)) == ("missing", ["missing"])
    for action in (lambda: source.path, source.open, source.fetch):
        with pytest.raises(SourceNotFoundError, match=r"'s': there is no file .*gone\.csv"):
            action()


def test_a_local_file_is_held_to_its_sha256(write: Write) -> None:
    path = write(s={"uri": "a.csv", "kind": "table", "sha256": hashlib.sha256(b"n\n1\n").hexdigest()})
    (path.parent / "a.csv").write_bytes(b"n\n1\n")
    source = open_catalog(path)["s"]
    assert states(source) == ["ok"]
    assert source.fetch() == [path.parent / "a.csv"]
    (path.parent / "a.csv").write_bytes(b"n\n2\n")
    assert states(source) == ["wrong sha256"]
    with pytest.raises(ChecksumError, match="Restore the file"):
        source.fetch()


def test_paths_that_leave_the_work_folder_are_all_told_when_it_is_opened(write: Write, tmp_path: Path) -> None:
    path = write(a={"uri": "../a.csv", "kind": "table"}, b={"uri": ["b.csv", "x/../../b.csv"], "kind": "table"})
    with pytest.raises(CatalogError) as caught:
        open_catalog(path)
    assert "entry 'a': '../a.csv' leaves the work folder" in str(caught.value)
    assert "entry 'b': 'x/../../b.csv' leaves the work folder" in str(caught.value)
    (tmp_path / "a.csv").write_text("n\n1\n")
    assert open_catalog(path, root=tmp_path)["a"].path.samefile(tmp_path / "a.csv")


def test_a_link_laid_after_opening_is_refused_too(write: Write, tmp_path: Path) -> None:
    path = write(a={"uri": "sub/a.csv", "kind": "table"})
    source = open_catalog(path)["a"]
    (tmp_path / "a.csv").write_text("n\n1\n")
    (path.parent / "sub").symlink_to(tmp_path)
    with pytest.raises(CatalogError, match=r"source 'a': .* leaves the work folder"):
        _ = source.path


def test_an_absolute_path_is_read(write: Write, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.csv"
    elsewhere.write_text("n\n1\n")
    assert open_catalog(write(a={"uri": str(elsewhere), "kind": "table"}))["a"].path == elsewhere


def test_a_variable_that_is_not_set_is_told_when_the_source_is_used(
    write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("SOME_DATA", raising=False)
    source = open_catalog(write(a={"uri": "${SOME_DATA}/a.csv", "kind": "table"}))["a"]
    with pytest.raises(CatalogError, match=r"'a': .* needs the environment variable SOME_DATA"):
        _ = source.path
    monkeypatch.setenv("SOME_DATA", str(tmp_path))
    (tmp_path / "a.csv").write_text("n\n1\n")
    assert source.path == tmp_path / "a.csv"


def test_cloud_objects_are_read_in_place(write: Write) -> None:
    source = open_catalog(write(s={**RASTER, "uri": "s3://bucket/a/b.tif"}), offline=True)["s"]
    assert source.presence == "in place"
    assert [str(path) for path in source.fetch()] == ["/vsis3/bucket/a/b.tif"]
    assert states(source) == ["in place"]


def test_a_raster_is_held_to_its_entry(write: Write, write_tiff: Write) -> None:
    def problem(tiff: dict[str, Any], **entry: Any) -> str:
        path = write(s={**RASTER, "uri": "a.tif", **entry})
        write_tiff(path.parent / "a.tif", **tiff)
        (status,) = open_catalog(path)["s"].verify()
        assert status.is_wrong == (status.state == "wrong header")
        return status.detail

    assert problem({}) == ""
    assert problem({"nodata": -9.0}, nodata=-9.0) == ""
    assert problem({"nodata": float("nan")}, nodata=float("nan")) == ""
    assert problem({"nodata": 0.1}, nodata=0.1) == ""
    assert problem({}, nodata=-9.0) == "", "a missing tag is what the catalogue's value is for"
    assert "CRS is WGS 84 / UTM zone 45N, the catalogue says WGS 84" in problem({"crs": "EPSG:32645"})
    assert problem({"crs": None}) == "the file has no CRS"
    assert "nodata is -9.0, the catalogue says none" in problem({"nodata": -9.0})
    # Nearly the missing value is not the missing value: -3.4e38 masks no pixel of -3.4028235e38.
    assert "the catalogue says -3.4e+38" in problem({"nodata": -3.4028234663852886e38}, nodata=-3.4e38)
    assert "2 bands together, the catalogue names 1" in problem({"n_bands": 2})
    assert problem({"n_bands": 2, "nodata": 0.0}, bands=["a", "b"], nodata=[0, 0]) == ""
    assert "the catalogue says none" in problem({"n_bands": 2, "nodata": 0.0}, bands=["a", "b"], nodata=[0, None])


def test_an_alpha_band_is_no_band_of_the_catalogue(write: Write, write_tiff: Write) -> None:
    path = write(s={**RASTER, "uri": "a.tif"})
    with rasterio.open(write_tiff(path.parent / "a.tif", n_bands=2), "r+") as dataset:
        dataset.colorinterp = [ColorInterp.gray, ColorInterp.alpha]
    source = open_catalog(path)["s"]
    assert states(source) == ["not hashed"]
    scene = source.open()
    assert isinstance(scene, Scene)
    assert scene.band_names == ["a"]


def test_the_same_crs_is_known_by_any_spelling(write: Write, write_tiff: Write) -> None:
    for crs in ("EPSG:4326", "EPSG:3857", "EPSG:32645", "ESRI:54009", "EPSG:6933"):
        path = write(s={**RASTER, "uri": "a.tif", "crs": crs})
        write_tiff(path.parent / "a.tif", crs=crs)
        assert states(open_catalog(path)["s"]) == ["not hashed"]


def test_a_broken_raster_is_told(write: Write) -> None:
    path = write(s={**RASTER, "uri": "a.tif"})
    (path.parent / "a.tif").write_bytes(b"II*\0no tiff")
    (status,) = open_catalog(path)["s"].verify()
    assert status.state == "wrong header"
    assert "cannot be opened as a raster" in status.detail


def test_offline_mode_comes_from_the_argument_or_the_environment(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(s={"uri": "https://localhost:1/a.csv", "kind": "table", "sha256": "ab" * 32})
    with pytest.raises(OfflineError, match="does not hold s"):
        open_catalog(path, offline=True)["s"].fetch()
    monkeypatch.setenv("GEOPOV_OFFLINE", "1")
    with pytest.raises(OfflineError, match="does not hold s"):
        open_catalog(path)["s"].fetch()
    monkeypatch.setenv("GEOPOV_OFFLINE", "maybe")
    with pytest.raises(CatalogError, match="GEOPOV_OFFLINE is 'maybe'"):
        open_catalog(path)


def test_the_cache_folder_is_chosen_by_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GEOPOV_CACHE", str(tmp_path))
    assert default_cache_dir() == tmp_path
    monkeypatch.delenv("GEOPOV_CACHE")
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_cache_dir() == tmp_path / "xdg" / "geopov"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert default_cache_dir() == Path.home() / ".cache" / "geopov"


def test_the_nearest_catalogue_is_found(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (tmp_path / "data_catalog.yaml").write_text("x")
    assert find_catalog(inner) == tmp_path / "data_catalog.yaml"
    (tmp_path / "a" / "data_catalog.yaml").write_text("x")
    assert find_catalog(inner) == tmp_path / "a" / "data_catalog.yaml"
    with pytest.raises(SourceNotFoundError, match="--catalog FILE"):
        find_catalog("/")


def test_nothing_is_written_by_opening_and_looking(write: Write, tmp_path: Path) -> None:
    path = write(s={"uri": "https://localhost:1/a.csv", "kind": "table", "sha256": "ab" * 32})
    source = open_catalog(path)["s"]
    assert (source.presence, states(source)) == ("not fetched", ["not fetched"])
    with pytest.raises(SourceNotFoundError, match="Run: geopov catalog fetch s"):
        _ = source.path
    assert not (tmp_path / "cache").exists()
    assert yaml.safe_load(path.read_text())["s"]["year"] == 2020
