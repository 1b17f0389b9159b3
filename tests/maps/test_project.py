"""A study's folder becomes a project that real QGIS opens, wherever the folder is, and prints as a page."""

from __future__ import annotations

import json
import math
import shutil
import zipfile
from pathlib import Path
from xml.etree import ElementTree as ET

import geopandas as gpd
import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pyproj import CRS

from geopov.errors import MapError
from geopov.maps import RasterMap, style_of, write_qml
from geopov.maps.qgis.project import ProjectRaster, write_project
from geopov.maps.qgis.sheet import plan_sheet
from geopov.maps.qgis.study_project import project_for_study

PROBE = Path(__file__).with_name("qgis_project_probe.py")


@pytest.fixture
def study(density, make_map, tmp_path):
    """A finished study: a density map, quintiles, 20 clusters with predictions, and admin units."""
    folder = tmp_path / "study"
    (folder / "model").mkdir(parents=True)
    tags = {"style": "log_density", "title": "Density of people", "outcome": "log_people", "transform": "none"}
    shutil.move(density(tags=tags | {"interval": "90%"}), folder / "map.tif")
    classes = np.repeat(np.arange(1.0, 6), 18) * np.ones((60, 1))
    tags = {"style": "quintile", "title": "Welfare quintiles"}
    shutil.move(make_map({"quintile": classes}, tags=tags, overview_resampling="nearest"), folder / "welfare.tif")
    rng = np.random.default_rng(1)
    x, y = rng.uniform(205_000, 285_000, 20), rng.uniform(3_065_000, 3_115_000, 20)
    place = gpd.GeoSeries(gpd.points_from_xy(x, y), crs="EPSG:32645").to_crs("EPSG:4326")
    ids = [f"c{number}" for number in range(20)]
    observed = rng.normal(5, 1, 20)
    clusters = gpd.GeoDataFrame({"cluster_id": ids, "year": 2019, "log_people": observed}, geometry=place)
    clusters.to_parquet(folder / "clusters.parquet")
    predictions = gpd.GeoDataFrame(
        {"cluster_id": ids, "fold": np.arange(20) % 5, "block": np.arange(20) // 2, "observed": observed}
        | {"mean": observed + 0.5, "lower": observed - 1, "upper": observed + 1},
        geometry=place,
    )
    predictions.to_parquet(folder / "model" / "predictions.parquet")
    settings = {"outcome": {"column": "log_people", "unit": "ln(people per km²)"}}
    (folder / "study.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


@pytest.fixture
def admin():
    squares = [shapely.box(200_000 + 45_000 * i, 3_060_000, 245_000 + 45_000 * i, 3_120_000) for i in range(2)]
    return gpd.GeoDataFrame({"unit": ["west", "east"], "poor": [0.123, 0.87]}, geometry=squares, crs="EPSG:32645")


def document(path):
    with zipfile.ZipFile(path) as archive:
        (name,) = archive.namelist()
        return ET.fromstring(archive.read(name))


def open_in_qgis(qgis, path, folder):
    folder.mkdir(exist_ok=True)
    done = qgis(PROBE, path, folder)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert (seen["opened"], seen["error"]) == (True, "")
    return seen


@pytest.mark.qgis
def test_qgis_opens_it_where_it_was_moved_to(qgis, study, admin, tmp_path):
    options = {"admin": admin, "admin_column": "poor", "admin_style": "headcount", "source": "A census"}
    project_for_study(study, title="People & poverty", **options)
    moved = tmp_path / "else where" / "moved"
    moved.parent.mkdir()
    study.rename(moved)
    seen = open_in_qgis(qgis, moved / "project.qgz", tmp_path / "png")
    assert (seen["title"], seen["crs"], seen["ellipsoid"]) == ("People & poverty", "EPSG:32645", "EPSG:7030")
    assert seen["abstract"] == "A census · 2019"
    assert all(layer["valid"] for layer in seen["layers"].values())
    west, south, east, north = seen["view"]
    assert west < 200_000 < 290_000 < east
    assert south < 3_060_000 < 3_120_000 < north
    assert east - west < 1.1 * 90_000
    uncertain = [
        "Population density: upper ÷ lower end of the 90% interval",
        "Population density: lower end of the interval",
        "Population density: upper end of the interval",
        "Population density: like the surveyed places",
    ]
    assert seen["tree"] == [
        [
            *("Survey", True, False),
            [
                ["Survey clusters", True, True],
                ["Folds held out together", False, False],
                ["Observed minus predicted", False, False],
            ],
        ],
        ["Admin", False, True, [["Admin units", False, False]]],
        ["Uncertainty", False, True, [[name, False, False] for name in uncertain]],
        ["Maps", True, True, [["Density of people", True, True], ["Welfare quintiles", False, False]]],
    ]
    flat = [name for _, _, _, children in seen["tree"] for name, _, _ in children]
    assert seen["order"] == flat


@pytest.mark.qgis
def test_layers_have_the_styles_of_the_maps(qgis, study, admin, tmp_path):
    path = project_for_study(study, title="People", admin=admin, admin_column="poor", admin_style="headcount")
    layers = open_in_qgis(qgis, path, tmp_path / "png")["layers"]
    style = style_of(study / "map.tif")
    expected = [[*row] for row in zip([*style.edges, math.inf], style.legend, style.colours, strict=True)]
    with RasterMap.open(study / "map.tif") as raster:
        bounds = list(raster.bounds)
    for name, band in (
        ("Density of people", 1),
        ("Population density: lower end of the interval", 2),
        ("Population density: upper end of the interval", 3),
    ):
        layer = layers[name]
        assert (layer["renderer"], layer["band"]) == ("singlebandpseudocolor", band)
        assert (layer["crs"], layer["bounds"]) == ("EPSG:32645", bounds)
        assert layer["classes"] == expected
    quintiles = layers["Welfare quintiles"]
    assert quintiles["renderer"] == "paletted"
    assert [row[0] for row in quintiles["classes"]] == [1, 2, 3, 4, 5]
    support = layers["Population density: like the surveyed places"]
    assert (support["renderer"], support["band"], len(support["classes"])) == ("paletted", 4, 2)
    clusters = layers["Survey clusters"]
    assert (clusters["renderer"], clusters["column"], clusters["features"]) == ("graduatedSymbol", "log_people", 20)
    assert clusters["crs"] == "EPSG:4326"
    # The map is of the same logarithms, so the points have its classes and colours.
    assert [row[1] for row in clusters["classes"][:-1]] == pytest.approx(list(style.edges))
    assert [row[3] for row in clusters["classes"]] == list(style.colours)
    folds = layers["Folds held out together"]
    assert (folds["renderer"], len(folds["classes"])) == ("categorizedSymbol", 5)
    assert layers["Observed minus predicted"]["column"] == "residual"
    assert layers["Admin units"]["classes"][0][2].endswith("% of people")
    assert layers["Admin units"]["bounds"] == [200_000, 3_060_000, 290_000, 3_120_000]


@pytest.mark.qgis
def test_the_page_shows_the_map_and_its_legend(qgis, study, tmp_path):
    for name in ("clusters.parquet", "model/predictions.parquet"):
        (study / name).unlink()
    title = "How many people live where in the plains and the hills"
    path = project_for_study(study, title=title, source="A census", date="2021")
    layouts = open_in_qgis(qgis, path, tmp_path / "png")["layouts"]
    assert list(layouts) == ["Density of people", "Welfare quintiles"]
    page = layouts["Density of people"]
    assert page["result"] == 0
    assert page["items"] == ["legend", "map", "north arrow", "page", "scale bar", "source", "title"]
    assert page["texts"]["title"].replace("\n", " ") == title
    assert page["texts"]["source"].startswith("Source: A census · 2021\nProjection: WGS 84 / UTM zone 45N (EPSG:32645)")
    assert page["shows"] == ["Density of people"]
    drawn = np.asarray(Image.open(page["png"]).convert("RGB")).astype(int)
    per_mm = drawn.shape[1] / page["page_mm"][0]
    left, top, width, height = page["map_mm"]
    west, south, east, north = page["map_bounds"]
    style = style_of(study / "map.tif")
    with RasterMap.open(study / "map.tif") as raster:
        colours = np.round(style.rgba(raster.read(1)) * 255)
        rows, columns = np.nonzero(colours[..., 3])
        x, y = raster.source.transform @ (columns + 0.5, rows + 0.5)
    # Each cell has its colour at its own place on the page.
    across = np.floor((left + (x - west) / (east - west) * width) * per_mm).astype(int)
    down = np.floor((top + (north - y) / (north - south) * height) * per_mm).astype(int)
    off = np.abs(drawn[down, across] - colours[rows, columns, :3]).max(axis=1)
    assert np.mean(off <= 1) > 0.98
    # The map fills its frame but for a narrow rim, and the legend outside of it has all the colours.
    assert (down.max() - down.min()) / (height * per_mm) > 0.9
    outside = drawn.copy()
    outside[
        int(top * per_mm) : int((top + height) * per_mm) + 1, int(left * per_mm) : int((left + width) * per_mm) + 1
    ] = 255
    found = {tuple(colour) for colour in outside.reshape(-1, 3)}
    for colour in style.colours:
        assert tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5)) in found


@pytest.mark.qgis
def test_a_crs_without_a_code_is_known_by_its_wkt(qgis, make_map, tmp_path):
    crs = CRS.from_proj4("+proj=laea +lat_0=28 +lon_0=84 +datum=WGS84 +units=m")
    path = make_map({"mean": np.arange(12.0).reshape(3, 4)}, crs=crs)
    project = write_project(tmp_path / "a.qgz", title="A", rasters=[ProjectRaster(path, style_of(path), "A map")])
    seen = open_in_qgis(qgis, project, tmp_path / "png")
    assert "+proj=laea" in seen["proj"]
    assert "+proj=laea" in seen["layers"]["A map"]["proj"]
    assert seen["layers"]["A map"]["valid"]


def test_bytes_do_not_depend_on_when_or_where(study, tmp_path):
    other = tmp_path / "elsewhere" / "other"
    shutil.copytree(study, other)
    for folder in (study, other):
        project_for_study(folder, title="People")
    for name in ("project.qgz", "layers.gpkg", "map.interval.tif"):
        assert (study / name).read_bytes() == (other / name).read_bytes()
    first = (study / "project.qgz").read_bytes()
    project_for_study(study, title="People")
    assert (study / "project.qgz").read_bytes() == first
    assert str(tmp_path) not in ET.tostring(document(study / "project.qgz"), encoding="unicode")


def test_sources_are_relative(study):
    root = document(project_for_study(study, title="People"))
    sources = {element.text for element in root.iter("datasource")}
    assert {"./map.tif", "./map.interval.tif", "./welfare.tif", "./layers.gpkg|layername=folds"} <= sources
    assert all(source.startswith("./") for source in sources)


def test_maps_get_a_style_file_where_they_have_none(study):
    (study / "map.qml").write_text("mine", encoding="utf-8")
    project_for_study(study, title="People")
    assert (study / "map.qml").read_text(encoding="utf-8") == "mine"
    expected = write_qml(style_of(study / "welfare.tif"), study / "expected.qml")
    assert (study / "welfare.qml").read_bytes() == expected.read_bytes()
    assert "upper ÷ lower" not in (study / "map.interval.qml").read_text(encoding="utf-8")


def test_only_the_first_map_is_drawn_with_the_survey(study):
    root = document(project_for_study(study, title="People"))
    shown = {
        page.get("name"): [layer.get("name") for layer in page.iterfind(".//LayerSet/Layer")]
        for page in root.iter("Layout")
    }
    assert shown == {
        "Density of people": ["Survey clusters", "Density of people"],
        "Welfare quintiles": ["Welfare quintiles"],
    }


def test_two_products_of_one_kind_have_different_names(make_map, tmp_path):
    bands = {"headcount": np.linspace(0, 1, 12).reshape(3, 4)}
    bands |= {"lower": bands["headcount"] * 0.5, "upper": bands["headcount"]}
    for line in ("2.15", "3.65"):
        make_map(bands, f"poor_{line}.tif", tags={"style": "headcount", "title": f"Headcount at {line}"})
    root = document(project_for_study(tmp_path, title="Poor"))
    names = [leaf.get("name") for leaf in root.find("layer-tree-group").iter("layer-tree-layer")]
    assert len(set(names)) == len(names) == 8
    assert "Headcount at 2.15: width of the interval, percentage points" in names


def test_more_bands_of_a_product_are_maps_too(make_map, tmp_path):
    people = np.geomspace(1, 900, 12).reshape(3, 4)
    make_map({"people": people, "density": people / 4, "other": people}, tags={"style": "people", "title": "Census"})
    root = document(project_for_study(tmp_path, title="People"))
    groups = root.find("layer-tree-group").findall("layer-tree-group")
    shown = {group.get("name"): [leaf.get("name") for leaf in group] for group in groups}
    assert shown == {"Maps": ["Census", "Census: population density"]}


@given(
    aspect=st.floats(0.1, 10),
    heights=st.lists(st.floats(15, 60), min_size=1, max_size=2),
    title=st.text("abc ", min_size=1, max_size=120),
)
def test_nothing_on_the_page_overlaps(aspect, heights, title):
    sheet = plan_sheet(aspect, title=title, foot=["source " * 20, "projection"], legend_heights=heights)
    assert sheet.map[2] / sheet.map[3] == pytest.approx(aspect)
    boxes = {name: getattr(sheet, name) for name in ("title", "map", "legend", "north", "scale", "foot")}
    width, height = sheet.size
    for x, y, across, down in boxes.values():
        assert 0 <= x <= x + across <= width
        assert 0 <= y <= y + down <= height
    shapes = [shapely.box(x, y, x + across, y + down) for x, y, across, down in boxes.values()]
    for first in range(len(shapes)):
        for second in range(first):
            assert shapes[first].intersection(shapes[second]).area < 1e-6


def test_bad_input_is_named(density, study, tmp_path):
    raster = ProjectRaster(density(), style_of(study / "map.tif"), "A")

    def fails(message, name="a.qgz", **options):
        with pytest.raises(MapError, match=message):
            write_project(tmp_path / name, **({"title": "T", "rasters": [raster]} | options))
        assert not (tmp_path / name).exists()

    fails("must end so", name="a.qgs")
    fails("no raster in the group Maps", rasters=[])
    fails(r"the same title: A \(Maps\)", rasters=[raster, raster])
    fails("no band 9", rasters=[ProjectRaster(raster.path, raster.style, "A", band=9)])
    fails("there is no map", rasters=[ProjectRaster(tmp_path / "none.tif", raster.style, "A")])
    with pytest.raises(MapError, match=r"no map \(\*.tif\)"):
        project_for_study(tmp_path / "model", title="T")
    (study / "study.json").unlink()
    with pytest.raises(MapError, match="names no column of clusters"):
        project_for_study(study, title="T")
