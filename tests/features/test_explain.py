from __future__ import annotations

from dataclasses import replace

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import torch
import typer
from PIL import Image
from torch import nn
from typer.testing import CliRunner

from geopov.errors import FeatureError
from geopov.features import build
from geopov.features._input import shown_bands
from geopov.features.explanation.activations import check_filters, choose_filters, measure, strongest
from geopov.features.explanation.grad_cam import grad_cam, logit_names, targets_of
from geopov.features.explanation.report import explain
from geopov.features.explanation.sheet import Panel, Row, draw_sheet, pictures
from geopov.features.explanation.watch import WatchedNetwork
from geopov.features.networks.backbones import load_backbone
from geopov.features.networks.card import NetworkCard
from geopov.features.networks.trained import save_weights

BANDS = ["red", "green", "blue"]


@pytest.fixture
def readable_tiles(fake_tiles):
    class Readable(fake_tiles):
        """Tiles of 100 m about 11 km apart, as a TileSet gives them."""

        def __init__(self, *args, **kwargs):
            super().__init__(*args, **({"band_names": BANDS} | kwargs))
            spec = {"size_px": self.spec.size_px, "resolution_m": 100 / self.spec.size_px}
            self.spec.to_dict = lambda: spec

        def read(self, positions):
            whole = next(super().iter_batches(len(self)))
            rows = [int(np.flatnonzero(whole.positions == position)[0]) for position in positions]
            whole.data, whole.valid, whole.positions = whole.data[rows], whole.valid[rows], np.asarray(positions)
            return whole

    return Readable


def trained_folder(folder, *, outputs=("dark", "dim", "bright")):
    folder.mkdir(exist_ok=True)
    backbone = load_backbone("resnet18", weights=None, seed=5)
    with torch.random.fork_rng():
        torch.manual_seed(2)
        head = nn.Linear(512, len(outputs))
    NetworkCard(
        backbone="resnet18",
        bands=tuple(BANDS),
        stretch="linear",
        lo=(0,) * 3,
        hi=(255,) * 3,
        mean=backbone.mean,
        std=backbone.std,
        input_px=64,
        tile={"size_px": 32, "resolution_m": 10.0, "context_px": 0},
        task="classification",
        outputs=outputs,
        unit="nW/cm²/sr",
        sha256=save_weights(folder, backbone.trunk, head),
    ).write(folder)
    return build({"name": "pretrained", "weights": str(folder), "engine": "eager", "threads": 1})


def network(**parameters):
    return build({"name": "resnet18", "weights": None, "engine": "eager", "threads": 1} | parameters)


def noise(rng, n=6, size=32):
    return rng.integers(0, 256, (n, 3, size, size), dtype=np.uint8)


def test_mean_responses_of_the_final_map_are_the_features(readable_tiles, rng):
    valid = np.ones((6, 32, 32), dtype=bool)
    valid[2] = False
    tiles = readable_tiles(noise(rng), valid, order=[5, 3, 1, 0, 2, 4])
    extractor = network(input_px=96)
    found = measure(WatchedNetwork(extractor, band_names=BANDS, layer="final"), tiles, batch_size=4)
    np.testing.assert_allclose(found.mean, extractor(tiles.data, tiles.valid), rtol=1e-4, atol=1e-6)
    assert (found.peak[[0, 1, 3, 4, 5]] >= found.mean[[0, 1, 3, 4, 5]]).all()
    assert np.isnan(found.peak[2]).all()
    assert found.outputs is None


def test_responses_in_the_context_do_not_count(rng, readable_tiles):
    # Strides of 16 px at this layer, and 16 px of context: the middle two of four cells are the tile.
    data = noise(rng, n=3, size=64)
    watched = WatchedNetwork(network(context_px=16), band_names=BANDS, layer="layer3.1.relu")
    found = measure(watched, readable_tiles(data, context_px=16))
    maps = watched.maps(watched.images(data, np.ones((3, 64, 64), dtype=bool))[0])
    assert maps.shape == (3, 256, 4, 4)
    np.testing.assert_allclose(found.peak, maps[:, :, 1:3, 1:3].amax((2, 3)).numpy())
    assert not np.array_equal(found.peak, maps.amax((2, 3)).numpy())


def test_a_layer_is_seen_as_its_module_gives_it(rng):
    data, valid = noise(rng, n=2), np.ones((2, 32, 32), dtype=bool)
    watched = WatchedNetwork(network(), band_names=BANDS, layer="conv1")
    images, _ = watched.images(data, valid)
    with torch.inference_mode():
        expected = watched.trunk.get_submodule("conv1")(images)
    torch.testing.assert_close(watched.maps(images), expected)


@pytest.mark.parametrize(("size", "layer"), [(128, "final"), (64, "layer3.1.relu"), (2, "final")])
def test_a_map_of_few_cells_is_not_shown_by_default(rng, size, layer):
    watched = WatchedNetwork(network(), band_names=BANDS)
    maps = watched.maps(watched.images(noise(rng, n=1, size=size), np.ones((1, size, size), dtype=bool))[0])
    assert watched.layer == layer
    assert maps.shape[2] == (1 if size == 2 else 4)


def test_layers_that_are_not_there(rng, readable_tiles):
    with pytest.raises(FeatureError, match=r"no layer 'layer3' with a map.*layer3\.1\.relu \(256 x 2 x 2\)"):
        measure(WatchedNetwork(network(), band_names=BANDS, layer="layer3"), readable_tiles(noise(rng)))
    with pytest.raises(FeatureError, match="is a BandStatistics; expected a network"):
        WatchedNetwork(build("band_mean"), band_names=BANDS)
    with pytest.raises(FeatureError, match="no band 'nir'"):
        WatchedNetwork(network(bands=["nir"], lo=0, hi=1), band_names=BANDS)


def test_tiles_that_do_not_fit(rng, readable_tiles):
    watched = WatchedNetwork(network(), band_names=BANDS)
    with pytest.raises(FeatureError, match="context_px=4, but the network was set up for 0"):
        measure(watched, readable_tiles(noise(rng), context_px=4))
    with pytest.raises(FeatureError, match="none of the 6 tiles has enough valid pixels"):
        measure(watched, readable_tiles(noise(rng), np.zeros((6, 32, 32), dtype=bool)))


def test_the_strongest_come_first_and_never_twice_on_one_ground():
    values = np.array([1, 6, np.nan, 6, 2, 6])
    assert strongest(values, 4) == [1, 3, 5, 4]
    assert strongest(values, 9, ties=np.array([0, 1, 9, 3, 0, 2])) == [3, 5, 1, 4, 0]
    # 0.01 degrees are 1,112 m of latitude, and at 60 degrees north 556 m of longitude.
    places = np.array([[0, 60], [10, 60], [0, 0], [10.01, 60], [10, 60.01], [190, 60]], dtype=float)
    assert strongest(values, 4, places=places, apart_m=500) == [1, 3, 5, 4]
    assert strongest(values, 4, places=places, apart_m=600) == [1, 5, 4, 0]
    across = np.array([[179.999, 0], [-179.999, 0]])
    assert strongest(np.array([1.0, 2.0]), 2, places=across, apart_m=300) == [1]


def test_filters_are_chosen_along_what_tells_tiles_apart(rng):
    # Two groups of filters that go together, one filter against the first, and one that never responds.
    water, roofs = rng.normal(size=(2, 200))
    mean = np.stack([water, water, water, -water, roofs, roofs, 0 * water], axis=1) * [1, 50, 1, 1, 1, 1, 1]
    mean[:, :6] += rng.normal(size=(200, 6)) * [0.1, 10, 0.2, 0.1, 0.1, 0.3]
    mean[7] = np.nan
    chosen = choose_filters(mean.astype(np.float32), 3)
    assert 3 in chosen[:2]
    assert len({0, 1, 2} & set(chosen[:2])) == 1
    assert chosen[2] in (4, 5)
    assert sorted(choose_filters(mean.astype(np.float32), 20)) == [0, 1, 2, 3, 4, 5]


def test_filters_are_chosen_by_what_the_head_makes_of_them():
    mean = np.array([[0, 0, 0, 5], [1, 2, 10, 5]], dtype=np.float32)
    # Weight times standard deviation: (1.5, 1, 5), and a filter that is constant speaks for nothing.
    weights = np.array([[3, 1, 1, 99], [-3, 1, 0.1, 99]], dtype=np.float32)
    assert choose_filters(mean, 2, weights=weights) == [2, 1]
    assert choose_filters(mean, 3, weights=weights) == [2, 1, 0]


@pytest.mark.parametrize("filters", [[], [1, 1], [512], [-1], [True], ["1"]])
def test_wrong_filters(filters):
    with pytest.raises(FeatureError, match="expected different numbers from 0 to 511"):
        check_filters(filters, 512)


def test_grad_cam_of_the_final_map_is_the_weighted_map(tmp_path, rng):
    """With a mean and a linear head behind it the gradient is the weight: Grad-CAM is CAM (Zhou et al. 2016)."""
    extractor = trained_folder(tmp_path)
    watched = WatchedNetwork(extractor, band_names=BANDS, layer="final")
    images, _ = watched.images(noise(rng, n=3), np.ones((3, 32, 32), dtype=bool))
    maps = watched.maps(images)
    weights = extractor.trained.head.weight[1]
    expected = torch.einsum("ncyx,c->nyx", maps, weights).clamp(min=0) / (maps.shape[2] * maps.shape[3])
    outputs = np.zeros((3, 3))
    target = targets_of(extractor.trained.card, outputs)[1]
    torch.testing.assert_close(grad_cam(watched, images, target), expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("layer", ["layer2.1.relu", "layer2.0.downsample.1"])
def test_grad_cam_of_an_inner_layer_against_autograd(tmp_path, rng, layer):
    watched = WatchedNetwork(trained_folder(tmp_path), band_names=BANDS, layer=layer)
    images, _ = watched.images(noise(rng, n=2), np.ones((2, 32, 32), dtype=bool))
    target = targets_of(watched.extractor.trained.card, np.zeros((2, 3)))[2]
    seen = []
    hook = watched.trunk.get_submodule(layer).register_forward_hook(lambda _, __, output: seen.append(output))
    with torch.enable_grad():
        logit = watched.classifier(share=1.0)(images.clone().requires_grad_())[:, 2].sum()
    hook.remove()
    (gradient,) = torch.autograd.grad(logit, seen[-1])
    expected = (gradient.mean((2, 3), keepdim=True) * seen[-1]).sum(1).clamp(min=0).detach()
    found = grad_cam(watched, images, target)
    assert expected.max() > 0
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-7)


def test_what_a_head_tells(tmp_path):
    card = trained_folder(tmp_path).trained.card
    found = targets_of(card, np.log([[1.0, 1.0, 2.0]]))
    assert [(t.title, t.logit, t.sign) for t in found] == [("dark", 0, 1), ("dim", 1, 1), ("bright", 2, 1)]
    np.testing.assert_allclose([t.score[0] for t in found], [0.25, 0.25, 0.5])
    card = replace(card, task="ordinal")
    found = targets_of(card, np.array([[0.0, -np.log(3)]]))
    assert [(t.title, t.logit, t.sign) for t in found] == [("dark", 0, -1), ("dim", 0, 1), ("bright", 1, 1)]
    np.testing.assert_allclose([t.score[0] for t in found], [0.5, 0.25, 0.25])
    assert logit_names(card) == ["above dark", "above dim"]
    card = replace(card, task="regression", outputs=("log_lights",))
    found = targets_of(card, np.array([[3.0]]))
    assert [(t.title, t.score[0], t.sign) for t in found] == [
        ("highest log_lights", 3, 1),
        ("lowest log_lights", -3, -1),
    ]


def test_pictures():
    data = np.arange(101, dtype=np.uint16).reshape(1, 1, 1, 101).repeat(2, axis=1)
    data[0, 1] *= 10
    valid = np.ones((1, 1, 101), dtype=bool)
    valid[0, 0, 0] = False
    found = pictures(data, valid, [1, 0, 1])
    assert found.shape == (1, 1, 101, 3)
    assert found[0, 0, 0].tolist() == pytest.approx([0.85] * 3)
    np.testing.assert_allclose(found[..., 0], found[..., 1], atol=1e-6)
    assert (found[0, 0, 1, 0], found[0, 0, 100, 0]) == (0, 1)
    assert pictures(data, valid, [0]).shape == (1, 1, 101, 3)
    assert np.isfinite(pictures(data * 0, valid, [0])).all()


@pytest.mark.parametrize(
    ("bands", "names", "expected"),
    [
        (None, ["Blue", "Green", "Red", "nir"], [2, 1, 0]),
        (None, ["a", "b", "c", "d"], [0, 1, 2]),
        (None, ["a", "b"], [0]),
        (["nir", 1, 1], ["red", "nir"], [1, 0, 0]),
        ("nir", ["red", "nir"], [1]),
    ],
)
def test_bands_to_show(bands, names, expected):
    assert shown_bands(bands, names) == expected


def test_bands_that_cannot_be_shown():
    with pytest.raises(FeatureError, match="2 bands are to be shown"):
        shown_bands([1, 2], BANDS)


def test_a_sheet_shows_tiles_and_what_is_seen_in_them(tmp_path):
    red = np.zeros((8, 8, 3), np.float32)
    red[..., 0] = 1
    heat = np.zeros((8, 8), np.float32)
    heat[:, 4:] = 1
    rows = [
        Row("first", [Panel(red, heat, "a\nb\nc")] * 3),
        Row("a second row with a long title", [Panel(red, heat, "")]),
    ]
    one, two = (draw_sheet(rows, tmp_path / f"{name}.png", title="T", note="N " * 90).read_bytes() for name in "ab")
    assert one == two
    pixels = np.asarray(Image.open(tmp_path / "a.png").convert("RGB")).astype(int)
    assert pixels.shape[1] > 3 * 160
    pure = (pixels == [255, 0, 0]).all(axis=2)
    # Four tiles of 1.15 inches at 160 dots an inch, above and not within the maps.
    assert pure.sum() == pytest.approx(4 * (1.15 * 160) ** 2, rel=0.03)
    grey = (np.abs(pixels - 85) <= 1).all(axis=2)
    assert grey.sum() == pytest.approx(4 * (1.15 * 160) ** 2 / 2, rel=0.05)


def test_sheets_that_cannot_be_drawn(tmp_path):
    with pytest.raises(FeatureError, match=r"must end in \.png"):
        draw_sheet([], tmp_path / "a.jpg", title="")
    with pytest.raises(FeatureError, match="no tiles to draw"):
        draw_sheet([Row("empty", [])], tmp_path / "a.png", title="")


def test_the_whole_way_for_a_trained_network(tmp_path, rng, readable_tiles):
    data = noise(rng, n=8)
    data[5:] //= 4
    valid = np.ones((8, 32, 32), dtype=bool)
    valid[1] = False
    tiles = readable_tiles(data, valid)
    extractor = trained_folder(tmp_path / "net")
    values = pd.Series(np.arange(8.0), index=[f"c{i}" for i in range(8)], name="lights")
    options = {"n_filters": 3, "n_tiles": 4, "values": values, "batch_size": 3}
    files = explain(extractor, tiles, folder=tmp_path / "out", **options)
    assert [file.name for file in files] == ["filters.png", "filters.csv", "classes.png", "classes.csv"]
    filters, classes = (pd.read_csv(file) for file in files[1::2])
    assert len(filters) == len(classes) == 12
    assert 1 not in set(filters["position"]) | set(classes["position"])
    assert (filters["lights"] == filters["position"]).all()
    for _, rows in filters.groupby("filter"):
        assert rows["response"].is_monotonic_decreasing
    features = extractor.for_bands(BANDS)(data, valid)
    outputs = features @ extractor.trained.head.weight.numpy().T + extractor.trained.head.bias.numpy()
    likely = torch.softmax(torch.from_numpy(outputs), dim=1).numpy()
    for number, (_, rows) in enumerate(classes.groupby("class", sort=False)):
        np.testing.assert_allclose(rows["value"], np.sort(likely[[0, 2, 3, 4, 5, 6, 7], number])[::-1][:4], rtol=1e-3)
    again = explain(extractor, tiles, folder=tmp_path / "again", **options)
    assert [file.read_bytes() for file in again] == [file.read_bytes() for file in files]


def test_context_is_cut_off_and_named_filters_are_shown(tmp_path, rng, readable_tiles):
    tiles = readable_tiles(noise(rng, n=3, size=48), context_px=8)
    extractor = network(context_px=8)
    files = explain(extractor, tiles, folder=tmp_path, filters=[7, 3], n_tiles=2, show=[1], layer="layer2.1.relu")
    assert [file.name for file in files] == ["filters.png", "filters.csv"]
    assert pd.read_csv(files[1])["filter"].tolist() == [7, 7, 3, 3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_tiles": 0}, "n_tiles is 0"),
        ({"filters": [999]}, "filters is 999"),
        ({"values": pd.Series([1, 2], index=["a", "a"])}, "each stands once"),
        ({"show": ["nir"]}, "no band 'nir'"),
    ],
)
def test_wrong_options(tmp_path, rng, readable_tiles, options, message):
    with pytest.raises(FeatureError, match=message):
        explain(network(), readable_tiles(noise(rng)), folder=tmp_path, **options)


def test_command_line(tmp_path, rng):
    import rasterio
    from affine import Affine

    from geopov import tiles
    from geopov.cli.features.explain import explain as command

    with rasterio.open(
        tmp_path / "scene.tif", "w", driver="GTiff", width=128, height=128, count=3, dtype="uint8", crs="EPSG:32733",
        transform=Affine(10, 0, 500000, 0, -10, 9e6),
    ) as scene:  # fmt: skip
        scene.write(noise(rng, n=1, size=128)[0])
    places = gpd.points_from_xy([500320, 500960, 500640], [8999680, 8999040, 8999360])
    points = gpd.GeoDataFrame(
        {"cluster_id": ["a", "b", "c"], "lights": [0.1, 4, 30]}, geometry=places, crs="EPSG:32733"
    )
    points.to_crs(4326).to_parquet(tmp_path / "points.parquet")
    spec = tiles.TileSpec(size_px=32, resolution_m=10)
    tiles.extract(tmp_path / "scene.tif", points, spec).save(tmp_path / "tiles")
    extractor = trained_folder(tmp_path / "net", outputs=("no", "yes")).trained.card
    assert extractor.bands == tuple(BANDS)
    app = typer.Typer()
    app.command()(command)
    network = '{"name": "resnet18", "weights": null, "engine": "eager"}'
    arguments = ["--extractor", network, "--tiles", str(tmp_path / "tiles"), "-o", str(tmp_path / "out")]
    arguments += ["--points", str(tmp_path / "points.parquet"), "--filter", "3", "--n-tiles", "2", "--show", "2"]
    found = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert found.exit_code == 0
    assert "filters.csv" in found.output
    assert len(pd.read_csv(tmp_path / "out/filters.csv")) == 2
    with pytest.raises(FeatureError, match="has no column 'dn'"):
        CliRunner().invoke(app, [*arguments, "--value", "dn"], catch_exceptions=False)
