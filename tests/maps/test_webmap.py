"""The page: one file that asks nobody, whose numbers are the raster's, in place, checked in a real browser."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import re
import shutil
import subprocess
import zlib

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pyproj import CRS, Transformer
from shapely.geometry import Point, Polygon, box

from geopov.errors import MapError
from geopov.grid import transform_xy
from geopov.maps.qgis.layers import GpkgLayer
from geopov.maps.qgis.vector_qml import categorical, graduated
from geopov.maps.styles import make_style, style_of
from geopov.maps.web.page import PageLayer, PageVectors, write_page
from geopov.maps.web.place import mercator
from geopov.maps.web.rasters import Face, PageRaster

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)
in_browser = pytest.mark.skipif(not CHROMIUM, reason="no Chromium on this machine")
EVIL = "</script><script>document.title='broken'</script><img src=x onerror=alert(1)>"


def payload(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text())[1])


def unpacked(text, dtype, shape):
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype).reshape(shape)


def clusters(values=(0.2, 0.7), names=("A 1", EVIL)):
    """Two points, at columns 30 and 60 of row 45 of the map of conftest, given in degrees."""
    x, y = np.array([230_500.0, 260_500.0]), np.array([3_074_500.0, 3_074_500.0])
    points = gpd.points_from_xy(*transform_xy("EPSG:32645", "EPSG:4326", x, y))
    table = gpd.GeoDataFrame({"cluster_id": names, "headcount": values}, geometry=points, crs="EPSG:4326")
    style = make_style("headcount", np.array([0.0, 1.0]))
    return GpkgLayer("clusters", "Survey clusters", table, graduated("headcount", style, shape="point"))


def units():
    """Two squares, the left one with a hole."""
    left = box(200_000, 3_060_000, 245_000, 3_120_000) - box(225_000, 3_090_000, 235_000, 3_100_000)
    right = box(245_000, 3_060_000, 290_000, 3_120_000)
    table = gpd.GeoDataFrame({"name": ["left", "right"], "group": [1, 2]}, geometry=[left, right], crs="EPSG:32645")
    return GpkgLayer("admin", "Units", table, categorical("group", {1: "one", 2: "two"}, shape="polygon"))


@pytest.fixture
def page(density, tmp_path):
    """Log density with interval and support, its band of support as classes, points and polygons."""
    layers = [PageLayer(density()), PageLayer(density(), band="in_support", style="in_support", title="Support")]
    vectors = [PageVectors(units()), PageVectors(clusters(), shown=True)]
    return write_page(tmp_path / "page.html", layers=layers, vectors=vectors, title="Where & who <b>", year=2021)


def test_it_asks_nobody(page):
    text = page.read_text()
    assert "http://" not in text
    assert "https://" not in text
    assert not re.search(r"<(link|iframe|object|embed|script[^>]*src)\b", text)
    assert all(uri.startswith("data:image/png") for uri in re.findall(r'\bsrc="([^"]*)"', text))
    policy = html.unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1])
    allowed = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert allowed["default-src"] == "'none'"
    assert allowed["img-src"] == "data:"
    # Just the style and the script that are there may run: a text that slipped in as HTML could not.
    for name, tag in (("style-src", "style"), ("script-src", "script")):
        (inline,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
        assert allowed[name] == f"'sha256-{digest}'"
    assert not re.search(r"<[^>]+ (style|on\w+)=", text.split("<script", maxsplit=1)[0])


def test_words_stay_words(page):
    text = page.read_text()
    assert "Where &amp; who &lt;b&gt;" in text
    assert EVIL not in text
    assert text.count("<script") == text.count("</script>") == 2
    assert payload(page)["vectors"][1]["rows"][1][0] == EVIL


def test_bytes_repeat_and_do_not_know_the_folder(density, tmp_path):
    path = density()
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(path, tmp_path / "elsewhere" / "map.tif")
    first = write_page(tmp_path / "a.html", layers=[PageLayer(path)], vectors=[PageVectors(clusters())])
    other = tmp_path / "elsewhere" / "map.tif"
    again = write_page(tmp_path / "b.html", layers=[PageLayer(other)], vectors=[PageVectors(clusters())])
    assert first.read_bytes() == again.read_bytes()
    assert str(tmp_path) not in first.read_text()


def test_values_and_classes_are_those_of_the_raster(page, density):
    layer = payload(page)["layers"][0]
    with rasterio.open(density()) as source:
        mean, lower, upper, support = source.read().astype(float)
    shape = layer["height"], layer["width"]
    assert shape == mean.shape
    for name, band in (("value", mean), ("lower", lower), ("upper", upper)):
        told = unpacked(layer["values"][name], "<f4", shape)
        np.testing.assert_allclose(told, np.exp(band), rtol=2**-12)
    told = unpacked(layer["support"], "u1", shape)
    np.testing.assert_array_equal(np.where(told == 255, np.nan, told), support)
    face = layer["faces"][0]
    style = style_of(density())
    classes = unpacked(face["classes"], "u1", shape)
    colours = np.array([*face["colours"], *[""] * (256 - len(face["colours"]))])[classes]
    rgb = np.array([[[int(c[i : i + 2] or "0", 16) for i in (1, 3, 5)] for c in row] for row in colours])
    expected = np.round(style.rgba(mean)[..., :3] * 255)
    np.testing.assert_array_equal(rgb[np.isfinite(mean)], expected[np.isfinite(mean)])
    assert (classes[np.isnan(mean)] == 255).all()


def test_still_picture_has_the_colours(page, density):
    source = re.search(r'src="data:image/png;base64,([^"]*)"', page.read_text())[1]
    with Image.open(io.BytesIO(base64.b64decode(source))) as image:
        pixels = np.asarray(image.convert("RGBA"))
    with rasterio.open(density()) as raster:
        mean = raster.read(1).astype(float)
    expected = np.round(style_of(density()).rgba(mean) * 255).astype(int)
    known = np.isfinite(mean)
    np.testing.assert_array_equal(pixels[known], expected[known])
    assert (pixels[~known, 3] == 0).all()


def located(crs, x, y, lon0):
    """Web Mercator of a place, by PROJ."""
    lon, lat = Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform(x, y)
    mx, my = Transformer.from_crs("EPSG:4326", "EPSG:3857", always_xy=True).transform(lon, lat)
    around = 2 * np.pi * 6378137
    return mx + around * np.round((np.radians(lon0) * 6378137 - mx) / around), my


GRIDS = {
    "UTM 36S": ("EPSG:32736", (492_000, 8_590_000, 694_000, 8_966_000), 34.0, 1000),
    "Mercator": ("EPSG:3857", (290_700, 474_300, 1_637_100, 1_568_250), 8.0, 7650),
    "degrees": ("EPSG:4326", (27.0, -30.5, 29.5, -28.5), 28.0, 1 / 120),
    "EASE-Grid": ("EPSG:6933", (-900_000, 3_006_000, 3_600_000, 6_003_000), 15.0, 9000),
    "date line": ("EPSG:32660", (700_000, 7_980_000, 1_000_000, 8_300_000), 179.5, 2000),
}


@pytest.mark.parametrize("name", GRIDS)
@settings(max_examples=25, deadline=None)
@given(place=st.tuples(st.floats(0.01, 0.99), st.floats(0.01, 0.99)))
def test_a_place_falls_into_its_cell(name, place):
    crs, bounds, lon0, cell = GRIDS[name]
    west, south, east, north = bounds
    classes = np.zeros((round((north - south) / cell), round((east - west) / cell)), np.uint8)
    raster = raster_of(classes, crs, bounds)
    made = raster.payload(lon0)
    n = made["nodes"]
    lattice = unpacked(made["lattice"], "<f4", (2, n + 1, n + 1))
    x, y = west + place[0] * (east - west), south + place[1] * (north - south)
    mx, my = located(crs, x, y, lon0)
    left, bottom, right, top = made["frame"]
    assert left <= mx <= right
    assert bottom <= my <= top
    u, v = (mx - left) / (right - left) * n, (top - my) / (top - bottom) * n
    i, j = min(int(u), n - 1), min(int(v), n - 1)
    du, dv = u - i, v - j
    corners = lattice[:, j, i], lattice[:, j, i + 1], lattice[:, j + 1, i], lattice[:, j + 1, i + 1]
    found = (corners[0] * (1 - du) + corners[1] * du) * (1 - dv) + (corners[2] * (1 - du) + corners[3] * du) * dv
    np.testing.assert_allclose(found, [(x - west) / cell, (north - y) / cell], atol=0.03)


def raster_of(classes, crs, bounds):
    style = make_style("density", np.array([1.0, 100.0]))
    words = dict.fromkeys(("title", "source", "year", "cells", "level", "file", "sha256"), "")
    values = {"value": classes.astype(float)}
    faces = (Face("estimate", style, classes),)
    return PageRaster(**words, faces=faces, values=values, support=None, crs=CRS.from_user_input(crs), bounds=bounds)


@given(st.floats(-180, 180), st.floats(-84, 84))
def test_mercator_is_that_of_proj(lon, lat):
    expected = Transformer.from_crs("EPSG:4326", "EPSG:3857", always_xy=True).transform(lon, lat)
    np.testing.assert_allclose(mercator(np.array(lon), np.array(lat)), expected, atol=1e-3)


def test_large_maps_are_averaged_and_say_so(make_map, tmp_path):
    values = np.kron(np.arange(1.0, 101).reshape(10, 10), np.ones((40, 40))) + np.tile([-0.5, 0.5], (400, 200))
    path = make_map({"value": values})
    page = write_page(tmp_path / "page.html", layers=[PageLayer(path, style="generic")], max_cells=100)
    layer = payload(page)["layers"][0]
    np.testing.assert_allclose(unpacked(layer["values"]["value"], "<f4", (10, 10)).ravel(), range(1, 101), rtol=2e-4)
    assert "averages of about 40 × 40 cells of 1 km" in page.read_text()


def test_size_is_bounded(make_map, tmp_path):
    rng = np.random.default_rng(0)
    mean = rng.normal(5, 2, (500, 500))
    bands = {"mean": mean, "lower": mean - rng.random(mean.shape), "upper": mean + rng.random(mean.shape)}
    path = make_map(bands, tags={"style": "log_density"})
    page = write_page(tmp_path / "page.html", layers=[PageLayer(path)])
    # Noise does not compress: no real map takes more.
    assert page.stat().st_size < 1_600_000


def test_classes_are_not_averaged(make_map, tmp_path):
    rng = np.random.default_rng(0)
    quintile = rng.choice([1.0, 5.0], (200, 200))
    page = write_page(
        tmp_path / "page.html", layers=[PageLayer(make_map({"q": quintile}), style="quintile")], max_cells=900
    )
    layer = payload(page)["layers"][0]
    told = unpacked(layer["values"]["value"], "<f4", (layer["height"], layer["width"]))
    assert set(told.ravel()) == {1.0, 5.0}
    assert layer["labels"][0] == "1 (poorest fifth)"
    assert [face["key"] for face in layer["faces"]] == ["estimate"]


def test_neighbours_keep_their_border(tmp_path, density):
    wave = [(245_000 + 4000 * np.sin(t / 9), 3_060_000 + 600 * t) for t in range(101)]
    left = Polygon([(200_000, 3_060_000), *wave, (200_000, 3_120_000)])
    right = Polygon([*wave, (290_000, 3_120_000), (290_000, 3_060_000)])
    table = gpd.GeoDataFrame({"name": ["a", "b"], "group": [1, 2]}, geometry=[left, right], crs="EPSG:32645")
    layer = GpkgLayer("admin", "Units", table, categorical("group", {1: "one", 2: "two"}, shape="polygon"))
    page = write_page(tmp_path / "page.html", layers=[PageLayer(density())], vectors=[PageVectors(layer)])
    one, other = (
        Polygon(np.cumsum(np.reshape(rings[0], (-1, 2)), axis=0)) for rings in payload(page)["vectors"][0]["shapes"]
    )
    assert one.touches(other)
    assert one.intersection(other).length > 50_000


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"layers": []}, "no layer"),
        ({"path": "page.txt"}, "ends in .html"),
        ({"layer": {"band": "median"}}, "no band called 'median'; it has mean, lower"),
        ({"layer": {"band": 9}}, "no band 9"),
        ({"layer": {"style": "wealth"}}, "no style 'wealth'"),
        ({"max_cells": 0}, "max_cells"),
        ({"columns": ("age",)}, "no column 'age'"),
        ({"product": "wealth"}, "no product 'wealth'"),
        ({"crs": None}, "a CRS"),
        ({"place": Affine(1000, 0, 500_000, 0, -1000, 9_990_000)}, "85 degrees"),
    ],
)
def test_bad_input_is_named(density, tmp_path, change, words):
    path = density(**({"transform": change["place"]} if "place" in change else {}))
    survey = clusters()
    if "crs" in change:
        survey = GpkgLayer("c", "Survey clusters", survey.table.set_crs(None, allow_override=True), survey.style)
    layers = change.get("layers", [PageLayer(path, **change.get("layer", {}))])
    vectors = [PageVectors(survey, change.get("columns", ()), product=change.get("product"))]
    out = tmp_path / change.get("path", "page.html")
    with pytest.raises(MapError, match=re.escape(words)):
        write_page(out, layers=layers, vectors=vectors, max_cells=change.get("max_cells", 1000))
    assert not out.exists()


def browse(page, tmp_path, *options, place=""):
    """What Chromium has made of the page, and what it complained of."""
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr", "--hide-scrollbars"]
    command += ["--window-size=1200,800", "--virtual-time-budget=4000", *options]
    done = subprocess.run([*command, page.as_uri() + place], capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def ask(page, tmp_path, *places, width=1000):
    """What the page shows at each address: lines of the tip, legends, and how it fits; all must be quiet."""
    # Headless Chromium refuses narrow windows, a frame may be any width.
    frames = "".join(
        f'<iframe src="{page.name}{html.escape(place)}" style="width:{width}px;height:700px;border:0"></iframe>'
        for place in places
    )
    script = """onload = () => setTimeout(() => { document.title = JSON.stringify(
      [...document.querySelectorAll("iframe")].map((element) => element.contentWindow).map((frame) => {
      const page = frame.document, root = page.documentElement, map = page.getElementById("map");
      return {
        ready: root.dataset.ready, title: page.title, wide: root.scrollWidth, map: map.offsetWidth,
        bottom: map.getBoundingClientRect().bottom, images: page.images.length,
        tip: [...page.getElementById("tip").children].map((row) => row.textContent),
        legends: [...page.querySelectorAll(".legend")].filter((one) => !one.hidden).map((one) => one.id),
      } })) }, 1500)"""
    (tmp_path / "frame.html").write_text(f"{frames}<script>{script}</script>")
    dom, complaints = browse(tmp_path / "frame.html", tmp_path, "--allow-file-access-from-files", "--dump-dom")
    assert complaints == []
    found = json.loads(html.unescape(re.search(r"<title>(.*?)</title>", dom)[1]))
    assert [page["ready"] for page in found] == ["yes"] * len(places)
    return found


def at(column, row, more=""):
    """The address of a place of the map of conftest, in fractions of columns and rows."""
    x, y = np.array([200_000 + 1000.0 * column]), np.array([3_120_000 - 1000.0 * row])
    lon, lat = transform_xy("EPSG:32645", "EPSG:4326", x, y)
    return f"#lon={lon[0]:.6f}&lat={lat[0]:.6f}{more}"


def three_digits(value):
    return f"{float(f'{value:.3g}'):,.10g}"


@in_browser
def test_a_reader_is_told_value_and_interval(page, density, tmp_path):
    cells = [(70, 10), (89, 59), (0, 59), (15, 50), (60, 30), (45, 0)]
    # Near a corner of each cell, so that a shift of a fifth of a cell would be found out.
    addresses = [at(column + 0.15, row + 0.85) for column, row in cells]
    with rasterio.open(density()) as source:
        bands = source.read().astype(float)
    for address, (column, row), found in zip(addresses, cells, ask(page, tmp_path, *addresses), strict=True):
        mean, lower, upper, support = bands[:, row, column]
        lon, lat = (float(part.split("=")[1]) for part in address.split("&"))
        assert found["tip"] == [
            "Density",
            f"{three_digits(np.exp(mean))} people per km²",
            f"90% interval {three_digits(np.exp(lower))} to {three_digits(np.exp(upper))}",
            "like the surveyed places" if support else "unlike the surveyed places: not tested here",
            f"{lat:.4f}° N, {lon:.4f}° E",
        ]


@in_browser
def test_the_address_chooses_and_features_are_told(page, tmp_path):
    ticked = tmp_path / "ticked.html"
    ticked.write_text(page.read_text().replace('name="vector" value="1"', 'name="vector" value="1" checked'))
    places = [at(30.5, 45.5, "&layer=2"), at(60.5, 45.5, "&show=interval"), at(30.5, 25.5), at(5, 5), at(-20, 30)]
    support, evil, hole, empty, outside = ask(ticked, tmp_path, *places)
    assert support["tip"][:2] == ["Support", "like the surveyed places"]
    assert support["tip"][2:7] == [
        "Survey clusters",
        "cluster_id: A 1",
        "headcount: 20% of people",
        "Units",
        "name: left",
    ]
    assert support["legends"] == ["legend-2-estimate", "legend-vector-1", "legend-vector-2"]
    assert evil["legends"] == ["legend-1-interval", "legend-vector-1", "legend-vector-2"]
    assert f"cluster_id: {EVIL}" in evil["tip"], "markup in a table is text on the page"
    assert "name: right" in evil["tip"]
    assert evil["title"] == "Where & who <b>"
    assert evil["images"] == 1
    assert not [line for line in hole["tip"] if line.startswith("name")]
    assert empty["tip"][:2] == outside["tip"][:2] == ["Density", "no data here"]


MOVES = """onload = () => setTimeout(() => {
  const page = frames[0].document, map = page.getElementById("map"), box = map.getBoundingClientRect(), said = {};
  map.setPointerCapture = () => {};
  const place = (x, y) => ({ clientX: Math.round(box.left) + x, clientY: Math.round(box.top) + y });
  const more = { bubbles: true, cancelable: true };
  const send = (type, x, y, pointerId = 1) =>
    map.dispatchEvent(new frames[0].PointerEvent(type, { ...place(x, y), ...more, pointerId }));
  const press = (key) => map.dispatchEvent(new frames[0].KeyboardEvent("keydown", { key, ...more }));
  const at = (x, y) => {
    send("pointermove", x, y);
    return page.getElementById("tip").lastChild.textContent.match(/[\\d.]+/g).map(Number);
  };
  said.start = at(400, 300);
  map.dispatchEvent(new frames[0].WheelEvent("wheel", { deltaY: -300, ...place(400, 300), ...more }));
  said.wheel = at(400, 300);
  said.besideWheel = at(500, 300);
  send("pointerdown", 400, 300), send("pointermove", 430, 340), send("pointerup", 430, 340);
  said.drag = at(430, 340);
  press("0");
  said.all = at(400, 300);
  said.beside = at(500, 300);
  send("pointerdown", 300, 300, 1), send("pointerdown", 500, 300, 2);
  send("pointermove", 200, 300, 1), send("pointermove", 600, 300, 2);
  send("pointerup", 200, 300, 1), send("pointerup", 600, 300, 2);
  said.pinch = at(400, 300);
  said.besidePinch = at(500, 300);
  press("0"), press("Enter");
  said.enter = frames[0].location.hash;
  press("Escape");
  said.escape = frames[0].location.hash;
  document.title = JSON.stringify(said);
}, 1500)"""


@in_browser
def test_wheel_drag_pinch_and_keys(page, tmp_path):
    frame = '<iframe src="page.html" style="width:1100px;height:700px"></iframe>'
    (tmp_path / "frame.html").write_text(f"{frame}<script>{MOVES}</script>")
    dom, complaints = browse(tmp_path / "frame.html", tmp_path, "--allow-file-access-from-files", "--dump-dom")
    assert complaints == []
    said = json.loads(html.unescape(re.search(r"<title>(.*?)</title>", dom)[1]))
    # What is below the pointer stays below it, however the map moves; 100 pixels are half as many degrees after.
    for name in ("wheel", "drag", "all", "pinch"):
        assert said[name] == pytest.approx(said["start"], abs=0.0015), name
    wide = said["beside"][1] - said["all"][1]
    assert wide > 0.05
    assert said["besideWheel"][1] - said["wheel"][1] == pytest.approx(wide / 2 ** (200 / 300), rel=0.02)
    assert said["besidePinch"][1] - said["pinch"][1] == pytest.approx(wide / 2, rel=0.02)
    lon, lat = (float(part.split("=")[1]) for part in said["enter"].split("&")[:2])
    middle = at(45, 30)
    assert (lon, lat) == pytest.approx([float(part.split("=")[1]) for part in middle.split("&")], abs=0.02)
    assert said["escape"] == "#layer=1"


@in_browser
@pytest.mark.parametrize("width", [360, 1200])
def test_fits_the_screen(page, tmp_path, width):
    (found,) = ask(page, tmp_path, at(60, 45), width=width)
    assert found["wide"] <= width
    assert found["map"] > 0.6 * width
    assert found["bottom"] <= 700


def screenshot(page, tmp_path, *options, place=""):
    _, complaints = browse(page, tmp_path, f"--screenshot={tmp_path / 'shot.png'}", *options, place=place)
    with Image.open(tmp_path / "shot.png") as image:
        return np.asarray(image.convert("RGB")), complaints


@in_browser
def test_cells_are_drawn_where_they_lie(make_map, tmp_path):
    values = np.full((60, 90), 1.0)
    values[20:40, 30:60] = 1000.0
    path = make_map({"value": values}, tags={"style": "density"})
    page = write_page(tmp_path / "page.html", layers=[PageLayer(path)])
    pixels, complaints = screenshot(page, tmp_path)
    assert complaints == []
    low, high = (
        np.argwhere((pixels == [int(colour[i : i + 2], 16) for i in (1, 3, 5)]).all(axis=-1))
        for colour in (style_of(path).colours[0], style_of(path).colours[-1])
    )
    # Left of the legend. The middle block is a third as wide and high as the map, in its middle.
    low, high = low[low[:, 1] < 850], high[high[:, 1] < 850]
    for axis in (0, 1):
        whole = np.ptp(low[:, axis])
        assert np.ptp(high[:, axis]) == pytest.approx(whole / 3, rel=0.05)
        middle = (low[:, axis].min() + low[:, axis].max()) / 2
        assert (high[:, axis].min() + high[:, axis].max()) / 2 == pytest.approx(middle, abs=0.02 * whole)
    # A map of 90 km in Nepal on some 900 pixels of the window.
    assert np.ptp(low[:, 1]) > 500


@in_browser
def test_without_javascript_picture_and_legend_are_there(page, tmp_path):
    (tmp_path / "frame.html").write_text('<iframe sandbox src="page.html" style="width:1100px;height:700px"></iframe>')
    pixels, complaints = screenshot(tmp_path / "frame.html", tmp_path)
    assert all("Blocked script execution" in line for line in complaints)
    for name, hidden in (("still", False), ("map", True), ("controls", True), ("find", True)):
        assert ("hidden" in re.search(rf'<\w+[^>]*id="{name}"[^>]*>', page.read_text())[0]) == hidden
    for colour in payload(page)["layers"][0]["faces"][0]["colours"]:
        rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        assert (pixels == rgb).all(axis=-1).sum() > 200, f"{colour} is in legend and picture"


def test_a_point_is_told_by_name_and_what_is_drawn(density, tmp_path):
    survey = clusters(values=(0.2, np.nan))
    page = write_page(tmp_path / "page.html", layers=[PageLayer(density())], vectors=[PageVectors(survey)])
    made = payload(page)["vectors"][0]
    assert [column["name"] for column in made["columns"]] == ["cluster_id", "headcount"]
    assert made["rows"] == [["A 1", 20.0], [EVIL, None]], "shares are told in the unit of the legend"
    assert made["classes"][1] == -1
    x, y = made["shapes"][0][0]
    lon, lat = (np.array(float(part.split("=")[1])) for part in at(30.5, 45.5).split("&"))
    np.testing.assert_allclose((x, y), mercator(lon, lat), rtol=0, atol=1)
    assert isinstance(survey.table.geometry.iloc[0], Point)


@pytest.mark.parametrize(
    ("product", "told", "unit"),
    [
        (None, np.log(2.0), ""),
        ("log_consumption", 2.0, "PPP USD per person per day"),
        ("consumption", np.log(2.0), "PPP USD per person per day"),
    ],
)
def test_logarithms_are_told_in_the_unit_of_the_legend(density, tmp_path, product, told, unit):
    table = clusters().table.assign(outcome=np.log([2.0, 8.0]))[["cluster_id", "outcome", "geometry"]]
    look = graduated("outcome", make_style("log_consumption", np.log([1.0, 10.0])), shape="point")
    vectors = [PageVectors(GpkgLayer("clusters", "Clusters", table, look), product=product)]
    made = payload(write_page(tmp_path / "page.html", layers=[PageLayer(density())], vectors=vectors))["vectors"][0]
    assert made["columns"][1] == {"name": "outcome", "unit": unit}
    assert made["rows"][0][1] == pytest.approx(told, rel=1e-5)
