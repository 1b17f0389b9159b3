"""Paper: the sheet has its size, text is text, cells are cells, and two runs print the same bytes."""

from __future__ import annotations

import re
import zlib
from itertools import combinations

import numpy as np
import pytest
import rasterio
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image, ImageColor
from pyproj import CRS

from geopov.errors import MapError
from geopov.maps.picture.cartography import View
from geopov.maps.picture.layout import Layer, Picture
from geopov.maps.picture.print import SHEETS_INCHES, _map_area, _on_paper, print_map
from geopov.maps.styles import make_interval_style, make_style, style_of

UTM = CRS.from_epsg(32645)
MM_A4 = (210, 297)


def streams(pdf):
    """Dictionaries and decompressed contents of a PDF's streams."""
    for item in pdf.split(b"endobj"):
        head, mark, body = item.partition(b"stream\n")
        if mark:
            body = body.rsplit(b"\nendstream", 1)[0]
            yield head, zlib.decompress(body) if b"FlateDecode" in head else body


def words(pdf):
    """Text that a reader of the PDF can search: strings of the page's text operators, kerning removed."""
    page = next(body for _, body in streams(pdf) if b"BT" in body and b" Tf" in body).replace(b"\0", b"")
    texts = re.findall(rb"BT(.*?)ET", page, re.DOTALL)
    return " | ".join(b"".join(re.findall(rb"\((.*?)(?<!\\)\)", text, re.DOTALL)).decode("latin1") for text in texts)


@pytest.mark.parametrize("suffix", ["pdf", "png"])
def test_bytes_repeat(density, tmp_path, suffix):
    path = density()
    first, again = (print_map(path, tmp_path / f"{name}.{suffix}", dpi=100) for name in "ab")
    assert first.read_bytes() == again.read_bytes()


def test_pdf_is_a_sheet_without_a_date(density, tmp_path):
    pdf = print_map(density(), tmp_path / "map.pdf", orientation="portrait").read_bytes()
    (box,) = re.findall(rb"/MediaBox \[([\d. ]+)\]", pdf)
    assert [float(part) / 72 * 25.4 for part in box.split()] == pytest.approx([0, 0, *MM_A4], abs=0.1)
    assert pdf.count(b"/Type /Page ") == 1
    assert b"CreationDate" not in pdf
    assert b"matplotlib" not in pdf.lower()
    assert b"/Title (Density)" in pdf


def test_pdf_holds_text_as_text(density, tmp_path):
    path = density()
    pdf = print_map(path, tmp_path / "map.pdf", title="Where people live", year="2021").read_bytes()
    said = words(pdf)
    for part in ("Where people live", "2021", "Source: A census", "EPSG:32645", "10 km", "under 10", "interval"):
        assert part in said, part
    assert b"/Type0" in pdf or b"/TrueType" in pdf, "letters are not drawn as pictures"


def test_pdf_holds_each_cell_once(density, tmp_path):
    path = density()
    pdf = print_map(path, tmp_path / "map.pdf").read_bytes()
    with rasterio.open(path) as source:
        mean = source.read(1).astype(float)
    images = [(head, body) for head, body in streams(pdf) if b"/Subtype /Image" in head and b"/DeviceGray" not in head]
    sizes = [(int(re.search(rb"/Height (\d+)", h)[1]), int(re.search(rb"/Width (\d+)", h)[1])) for h, _ in images]
    assert sizes == [mean.shape, mean.shape], "map and interval, cell by cell"


def test_png_has_300_dots_an_inch_and_every_class(density, tmp_path):
    path = density()
    with Image.open(print_map(path, tmp_path / "map.png", orientation="portrait")) as image:
        pixels, info = np.asarray(image.convert("RGB")), image.info
    assert pixels.shape[:2] == (pytest.approx(297 / 25.4 * 300, abs=1), pytest.approx(210 / 25.4 * 300, abs=1))
    assert info["dpi"] == pytest.approx((300, 300), abs=0.1)
    assert "Software" not in info
    for colour in style_of(path).colours:
        assert (pixels == ImageColor.getrgb(colour)).all(axis=-1).mean() > 0.0005, colour


def picture(aspect, *, interval=True):
    height = 60
    width = max(2, round(height * aspect))
    values = np.linspace(1, 9, width * height).reshape(height, width)
    spread = np.linspace(1.1, 20, width * height).reshape(height, width)
    uncertain = Layer(spread, make_interval_style("log_density", spread, level="90%"), values < 3)
    bounds = (200_000.0, 3_000_000.0, 200_000.0 + width * 1000, 3_000_000.0 + height * 1000)
    title = "Predicted consumption of households in the Northern Region of Malawi from night lights and vegetation"
    main = Layer(values, make_style("log_density", values))
    footer = ["Source: " + title * 2, "Projection: UTM"]
    return Picture(
        title, "People per km² · 2025", footer, View(UTM, bounds), bounds, main, uncertain if interval else None
    )


SHEETS = [
    ("A4", "auto", (0.3, 0.55, 0.8, 1.0, 1.25, 1.35, 2.0, 4.0)),
    ("letter", "auto", (0.3, 0.55, 1.0, 1.3, 2.0)),
    ("A4", "portrait", (0.3, 0.55, 1.0, 1.25, 2.0)),
    ("A3", "landscape", (0.5, 1.0, 1.35, 3.0)),
]


@pytest.mark.parametrize(
    ("name", "orientation", "aspect"), [(name, way, aspect) for name, way, aspects in SHEETS for aspect in aspects]
)
def test_a_sheet_is_filled_and_nothing_overlaps(name, orientation, aspect):
    page = _on_paper(picture(aspect), name, orientation)
    sizes = {"portrait": SHEETS_INCHES[name], "landscape": SHEETS_INCHES[name][::-1]}
    allowed = sizes.values() if orientation == "auto" else [sizes[orientation]]
    assert (page.width, page.height) in [pytest.approx(size) for size in allowed]
    figure = page.figure
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    texts = [*figure.texts, *(t for a in figure.axes for t in [*a.get_xticklabels(), *a.get_yticklabels()])]
    boxes = [(t.get_text(), t.get_window_extent(canvas.get_renderer())) for t in texts if t.get_text()]
    for text, box in boxes:
        assert box.x0 >= 0, text
        assert box.y0 >= 0, text
        assert box.x1 <= figure.bbox.width, text
        assert box.y1 <= figure.bbox.height, text
    for (first, one), (second, other) in combinations(boxes, 2):
        assert not one.overlaps(other), f"{first!r} overlaps {second!r}"
    for one, other in combinations([axes.get_window_extent() for axes in figure.axes], 2):
        assert not one.overlaps(other)


@pytest.mark.parametrize(("aspect", "wide"), [(0.4, False), (2.5, True)])
def test_the_sheet_is_turned_for_the_larger_map(aspect, wide):
    drawn = picture(aspect, interval=False)
    chosen = _on_paper(drawn, "A4", "auto")
    assert (chosen.width > chosen.height) == wide
    other = _on_paper(drawn, "A4", "portrait" if wide else "landscape")
    assert _map_area(chosen) > _map_area(other)
    assert _map_area(_on_paper(drawn, "A3", "auto")) > 1.5 * _map_area(chosen)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"out": "map.jpg"}, "ends in .pdf or .png"),
        ({"page": "B5"}, "no sheet 'B5'; expected one of A5, A4"),
        ({"orientation": "upright"}, "portrait or landscape"),
        ({"style": "wealth"}, "no style 'wealth'"),
        ({"band": "median"}, "no band called 'median'; it has mean"),
        ({"band": 9}, "no band 9"),
        ({"dpi": 0}, "dpi"),
    ],
)
def test_bad_input_is_named(density, tmp_path, change, message):
    out = tmp_path / change.pop("out", "map.pdf")
    with pytest.raises(MapError, match=re.escape(message)):
        print_map(density(), out, **change)
    assert not out.exists()


def test_too_small_a_sheet_is_said():
    with pytest.raises(MapError, match="no room for the map on a sheet A5"):
        _on_paper(picture(0.3), "A5", "landscape")


def test_a_band_by_name(density, tmp_path):
    by_name = print_map(density(), tmp_path / "a.png", band="upper", dpi=60)
    by_number = print_map(density(), tmp_path / "b.png", band=3, dpi=60)
    assert by_name.read_bytes() == by_number.read_bytes()
