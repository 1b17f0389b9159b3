from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import dataclass

import geopandas as gpd
import matplotlib.image
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from geopov.cli.features.classify import classify as classify_command
from geopov.cli.features.classify import train_classifier as train_command
from geopov.errors import FeatureError
from geopov.features.classification.apply import classify
from geopov.features.classification.classifier import train_classifier
from geopov.features.classification.pictures import choose_tiles, png_of, tile_pictures
from geopov.features.classification.sheet import write_page, write_sheet
from geopov.features.classification.two_stage import train_two_stage
from geopov.raster import Scene
from geopov.tiles import TileSpec, extract

EVIL = "<script>alert(1)</script>"


@dataclass
class Batch:
    data: np.ndarray
    valid: np.ndarray
    positions: np.ndarray


@dataclass
class Spec:
    size_px: int
    context_px: int = 0

    def to_dict(self):
        return {"size_px": self.size_px, "resolution_m": 10.0, "context_px": self.context_px}


class Tiles:
    def __init__(self, data, *, valid=None, context_px=0, band_names=None, ids=None):
        n, n_bands, side, _ = data.shape
        self.data, self.valid = data, np.ones((n, side, side), bool) if valid is None else valid
        self.spec = Spec(side - 2 * context_px, context_px)
        self.band_names = band_names or [f"band{i + 1}" for i in range(n_bands)]
        self.index = gpd.GeoDataFrame(
            {"tile_id": ids or [f"t{i:03d}" for i in range(n)], "cluster_id": [f"c{i:03d}" for i in range(n)]},
            geometry=gpd.points_from_xy(28 + 0.01 * (np.arange(n) % 20), -29 + 0.01 * (np.arange(n) // 20)),
            crs="EPSG:4326",
        )

    def __len__(self):
        return len(self.data)

    def iter_batches(self, batch_size=256):
        for start in range(0, len(self), batch_size):
            rows = np.arange(start, min(start + batch_size, len(self)))
            yield Batch(self.data[rows], self.valid[rows], rows)


def table_of(tiles, probabilities, classes=("metal", "thatch")):
    rows = np.asarray(probabilities, dtype=np.float32)
    table = tiles.index.copy()
    known = np.isfinite(rows).all(axis=1)
    table["predicted"] = [classes[row.argmax()] if ok else None for row, ok in zip(rows, known, strict=True)]
    for i, name in enumerate(classes):
        table[f"p_{name}"] = rows[:, i]
    return table


def two(p):
    return np.column_stack([p, 1 - np.asarray(p)])


def test_the_surest_and_the_most_doubtful():
    tiles = Tiles(np.zeros((5, 1, 4, 4), np.uint8))
    table = table_of(tiles, two([0.9, 0.55, 0.2, np.nan, 0.7]))
    assert choose_tiles(table, n=2, order="sure").tolist() == [0, 2]
    assert choose_tiles(table, n=2, order="doubtful").tolist() == [4, 1]


def test_a_spread_is_as_many_of_each_class_from_sure_to_doubtful():
    p = np.concatenate([np.linspace(0.51, 0.99, 49), [0.3, 0.1]])
    tiles = Tiles(np.zeros((51, 1, 4, 4), np.uint8))
    chosen = choose_tiles(table_of(tiles, two(p)), n=7)
    # Thatch has two tiles; the other five are metal, from the surest to the most doubtful.
    assert chosen.tolist() == [48, 36, 24, 12, 0, 50, 49]
    assert sorted(choose_tiles(table_of(tiles, two(p)), n=500)) == list(range(51))


def test_pictures_share_one_stretch_and_leave_invalid_pixels_clear():
    data = np.zeros((3, 3, 10, 10), np.float32)
    data[0], data[1], data[2] = 100, 300, 200
    valid = np.ones((3, 10, 10), bool)
    valid[1, :5] = False
    data[1, :, :5] = -3.4e38
    tiles = Tiles(data, valid=valid)
    pictures = tile_pictures(tiles, np.array([2, 0, 1, 0]))
    assert pictures.shape == (4, 10, 10, 4)
    assert np.unique(pictures[1, ..., :3]) == [0]
    assert np.unique(pictures[0, ..., :3]) == [128]
    assert np.unique(pictures[2, 5:, :, :3]) == [255]
    assert np.unique(pictures[2, :5, :, 3]) == [0]
    np.testing.assert_array_equal(pictures[1], pictures[3])


def test_colours_are_found_by_name_and_context_is_cut_off():
    data = np.zeros((2, 4, 6, 6), np.uint8)
    data[0, 2] = 255
    data[:, :, 0] = 77
    tiles = Tiles(data, context_px=1, band_names=["blue", "green", "red", "nir"])
    pictures = tile_pictures(tiles, np.array([0]))
    assert pictures.shape == (1, 4, 4, 4)
    tiles = Tiles(data, context_px=1, band_names=["blue", "green", "red", "nir"])
    both = tile_pictures(tiles, np.array([0, 1]))
    assert both[0, 0, 0].tolist() == [255, 0, 0, 255]
    assert tile_pictures(tiles, np.array([0, 1]), bands=["nir"])[0, 0, 0].tolist() == [0, 0, 0, 255]


def test_a_log_stretch_tells_dim_from_dark():
    data = np.array([0.0, 0.1, 1.0, 10.0], np.float32)[:, None, None, None] * np.ones((1, 1, 8, 8), np.float32)
    values = tile_pictures(Tiles(data), np.arange(4), stretch="log")[:, 0, 0, 0]
    assert values.tolist() == [0, 0, 128, 255]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    rng = np.random.default_rng(0)
    kinds = rng.integers(0, 2, 600)
    data = (70 + 60 * kinds + rng.normal(0, 30, 600))[:, None, None, None] + rng.normal(0, 9, (600, 3, 6, 6))
    tiles = Tiles(np.clip(data, 0, 255).astype(np.uint8), ids=[f"t{i:03d}{EVIL}" for i in range(600)])
    labels = tiles.index[["cluster_id", "geometry"]].assign(roof=np.array(["thatch", EVIL])[kinds])
    folder = tmp_path_factory.mktemp("page")
    classifier = train_two_stage(
        tiles, labels, label="roof", positive=EVIL, folder=folder / "c", first="band_mean", extractor="band_statistics"
    )
    table = classify(classifier, tiles)
    truth = dict(zip(labels["cluster_id"], labels["roof"], strict=True))
    write_page(table, tiles, folder / "page.html", classifier=classifier, truth=truth, n=20)
    return folder, tiles, table, classifier, truth


def test_the_page_shows_each_chosen_tile_beside_its_probabilities(page):
    folder, tiles, table, _, truth = page
    text = (folder / "page.html").read_text(encoding="utf-8")
    chosen = choose_tiles(table, n=20)
    cards = re.findall(r'<li class="tile(.*?)</li>', text, re.DOTALL)
    assert len(cards) == 20
    pictures = tile_pictures(tiles, chosen)
    for card, row, picture in zip(cards, chosen, pictures, strict=True):
        line = table.iloc[row]
        assert line["tile_id"][:4] in card
        assert re.findall(r"</span></span><span>([\d.]+)</span>", card) == [
            f"{float(line[name]):.3f}" for name in table.columns if name.startswith("p_")
        ]
        assert card.startswith(" wrong") == (truth[line["cluster_id"]] != line["predicted"])
        shown = base64.b64decode(re.search(r"data:image/png;base64,([^\"]+)", card)[1])
        assert shown == png_of(picture)
        np.testing.assert_array_equal(
            np.round(255 * matplotlib.image.imread(io.BytesIO(shown), format="png")).astype(np.uint8), picture
        )


def test_the_page_needs_no_network_and_runs_no_name(page):
    text = (page[0] / "page.html").read_text(encoding="utf-8")
    assert not re.search(r"(src|href)=[\"'](?!data:)", text)
    assert "http://" not in text
    assert "https://" not in text
    assert EVIL not in text
    assert text.count("<script>") == 1


def test_the_page_says_how_far_probabilities_hold(page):
    folder, _, _, classifier, _ = page
    text = (folder / "page.html").read_text(encoding="utf-8")
    after = classifier.second.checks["after"]
    assert f"on {after['n_tiles']} test tiles" in text
    assert f"<td>{after['ece']:.3f}</td>" in text
    assert f"{100 * classifier.checks['kept'].value:.1f}%" in text
    bins = [bin_ for rows in classifier.second.checks["reliability"].values() for bin_ in rows]
    assert text.count("<circle") == len(bins)


def test_pages_and_sheets_repeat_to_the_byte(page, tmp_path):
    folder, tiles, table, classifier, truth = page
    write_page(table, tiles, tmp_path / "page.html", classifier=classifier, truth=truth, n=20)
    assert (tmp_path / "page.html").read_bytes() == (folder / "page.html").read_bytes()
    for name in ("a.png", "b.png"):
        write_sheet(table, tiles, tmp_path / name, truth=truth, n=2, columns=2)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_the_sheet_grows_with_its_tiles(page, tmp_path):
    _, tiles, table, _, _ = page
    heights = {}
    for n in (2, 6):
        write_sheet(table, tiles, tmp_path / "s.png", n=n, columns=2)
        heights[n] = matplotlib.image.imread(tmp_path / "s.png").shape[0]
    assert heights[6] == pytest.approx(3 * heights[2], abs=2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t, s, p: write_page(t.iloc[:5], s, p), "the table has 5 rows and there are 600 tiles"),
        (lambda t, s, p: write_page(t.drop(columns="predicted"), s, p), "no column 'predicted'"),
        (lambda t, s, p: write_page(t, s, p, n=0), "n is 0"),
        (lambda t, s, p: write_page(t, s, p, order="best"), "order is 'best'"),
        (lambda t, s, p: write_page(t, s, p, bands=[1, 2]), "2 bands are to be shown"),
        (lambda t, s, p: write_page(t, s, p, stretch="sqrt"), "stretch is 'sqrt'"),
        (lambda t, s, p: write_page(t.assign(predicted=None), s, p), "no tile has a probability"),
        (lambda t, s, p: write_sheet(t, s, p, columns=0), "columns is 0"),
    ],
)
def test_what_cannot_be_shown_is_told(page, tmp_path, call, message):
    _, tiles, table, _, _ = page
    with pytest.raises(FeatureError, match=message):
        call(table, tiles, tmp_path / "x")
    assert not list(tmp_path.iterdir())


# The commands


def scene_and_labels(folder, write_scene):
    rng = np.random.default_rng(3)
    settled = rng.random((20, 20)) < 0.4
    level = np.where(settled, 150, 80) + rng.normal(0, 25, settled.shape)
    pixels = np.kron(level, np.ones((8, 8))) + rng.normal(0, 8, (160, 160))
    path = write_scene(folder / "scene.tif", np.clip(pixels, 0, 255).astype(np.uint8)[None])
    rows, columns = np.mgrid[:20, :20]
    points = gpd.GeoDataFrame(
        {"cluster_id": [f"c{i:03d}" for i in range(400)], "settled": settled.ravel()},
        geometry=gpd.points_from_xy(500_000 + 80 * columns.ravel() + 40, 6_800_000 - 80 * rows.ravel() - 40),
        crs="EPSG:32735",
    ).to_crs("EPSG:4326")
    points.to_parquet(folder / "labels.parquet")
    return path, points


@pytest.fixture
def commands():
    app = typer.Typer()
    app.command("train-classifier")(train_command)
    app.command("classify")(classify_command)
    return app


def write_scene(path, pixels):
    import rasterio
    from affine import Affine

    with rasterio.open(
        path, "w", driver="GTiff", count=1, height=160, width=160, dtype="uint8", crs="EPSG:32735",
        transform=Affine(10, 0, 500_000, 0, -10, 6_800_000),
    ) as dataset:  # fmt: skip
        dataset.write(pixels)
    return path


def test_the_commands_train_and_classify(tmp_path, commands):
    scene, points = scene_and_labels(tmp_path, write_scene)
    place = ["--scene", str(scene), "--size-px", "8", "--resolution-m", "10"]
    labels = ["--labels", str(tmp_path / "labels.parquet"), "--label", "settled", "--block-km", "0.3"]
    two = ["--positive", "settled", "--first-pass", "band_mean"]
    run = CliRunner()
    done = run.invoke(
        commands,
        ["train-classifier", *labels, *place, *two, "--extractor", "band_mean", "-o", str(tmp_path / "c")],
        catch_exceptions=False,
    )
    assert done.exit_code == 0
    assert "expected calibration error" in done.stdout
    assert "the first pass lets through" in done.stdout
    out, known = tmp_path / "table.parquet", str(tmp_path / "labels.parquet")
    pictures = [
        "--page",
        str(tmp_path / "p.html"),
        "--sheet",
        str(tmp_path / "s.png"),
        "--n",
        "8",
        "--order",
        "doubtful",
    ]
    done = run.invoke(
        commands,
        ["classify", str(tmp_path / "c"), *place, "--points", known, "-o", str(out), "--truth", known, *pictures],
        catch_exceptions=False,
    )
    assert done.exit_code == 0
    table = gpd.read_parquet(out)
    assert ((table["predicted"] == "settled") == points["settled"]).mean() > 0.85
    assert json.loads(table.attrs["classifier"])["label"] == "settled"
    text = (tmp_path / "p.html").read_text(encoding="utf-8")
    assert "labelled not_settled" in text
    assert (tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")


def test_the_table_may_be_csv_and_nothing_else(tmp_path, commands):
    scene, points = scene_and_labels(tmp_path, write_scene)
    tiles = extract(Scene.open(scene), points, TileSpec(size_px=8, resolution_m=10))
    train_classifier(tiles, points, label="settled", folder=tmp_path / "c", extractor="band_mean", block_km=0.3)
    tiles.save(tmp_path / "tiles")
    call = ["classify", str(tmp_path / "c"), "--tiles", str(tmp_path / "tiles"), "-o"]
    done = CliRunner().invoke(commands, [*call, str(tmp_path / "t.csv")], catch_exceptions=False)
    assert done.exit_code == 0
    header = (tmp_path / "t.csv").read_text().splitlines()[0]
    assert header == "tile_id,cluster_id,predicted,p_not_settled,p_settled,lon,lat"
    with pytest.raises(FeatureError, match=r"ends in .parquet or .csv"):
        CliRunner().invoke(commands, [*call, str(tmp_path / "t.xlsx")], catch_exceptions=False)
