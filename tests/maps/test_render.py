"""Pictures: nothing overlaps or leaves the page, colours and words are right, scale and north are true."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image, ImageColor
from pyproj import CRS

from geopov.errors import MapError
from geopov.maps import RasterMap, render, style_of
from geopov.maps.picture.cartography import View, format_degrees, format_length, graticule, round_length
from geopov.maps.picture.layout import Layer, Picture, compose
from geopov.maps.picture.page import NO_DATA, UNSUPPORTED
from geopov.maps.styles import make_interval_style, make_style

UTM = CRS.from_epsg(32645)


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")), image.info


def share(image, colour):
    return float((image == ImageColor.getrgb(colour)).all(axis=-1).mean())


def test_every_class_and_nodata_are_drawn(density, tmp_path):
    path = density()
    image, info = pixels(render(path, tmp_path / "map.png", width_px=900))
    assert image.shape[1] == 900
    assert "Software" not in info
    for colour in (*style_of(path).colours, NO_DATA, UNSUPPORTED):
        assert share(image, colour) > 0.0005, colour
    assert share(image, "#ffffff") > 0.3


def test_bytes_repeat(density, tmp_path):
    path = density()
    first, second = render(path, tmp_path / "a.png", width_px=600), render(path, tmp_path / "b.png", width_px=600)
    assert first.read_bytes() == second.read_bytes()


def test_cells_are_where_they_belong(make_map, tmp_path):
    values = np.ones((40, 40))
    values[:10, 30:] = 100.0
    values[30:, :10] = 5.0
    path = make_map({"value": values}, nodata=5.0)
    image, _ = pixels(render(path, tmp_path / "map.png", style="density", width_px=900))
    colours = style_of(path, style="density").colours
    bright, dark = (np.argwhere((image == ImageColor.getrgb(c)).all(axis=-1)) for c in (colours[0], colours[-1]))
    # The legend's swatches of the same colours stand to the right of the map.
    bright, dark = bright[bright[:, 1] < 560], dark[dark[:, 1] < 560]
    assert dark[:, 0].max() < np.median(bright[:, 0])
    assert dark[:, 1].min() > np.median(bright[:, 1])


def picture(aspect, *, interval, name="log_density", title="Population density", source="A census"):
    height = 60
    width = max(2, round(height * aspect))
    values = np.linspace(1, 9, width * height).reshape(height, width)
    values[0, 0] = np.nan
    spread = np.linspace(1.1, 20, width * height).reshape(height, width)
    layer = Layer(spread, make_interval_style(name, spread, level="90%"), values < 3) if interval else None
    bounds = (200_000.0, 3_000_000.0, 200_000.0 + width * 1000, 3_000_000.0 + height * 1000)
    main = Layer(values, make_style(name, values))
    return Picture(
        title,
        "People per km² · 2025 · cells of 1 km",
        [source, "Projection: UTM"],
        View(UTM, bounds),
        bounds,
        main,
        layer,
    )


def text_boxes(figure):
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    texts = list(figure.texts)
    for axes in figure.axes:
        texts += [*axes.get_xticklabels(), *axes.get_yticklabels()]
    texts = [text for text in texts if text.get_text()]
    return [(text.get_text(), text.get_window_extent(canvas.get_renderer())) for text in texts]


LONG = "Predicted consumption of households in the Northern Region of Malawi from night lights and vegetation, 2019"


@pytest.mark.parametrize("aspect", [0.3, 0.55, 1.0, 1.25, 1.35, 2.0, 4.0])
@pytest.mark.parametrize("interval", [True, False])
@pytest.mark.parametrize("name", ["log_density", "asset_wealth"])
def test_no_text_overlaps_or_leaves_the_page(aspect, interval, name):
    figure = compose(picture(aspect, interval=interval, name=name, title=LONG, source=LONG * 2)).figure
    boxes = text_boxes(figure)
    for text, box in boxes:
        inside = box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.width and box.y1 <= figure.bbox.height
        assert inside, f"{text!r} leaves the page"
    for (first, one), (second, other) in combinations(boxes, 2):
        assert not one.overlaps(other), f"{first!r} overlaps {second!r}"
    for axes in figure.axes:
        box = axes.get_window_extent()
        for text, other in boxes:
            assert not box.overlaps(other), f"{text!r} lies on a map"
    for one, other in combinations(figure.axes, 2):
        assert not one.get_window_extent().overlaps(other.get_window_extent())


def words(page):
    return " ".join(text.get_text() for text in page.figure.texts)


def test_a_reader_is_told_what_unit_how_sure_and_where_from():
    said = words(compose(picture(1.0, interval=True, source="Source: a census")))
    for part in (
        "Population density",
        "People per km²",
        "How sure: upper ÷ lower end of the",
        "90% interval",
        "km",
        "N",
    ):
        assert part in said
    assert "unlike the surveyed places" in said
    assert "no data" in said
    assert "Source: a census" in said


def test_a_map_without_interval_has_one_panel():
    assert len(compose(picture(1.0, interval=False)).figure.axes) == 1
    assert len(compose(picture(1.0, interval=True)).figure.axes) == 2


def test_scale_is_true_on_the_ground():
    mercator = View(CRS.from_epsg(3857), (0, 8_390_000, 100_000, 8_410_000))
    assert mercator.lonlat_centre[1] == pytest.approx(60.1, abs=0.1)
    assert mercator.metres_wide == pytest.approx(50_000, rel=0.01)
    degrees = View(CRS.from_epsg(4326), (10, 59, 12, 61))
    assert degrees.metres_wide == pytest.approx(2 * 55_800, rel=0.002)
    assert degrees.aspect == pytest.approx(0.5, rel=0.005)
    assert degrees.scale_varies
    assert View(UTM, (400_000, 3_000_000, 600_000, 3_200_000)).metres_wide == pytest.approx(200_000, rel=0.001)


def test_the_scale_bar_is_as_long_as_it_says():
    wide = picture(1.0, interval=False)
    figure = compose(wide).figure
    bars = [item for item in figure.get_children() if getattr(item, "get_height", lambda: 0)() == 0.055]
    assert len(bars) == 2
    inches = sum(bar.get_width() for bar in bars)
    label = next(text.get_text() for text in figure.texts if text.get_text()[0].isdigit() and "km" in text.get_text())
    map_inches = figure.axes[0].get_position().width * figure.get_figwidth()
    assert inches / map_inches * 60 == pytest.approx(float(label.split()[0]), rel=0.01)


def test_north_turns_with_the_meridians():
    assert View(UTM, (499_000, 3_000_000, 501_000, 3_002_000)).north == pytest.approx(0, abs=1e-3)
    # Convergence of UTM: (lon - central meridian) x sin(lat), here -3 x sin(30); north leans right west of it.
    west = View(UTM, (209_500, 3_320_000, 210_500, 3_322_000))
    lon, lat = west.lonlat_centre
    assert west.north == pytest.approx(-(lon - 87) * np.sin(np.radians(lat)), abs=0.02)
    assert View(CRS.from_epsg(4326), (10, 10, 11, 11)).north == 0


def test_graticule_lines_are_at_round_degrees():
    meridians, parallels = graticule(View(CRS.from_epsg(4326), (-1.3, -0.7, 1.3, 2.2)))
    assert [line.label for line in meridians] == ["1° W", "0.5° W", "0°", "0.5° E", "1° E"]
    assert [line.label for line in parallels] == ["0.5° S", "0°", "0.5° N", "1° N", "1.5° N", "2° N"]
    assert (meridians[0].x == -1).all()


@pytest.mark.parametrize(("limit", "expected"), [(1, 1), (1.9, 1), (2, 2), (49, 20), (50, 50), (0.07, 0.05)])
def test_round_lengths(limit, expected):
    assert round_length(limit) == pytest.approx(expected)


def test_words_for_numbers():
    assert (format_length(500), format_length(20_000), format_length(7650)) == ("500 m", "20 km", "7.65 km")
    assert (format_degrees(-27.5, "N", "S"), format_degrees(0, "N", "S")) == ("27.5° S", "0°")


def test_large_maps_are_read_reduced(make_map):
    values = np.kron(np.arange(100, dtype="float32").reshape(10, 10), np.ones((100, 100), "float32"))
    with RasterMap.open(make_map({"value": values})) as raster:
        assert raster.source.overviews(1)
        reduced = raster.read(1, max_cells=100)
    np.testing.assert_allclose(reduced, np.arange(100).reshape(10, 10), atol=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"style": "rainbow"}, "no style 'rainbow'"),
        ({"band": 5}, "no band 5"),
        ({"width_px": 100}, "width_px is 100"),
    ],
)
def test_wrong_options(density, tmp_path, options, message):
    with pytest.raises(MapError, match=message):
        render(density(), tmp_path / "map.png", **options)
    assert not (tmp_path / "map.png").exists()


def test_a_picture_that_is_no_png(density, tmp_path):
    with pytest.raises(MapError, match=r"map\.jpg; expected a name that ends in \.png"):
        render(density(), tmp_path / "map.jpg")


def test_an_empty_map(make_map, tmp_path):
    with pytest.raises(MapError, match="every cell is nodata"):
        render(make_map({"value": np.full((3, 3), np.nan)}), tmp_path / "map.png")


def test_a_map_cut_short(density, tmp_path):
    path = density(height=600, width=900)
    path.write_bytes(path.read_bytes()[:200_000])
    with pytest.raises(MapError, match=r"cut short|not a readable raster"):
        render(path, tmp_path / "map.png")


def test_files_that_are_no_maps(tmp_path):
    with pytest.raises(MapError, match="there is no map"):
        render(tmp_path / "nowhere.tif", tmp_path / "map.png")
    text = tmp_path / "text.tif"
    text.write_text("no raster")
    with pytest.raises(MapError, match="not a readable raster"):
        render(text, tmp_path / "map.png")
