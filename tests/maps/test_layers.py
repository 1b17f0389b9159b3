"""One GeoPackage with the survey behind a map, that QGIS draws by itself."""

from __future__ import annotations

import json
from pathlib import Path

import geopandas as gpd
import numpy as np
import pyogrio
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from geopov.errors import MapError
from geopov.maps import make_style
from geopov.maps.qgis.layers import write_layers
from geopov.maps.qgis.vector_qml import categorical, diverging, graduated, vector_qml, vector_renderer

PROBE = Path(__file__).with_name("qgis_project_probe.py")


@pytest.fixture
def clusters():
    place = gpd.points_from_xy([33.0, 33.5, 34.0, 34.0], [-10.0, -10.5, -11.0, -12.0])
    columns = {"cluster_id": ["a", "b", "c", "d"], "urban": [True, False, False, True], "wealth": [-1.0, 0.0, 2.0, 1.0]}
    return gpd.GeoDataFrame(columns, geometry=place, crs="EPSG:4326")


@pytest.fixture
def predictions(clusters):
    table = clusters[["cluster_id", "geometry"]].assign(fold=[0, 0, 1, 1], block=[7, 7, 8, 9])
    return table.assign(
        observed=[-1.0, 0.0, 2.0, 1.0], mean=[-0.5, 0.25, 1.0, 1.0], lower=[-0.75, 0, 0, 0.5], upper=[0, 1, 1.5, 1.5]
    )


@pytest.fixture
def units():
    squares = [shapely.box(33, -12, 34, -11), shapely.box(33, -11, 34, -10)]
    columns = {"zone_id": ["1", "2"], "count": [100.0, 5000.0], "area_km2": [10.0, 20.0], "eblup": [0.25, 0.75]}
    return gpd.GeoDataFrame(columns, geometry=squares, crs="EPSG:4326")


def test_layers_hold_what_they_say(clusters, predictions, units, tmp_path):
    path = tmp_path / "layers.gpkg"
    options = {"outcome": "wealth", "admin": units, "admin_column": "eblup", "zones": units}
    written = write_layers(path, clusters=clusters, predictions=predictions, **options)
    names = [layer.name for layer in written]
    assert names == ["clusters", "folds", "residuals", "admin", "zones"]
    assert [name for name, _ in pyogrio.list_layers(path)] == [*names, "layer_styles"]
    residuals = gpd.read_file(path, layer="residuals")
    np.testing.assert_array_equal(residuals["residual"], [-0.5, -0.25, 1.0, 0.0])
    # The first lies below its interval and the third above, and an end belongs to the interval.
    assert residuals["in_interval"].tolist() == [False, True, False, True]
    assert residuals.crs == "EPSG:4326"
    folds = gpd.read_file(path, layer="folds")
    assert folds[["fold", "block"]].to_numpy().tolist() == [[0, 7], [0, 7], [1, 8], [1, 9]]
    assert gpd.read_file(path, layer="zones")["density"].tolist() == [10, 250]
    assert gpd.read_file(path, layer="clusters")["urban"].tolist() == [True, False, False, True]
    styles = pyogrio.read_dataframe(path, layer="layer_styles")
    assert styles["f_table_name"].tolist() == names
    assert styles["styleQML"].tolist() == [vector_qml(layer.style) for layer in written]
    assert styles["useAsDefault"].all()


def test_bytes_repeat_and_the_date_is_set_free(clusters, predictions, tmp_path):
    before = pyogrio.get_gdal_config_option("OGR_CURRENT_DATE")
    for name in ("a.gpkg", "b.gpkg"):
        write_layers(tmp_path / name, clusters=clusters, predictions=predictions, outcome="wealth")
    assert (tmp_path / "a.gpkg").read_bytes() == (tmp_path / "b.gpkg").read_bytes()
    assert pyogrio.get_gdal_config_option("OGR_CURRENT_DATE") == before


@pytest.mark.qgis
def test_qgis_finds_the_styles_in_the_file(qgis, clusters, predictions, units, tmp_path):
    path = tmp_path / "layers.gpkg"
    options = {"outcome": "wealth", "outcome_style": "asset_wealth", "admin": units, "admin_column": "eblup"}
    written = write_layers(path, clusters=clusters, predictions=predictions, admin_style="headcount", **options)
    done = qgis(PROBE, *(f"{path}|layername={layer.name}" for layer in written))
    assert done.returncode == 0, done.stderr
    seen = dict(zip([layer.name for layer in written], json.loads(done.stdout), strict=True))
    assert all(layer["valid"] and layer["crs"] == "EPSG:4326" for layer in seen.values())
    drawn = {name: (layer["renderer"], layer["column"], layer["features"]) for name, layer in seen.items()}
    assert drawn == {
        "clusters": ("graduatedSymbol", "wealth", 4),
        "folds": ("categorizedSymbol", "fold", 4),
        "residuals": ("graduatedSymbol", "residual", 4),
        "admin": ("graduatedSymbol", "eblup", 2),
    }
    for layer in written:
        assert [row[-1] for row in seen[layer.name]["classes"]] == [swatch.colour for swatch in layer.style.swatches]
        assert [row[-2] for row in seen[layer.name]["classes"]] == list(layer.style.legend)
    assert "partially supported" not in done.stderr


def test_points_have_the_classes_of_the_map():
    style = make_style("asset_wealth", np.linspace(-1.3, 1.7, 100))
    own = graduated("wealth", style, shape="point")
    assert own.edges == style.edges
    assert own.legend == style.legend
    ranges = vector_renderer(own).findall("ranges/range")
    assert [float(row.get("upper")) for row in ranges[:-1]] == list(style.edges)
    assert ranges[0].get("label") == "under −1 index (no unit)"


values = st.lists(st.floats(-1e6, 1e6).filter(lambda value: value == 0 or abs(value) > 1e-6), min_size=1, max_size=40)


@given(values=values)
def test_residual_classes_are_symmetric(values):
    style = diverging("residual", np.array(values), unit="ln(x)")
    assert len(style.swatches) == len(style.edges) + 1
    np.testing.assert_array_equal(style.edges, -np.array(style.edges[::-1]))
    assert list(style.edges) == sorted(set(style.edges))
    assert 0 not in style.edges
    assert len({swatch.label for swatch in style.swatches}) == len(style.swatches)


def test_residual_classes_by_hand():
    style = diverging("residual", np.array([-1.0, 0.1, 0.4, np.nan]), unit="index")
    assert style.legend[0].startswith("under −")
    assert style.legend[-1].startswith("over ")
    assert style.unit == "index"
    red, blue = style.swatches[0].colour, style.swatches[-1].colour
    assert int(red[1:3], 16) > int(red[5:], 16)
    assert int(blue[1:3], 16) < int(blue[5:], 16)
    with pytest.raises(MapError, match="no value"):
        diverging("residual", np.array([np.nan]), unit="")


def test_forty_categories_look_different():
    style = categorical("fold", {number: f"fold {number}" for number in range(40)})
    assert len({(swatch.colour, swatch.marker) for swatch in style.swatches}) == 40


def test_nested_values_become_text(clusters, tmp_path):
    nested = clusters.assign(notes=[["x"], {"y": 1}, None, []])
    write_layers(tmp_path / "a.gpkg", clusters=nested, outcome="wealth")
    assert gpd.read_file(tmp_path / "a.gpkg", layer="clusters")["notes"].tolist() == ['["x"]', '{"y": 1}', "null", "[]"]


def test_bad_input_is_named(clusters, predictions, tmp_path):
    def fails(message, name="a.gpkg", **tables):
        with pytest.raises(MapError, match=message):
            write_layers(tmp_path / name, **tables)
        assert not list(tmp_path.iterdir())

    fails("no table to write")
    fails(r"must end in \.gpkg", name="a.shp", clusters=clusters, outcome="wealth")
    fails("without outcome", clusters=clusters)
    fails("without admin_column", admin=clusters)
    fails("no column 'income'", clusters=clusters, outcome="income")
    fails("not a number", clusters=clusters, outcome="cluster_id")
    fails("no column 'fold'", predictions=predictions.drop(columns="fold"))
    fails("have no CRS", clusters=clusters.set_crs(None, allow_override=True), outcome="wealth")
    fails("is empty", clusters=clusters.iloc[:0], outcome="wealth")
    fails("needs a GeoDataFrame", clusters=clusters.drop(columns="geometry"), outcome="wealth")
    fails("columns urban stand twice", clusters=clusters.assign(URBAN=1), outcome="wealth")
    fails("columns fid stand twice", clusters=clusters.assign(FID=1), outcome="wealth")
    fails("no style 'rainbow'", clusters=clusters, outcome="wealth", outcome_style="rainbow")
