"""The catalogue is valid STAC, its links lead somewhere, and it says what the files say."""

from __future__ import annotations

import hashlib
import json
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
import shapely
from pyproj import CRS, Transformer

from geopov.errors import MapError, MissingDependencyError
from geopov.maps import RasterMap
from geopov.maps.stac import Collection, write_stac

pystac = pytest.importorskip("pystac")
pytest.importorskip("jsonschema")

NEPAL = Collection("nepal", "Nepal", "Population and poverty", license="CC-BY-4.0")


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*_arguments, **_options):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def read(path: Path):
    return json.loads(path.read_text(encoding="utf-8"))


def test_the_catalogue_reads_back_in_pystac(density, make_map, tmp_path):
    maps = [density(), make_map({"people": np.ones((3, 4))}, "people.tif", tags={"year": "2019-2021"})]
    (tmp_path / "project.qgz").write_bytes(b"a project")
    maps[0].with_suffix(".png").write_bytes(b"a picture")
    top = write_stac(tmp_path / "stac", maps, collection=NEPAL)
    collection = pystac.Collection.from_file(str(top))
    assert [item.id for item in collection.get_items()] == ["map", "people"]
    assert collection.license == "CC-BY-4.0"
    assert collection.get_assets()["project"].get_absolute_href() == str(tmp_path / "project.qgz")
    first, last = collection.extent.temporal.intervals[0]
    assert (first.isoformat(), last.isoformat()) == ("2019-01-01T00:00:00+00:00", "2021-12-31T23:59:59+00:00")
    item = collection.get_item("map")
    assert item.get_parent().id == item.get_collection().id == item.get_root().id == "nepal"
    assert set(item.assets) == {"data", "overview"}
    for asset in item.assets.values():
        assert Path(asset.get_absolute_href()).exists()
    validator = pytest.importorskip("pystac.validation.stac_validator").JsonSchemaSTACValidator()
    for name, kind in (("collection", "Collection"), ("map", "Feature"), ("people", "Feature")):
        assert validator.validate_core(read(top.parent / f"{name}.json"), pystac.STACObjectType(kind), "1.1.0")


def test_an_item_says_what_the_file_says(density, tmp_path):
    model = {"geopov": "9.8.7", "inputs": {"clusters": "ab" * 32}}
    tags = {"style": "log_density", "title": "Density", "source": "A census", "year": "2021"}
    path = density(tags=tags | {"model": json.dumps(model)})
    write_stac(tmp_path, [path], collection=NEPAL)
    item = read(tmp_path / "map.json")
    said = item["properties"]
    assert (said["datetime"], said["start_datetime"], said["end_datetime"]) == (
        *(None, "2021-01-01T00:00:00Z"),
        "2021-12-31T23:59:59Z",
    )
    assert said["proj:code"] == "EPSG:32645"
    assert said["proj:shape"] == [60, 90]
    assert said["proj:transform"] == [1000, 0, 200_000, 0, -1000, 3_120_000]
    assert said["proj:bbox"] == [200_000, 3_060_000, 290_000, 3_120_000]
    assert said["processing:software"] == {"geopov": "9.8.7"}
    assert said["geopov:product"] == "log_density"
    assert said["geopov:provenance"] == {"model": model, "source": "A census"}
    data = item["assets"]["data"]
    assert data["href"] == "./map.tif"
    assert data["file:checksum"] == "1220" + hashlib.sha256(path.read_bytes()).hexdigest()
    assert data["file:size"] == path.stat().st_size
    assert data["raster:spatial_resolution"] == 1000
    assert [band["name"] for band in data["bands"]] == ["mean", "lower", "upper", "in_support"]
    assert {(band["unit"], band["nodata"], band["data_type"]) for band in data["bands"]} == {
        ("ln(people/km²)", "nan", "float32")
    }
    with RasterMap.open(path) as raster:
        values = raster.read(1)
    figures = data["bands"][0]["statistics"]
    assert figures["mean"] == pytest.approx(np.nanmean(values), rel=1e-6)
    assert figures["valid_percent"] == pytest.approx(100 * np.isfinite(values).mean(), abs=0.01)


def test_the_outline_holds_every_cell(density, tmp_path):
    write_stac(tmp_path, [density()], collection=NEPAL)
    item = read(tmp_path / "map.json")
    outline = shapely.geometry.shape(item["geometry"])
    assert item["bbox"] == list(outline.bounds)
    assert outline.exterior.is_ccw
    x, y = np.meshgrid(np.arange(200_500, 290_000, 1000), np.arange(3_060_500, 3_120_000, 1000))
    lon, lat = Transformer.from_crs(32645, 4326, always_xy=True).transform(x, y)
    assert shapely.contains_xy(outline, lon.ravel(), lat.ravel()).all()


def test_a_crs_without_a_code_is_given_as_wkt(make_map, tmp_path):
    crs = CRS.from_proj4("+proj=laea +lat_0=28 +lon_0=84 +datum=WGS84 +units=m")
    path = make_map({"mean": np.ones((3, 4))}, crs=crs, nodata=None)
    write_stac(tmp_path, [path], collection=NEPAL, year=2020)
    item = read(tmp_path / "map.json")
    assert item["properties"]["proj:code"] is None
    said = CRS.from_wkt(item["properties"]["proj:wkt2"]).coordinate_operation
    assert said.method_name == "Lambert Azimuthal Equal Area"
    assert "nodata" not in item["assets"]["data"]["bands"][0]


def test_bytes_do_not_depend_on_when_or_where(density, tmp_path):
    path = density()
    first = write_stac(tmp_path / "stac", [path], collection=NEPAL)
    other = tmp_path / "elsewhere"
    other.mkdir()
    shutil.copy(path, other)
    second = write_stac(other / "stac", [other / path.name], collection=NEPAL)
    for name in ("collection.json", "map.json"):
        text = (first.parent / name).read_text(encoding="utf-8")
        assert text == (second.parent / name).read_text(encoding="utf-8")
        assert str(tmp_path) not in text


@pytest.mark.parametrize(
    ("year", "tag", "expected"), [(None, "2019/20, printed 2022", (2019, 2022)), ((2018, 2019), "2030", (2018, 2019))]
)
def test_years_come_from_the_caller_or_the_map(make_map, tmp_path, year, tag, expected):
    path = make_map({"mean": np.ones((3, 4))}, tags={"year": tag})
    write_stac(tmp_path, [path], collection=NEPAL, year=year)
    said = read(tmp_path / "map.json")["properties"]
    assert (said["start_datetime"][:4], said["end_datetime"][:4]) == tuple(map(str, expected))


def test_bad_input_is_named(make_map, tmp_path, monkeypatch):
    path = make_map({"mean": np.ones((3, 4))})
    folder = tmp_path / "stac"

    def fails(message, products, collection=NEPAL, **options):
        with pytest.raises(MapError, match=message):
            write_stac(folder, products, collection=collection, **options)
        assert not folder.exists()

    fails("nobody knows the year", [path])
    fails("nobody knows the year", [path], year=(19, 20))
    fails("different names", [path, path], year=2019)
    fails("products are none", [], year=2019)
    fails("no valid STAC", [path], collection=Collection("", "A", "B"), year=2019)
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(MissingDependencyError, match="A STAC catalogue needs the package 'pystac'"):
        write_stac(folder, [path], collection=NEPAL, year=2019)
