"""Style files: the same bytes twice, and in real QGIS the classes, labels and colours that were written."""

from __future__ import annotations

import json
import math
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from PIL import Image, ImageColor

from geopov.maps import RasterMap, style_of, write_qml

PROBE = Path(__file__).with_name("qgis_probe.py")
LAYER_PROBE = Path(__file__).with_name("qgis_project_probe.py")


def test_each_class_is_an_item_with_its_unit(density, tmp_path):
    style = style_of(density())
    root = ET.parse(write_qml(style, tmp_path / "map.qml", band=1)).getroot()
    items = root.findall(".//colorrampshader/item")
    assert [item.get("label") for item in items] == [f"{label} people per km²" for label in style.labels]
    assert [item.get("color") for item in items] == list(style.colours)
    assert [float(item.get("value")) for item in items] == [*style.edges, math.inf]


def test_bytes_repeat(density, tmp_path):
    style = style_of(density())
    assert write_qml(style, tmp_path / "a.qml").read_bytes() == write_qml(style, tmp_path / "b.qml").read_bytes()


@pytest.mark.qgis
def test_qgis_applies_the_style_by_itself(qgis, density, tmp_path):
    path = density()
    style = style_of(path)
    write_qml(style, path.with_suffix(".qml"))
    done = qgis(PROBE, path, tmp_path / "qgis.png")
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["valid"]
    assert seen["crs"] == "EPSG:32645"
    with RasterMap.open(path) as raster:
        assert seen["bounds"] == list(raster.bounds)
    assert seen["bands"] == ["Band 1: mean", "Band 2: lower", "Band 3: upper", "Band 4: in_support"]
    assert seen["nodata"]
    assert (seen["renderer"], seen["band"], seen["discrete"]) == ("singlebandpseudocolor", 1, True)
    assert seen["range"] == [style.low, style.high]
    limits, labels, colours = zip(*seen["classes"], strict=True)
    np.testing.assert_allclose(limits, [*style.edges, math.inf])
    assert labels == tuple(f"{label} people per km²" for label in style.labels)
    assert colours == style.colours
    drawn = np.asarray(Image.open(tmp_path / "qgis.png").convert("RGB"))
    with RasterMap.open(path) as raster:
        expected = np.kron((style.rgba(raster.read(1)) * 255).round(), np.ones((5, 5, 1)))
    seen_through = expected[..., 3] == 0
    expected[seen_through, :3] = ImageColor.getrgb("#ff00ff")
    # 90 x 60 cells on 450 x 300 pixels: a pixel in the middle of each cell, so that rounding at edges does not count.
    np.testing.assert_array_equal(drawn[2::5, 2::5], expected[2::5, 2::5, :3])


@pytest.mark.qgis
def test_qgis_shows_the_band_that_was_asked_for(qgis, density, tmp_path):
    path = density()
    write_qml(style_of(path, band=3), path.with_suffix(".qml"), band=3)
    seen = json.loads(qgis(PROBE, path, tmp_path / "qgis.png").stdout)
    assert seen["band"] == 3


def test_a_map_of_classes_has_a_palette(make_map, tmp_path):
    style = style_of(make_map({"quintile": np.array([[1.0, 5.0]])}, tags={"style": "quintile"}))
    root = ET.parse(write_qml(style, tmp_path / "map.qml", band=2)).getroot()
    renderer = root.find("pipe/rasterrenderer")
    assert (renderer.get("type"), renderer.get("band")) == ("paletted", "2")
    entries = [(entry.get("value"), entry.get("label")) for entry in renderer.iter("paletteEntry")]
    assert entries == list(zip("12345", style.labels, strict=True))


@pytest.mark.qgis
def test_qgis_applies_a_palette_by_itself(qgis, make_map):
    path = make_map({"quintile": np.array([[1.0, 2, 3], [4, 5, np.nan]])}, tags={"style": "quintile"})
    style = style_of(path)
    write_qml(style, path.with_suffix(".qml"))
    done = qgis(LAYER_PROBE, path)
    assert done.returncode == 0, done.stderr
    (layer,) = json.loads(done.stdout)
    assert layer["valid"]
    assert layer["renderer"] == "paletted"
    assert layer["classes"] == [[*row] for row in zip(style.categories, style.labels, style.colours, strict=True)]
