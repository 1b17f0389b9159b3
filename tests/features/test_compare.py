"""Scores of classes, the table and the picture; and the bake-off itself with networks of a few thousand pixels."""

from __future__ import annotations

import json
from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import typer
import xarray as xr
from affine import Affine
from matplotlib import image
from sklearn.metrics import confusion_matrix, roc_auc_score
from typer.testing import CliRunner

from geopov.cli.features.compare import compare as cli_compare
from geopov.errors import FeatureError
from geopov.features import read_features
from geopov.features.comparison.bake_off import _holm, compare
from geopov.features.comparison.class_scores import (
    MEAN,
    class_differences,
    class_scores,
    mean_auroc,
    youden_thresholds,
)
from geopov.features.comparison.networks import BRESSEM_2020, MINIMUM_INPUT_PX, NEWER, contenders
from geopov.features.comparison.table import write_comparison

CLASSES = ("dark", "dim", "bright")


@pytest.fixture
def scored(rng):
    """Truth, and probabilities that know something of it."""
    codes = rng.integers(0, 3, 200)
    raw = rng.normal(size=(200, 3)) + 1.5 * (codes[:, None] == np.arange(3))
    probabilities = np.exp(raw) / np.exp(raw).sum(axis=1, keepdims=True)
    return np.array(CLASSES)[codes], probabilities


class TestClassScores:
    def test_equals_scikit_learn(self, scored):
        truth, probabilities = scored
        cuts = [0.3, 0.4, 0.5]
        table = class_scores(truth, probabilities, classes=CLASSES, thresholds=cuts).set_index("class")
        for k, name in enumerate(CLASSES):
            (tn, fp), (fn, tp) = confusion_matrix(truth == name, probabilities[:, k] >= cuts[k])
            assert table.loc[name, "sensitivity"] == tp / (tp + fn)
            assert table.loc[name, "specificity"] == tn / (tn + fp)
            assert table.loc[name, "auroc"] == pytest.approx(roc_auc_score(truth == name, probabilities[:, k]))
            assert table.loc[name, "n_positive"] == tp + fn
        names = sorted(CLASSES)
        in_order = probabilities[:, [CLASSES.index(name) for name in names]]
        macro = roc_auc_score(truth, in_order, multi_class="ovr", labels=names)
        assert table.loc[MEAN, "auroc"] == pytest.approx(macro)

    @pytest.mark.parametrize("score", ["auroc", "sensitivity", "specificity"])
    def test_intervals_hold_their_value(self, scored, score):
        table = class_scores(*scored, classes=CLASSES, thresholds=[0.3] * 3).iloc[:3]
        assert ((table[f"{score}_low"] < table[score]) & (table[score] < table[f"{score}_high"])).all()

    def test_known_proportions(self):
        truth = ["yes"] * 20 + ["no"] * 29
        probabilities = np.column_stack([np.r_[np.ones(20), 1, np.zeros(28)], np.zeros(49)])
        table = class_scores(truth, probabilities, classes=("yes", "no"), thresholds=[0.5, 0.5]).set_index("class")
        assert table.loc["yes", ["sensitivity", "sensitivity_low"]].tolist() == pytest.approx([1, 1 - 0.1684], abs=1e-4)
        # All but one of 29; Newcombe (1998) gives .0009 to .1776 for the one.
        found = table.loc["yes", ["specificity_low", "specificity_high"]].tolist()
        assert found == pytest.approx([1 - 0.1776, 1 - 0.0009], abs=1e-4)

    def test_class_without_tiles(self, scored):
        truth, probabilities = scored
        few = np.where(truth == "dim", "dark", truth)
        table = class_scores(few, probabilities, classes=CLASSES, thresholds=[0.3] * 3).set_index("class")
        assert table.loc["dim", ["auroc", "auroc_low", "sensitivity"]].isna().all()
        assert table.loc[MEAN, "auroc"] == pytest.approx(table.loc[["dark", "bright"], "auroc"].mean())

    def test_blocks_widen(self, rng):
        block = np.repeat(np.arange(60), 5)
        codes = np.repeat(rng.integers(0, 2, 60), 5)
        score = np.repeat(rng.normal(size=60), 5) + 0.1 * rng.normal(size=300) + codes
        probabilities = np.column_stack([-score, score])
        truth = np.array(["a", "b"])[codes]
        alone, whole = (
            class_scores(truth, probabilities, classes=("a", "b"), thresholds=[0, 0], blocks=blocks).iloc[0]
            for blocks in (None, block)
        )
        assert alone["auroc"] == pytest.approx(whole["auroc"])
        assert 1.7 < (whole["auroc_high"] - whole["auroc_low"]) / (alone["auroc_high"] - alone["auroc_low"]) < 3

    def test_differences_are_paired(self, scored, rng):
        truth, probabilities = scored
        close = probabilities + 0.01 * rng.normal(size=probabilities.shape)
        table = class_differences(truth, close, probabilities, classes=CLASSES).set_index("class")
        own = class_scores(truth, close, classes=CLASSES, thresholds=[0.3] * 3).set_index("class")
        assert (
            (table["difference_low"] <= table["difference"]) & (table["difference"] <= table["difference_high"])
        ).all()
        width = table["difference_high"] - table["difference_low"]
        assert (width < 0.5 * (own["auroc_high"] - own["auroc_low"])).all()
        assert table["p_value"].notna().tolist() == [True, True, True, False]
        expected = mean_auroc(truth, close, classes=CLASSES) - mean_auroc(truth, probabilities, classes=CLASSES)
        assert table.loc[MEAN, "difference"] == pytest.approx(expected)

    def test_unknown_class(self, scored):
        with pytest.raises(FeatureError, match="tiles are of the classes bright"):
            class_scores(*scored, classes=("dark", "dim", "light"), thresholds=[0.5] * 3)


class TestYouden:
    def test_by_hand(self):
        # From .6 on: both positives and one of three negatives, J = 2/3; from .7 on: one and none, J = 1/2.
        truth, p = ["a", "b", "a", "b", "b"], np.array([0.7, 0.65, 0.6, 0.2, 0.1])
        cuts = youden_thresholds(truth, np.column_stack([p, 1 - p]), classes=("a", "b"))
        # For "b", from .8 on: two of three and no "a", J = 2/3; half way between .8 and .4.
        assert cuts == pytest.approx([(0.6 + 0.2) / 2, (0.8 + 0.4) / 2])

    def test_is_the_best_of_all(self, scored):
        truth, probabilities = scored
        cuts = youden_thresholds(truth, probabilities, classes=CLASSES)
        for k, name in enumerate(CLASSES):
            positive = truth == name

            def youden(cut, k=k, positive=positive):
                said = probabilities[:, k] >= cut
                return said[positive].mean() - said[~positive].mean()

            assert youden(cuts[k]) == pytest.approx(max(map(youden, probabilities[:, k])))

    def test_class_without_tiles(self, scored):
        truth, probabilities = scored
        few = np.where(truth == "dim", "dark", truth)
        assert np.isnan(youden_thresholds(few, probabilities, classes=CLASSES)).tolist() == [False, True, False]


class TestContenders:
    def test_sixteen_of_bressem(self):
        found = contenders("bressem2020", weights=None)
        assert len(found) == len(set(BRESSEM_2020)) == 16
        assert [c.backbone for c in contenders("all")] == [*BRESSEM_2020, *NEWER]

    def test_starts(self, tmp_path):
        path = str(tmp_path / "own.pth")
        found = contenders(["resnet18", "resnet18=random", f"timm/resnet18d={path}"])
        assert [c.start for c in found] == ["imagenet", "random", "own.pth"]
        assert [c.name for c in found] == ["resnet18-imagenet", "resnet18-random", "timm_resnet18d-own.pth"]

    @pytest.mark.parametrize(
        ("networks", "message"),
        [
            ("bressem", "no set of networks 'bressem'; expected one of bressem2020, newer, all"),
            (["resnet18", "resnet18=imagenet"], "resnet18-imagenet stand more than once"),
            ([], "no networks to compare"),
            (["resnet18="], "'resnet18=' names no network"),
        ],
    )
    def test_bad(self, networks, message):
        with pytest.raises(FeatureError, match=message):
            contenders(networks)


@pytest.mark.parametrize("network", MINIMUM_INPUT_PX)
def test_smallest_image(network):
    torch = pytest.importorskip("torch")
    from geopov.features.networks.backbones import load_backbone

    trunk, side = load_backbone(network, weights=None, seed=0).trunk, MINIMUM_INPUT_PX[network]
    assert trunk(torch.zeros(1, 3, side, side)).shape[2:] == (1, 1)
    with pytest.raises(RuntimeError, match=r"too small|can't be greater"):
        trunk(torch.zeros(1, 3, side - 1, side - 1))


def test_holm_by_hand():
    # Times 3, 2, 1 in their order, and none below the one before.
    adjusted = _holm(pd.Series([0.01, 0.04, np.nan, 0.03]))
    assert adjusted.tolist()[:2] == pytest.approx([0.03, 0.06])
    assert np.isnan(adjusted[2])
    assert adjusted[3] == pytest.approx(0.06)


@dataclass
class Spec:
    size_px: int = 32
    context_px: int = 0

    def to_dict(self):
        return {"size_px": self.size_px, "context_px": self.context_px, "resolution_m": 30.0}


@dataclass
class Batch:
    data: np.ndarray
    valid: np.ndarray
    positions: np.ndarray


class Tiles:
    """Tiles in memory, 11 km from one another."""

    def __init__(self, data):
        self.data, self.spec, self.band_names = data, Spec(), ["red", "green", "blue"]
        ids = [f"n{i:03d}" for i in range(len(data))]
        places = gpd.points_from_xy(30 + np.arange(len(data)) % 10 / 10, np.arange(len(data)) // 10 / 10)
        self.index = gpd.GeoDataFrame({"tile_id": ids, "cluster_id": ids}, geometry=places, crs="EPSG:4326")

    def __len__(self):
        return len(self.data)

    def iter_batches(self, batch_size=256):
        for start in range(0, len(self), batch_size):
            rows = np.arange(start, min(start + batch_size, len(self)))
            yield Batch(self.data[rows], np.ones((len(rows), 32, 32), dtype=bool), rows)


def make_world():
    """Ninety tiles of three classes told by their colour, and their labels."""
    codes = np.tile([0, 1, 2], 30)
    shade = np.array([[60, 60, 60], [120, 90, 60], [180, 180, 200]])[codes]
    noise = np.random.default_rng(0).normal(0, 25, (90, 3, 32, 32))
    tiles = Tiles(np.clip(shade[:, :, None, None] + noise, 0, 255).astype(np.uint8))
    split = np.repeat(["train", "validation", "test"], 30)
    columns = {"cluster_id": tiles.index["cluster_id"], "lights_class": codes, "split": split}
    return tiles, gpd.GeoDataFrame(columns, geometry=tiles.index.geometry, crs="EPSG:4326")


NETWORKS = ("squeezenet1_1", "shufflenet_v2_x0_5")


def run(folder, networks=NETWORKS, labels=None, **options):
    tiles, own = make_world()
    fixed = {
        "weights": None,
        "training": {"epochs": 1, "batch_size": 10},
        "threads": 1,
        "engine": "eager",
        "n_resamples": 200,
    }
    return compare(networks, tiles, own if labels is None else labels, folder=folder, **(fixed | options))


def written(folder):
    return {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A folder with two networks compared, the table, and the features that were scored."""
    folder, seen = tmp_path_factory.mktemp("networks"), []

    def downstream(features):
        seen.append(features)
        return {"r2": 0.4, "r2_low": 0.3, "r2_high": 0.5, "n": 90.0}

    return folder, run(folder, downstream=downstream, cluster_tiles=make_world()[0]), seen


class TestCompare:
    def test_scores_are_those_of_the_test_tiles(self, done):
        folder, table, _ = done
        assert table["network"].unique().tolist() == list(NETWORKS)
        assert set(table["start"]) == {"random"}
        _, labels = make_world()
        for network in NETWORKS:
            kept = pd.read_parquet(folder / f"{network}-random" / "predictions.parquet").set_index("cluster_id")
            test = labels[labels["split"] == "test"]
            rows = table[table["network"] == network].set_index("class")
            for name in "012":
                positive = test["lights_class"].astype(str) == name
                auroc = roc_auc_score(positive, kept.loc[test["cluster_id"], f"p_{name}"])
                assert rows.loc[name, "auroc"] == pytest.approx(auroc)
                assert rows.loc[name, ["n", "n_positive"]].tolist() == [30, 10]

    def test_costs(self, done):
        table = done[1].set_index(["network", "class"])
        # SqueezeNet 1.1 without its last convolution, and a head of 512 x 3 + 3.
        assert table.loc[("squeezenet1_1", "0"), "n_parameters"] == 1_235_496 - 513_000 + 1_539
        assert (table["images_per_s"] > 0).all()

    def test_reference_is_the_best_on_validation(self, done):
        folder, table, _ = done
        _, labels = make_world()
        rows = labels[labels["split"] == "validation"]
        means = {}
        for network in NETWORKS:
            kept = pd.read_parquet(folder / f"{network}-random" / "predictions.parquet").set_index("cluster_id")
            p = kept.loc[rows["cluster_id"], ["p_0", "p_1", "p_2"]]
            means[network] = mean_auroc(rows["lights_class"].astype(str), p, classes=("0", "1", "2"))
        best = max(means, key=means.get)
        assert json.loads(table.attrs["comparison"])["reference"] == f"{best}-random"
        assert table.loc[table["network"] == best, "difference"].isna().all()
        assert table.loc[table["network"] != best, "difference"].notna().all()

    def test_downstream_gets_each_network_s_features(self, done):
        folder, table, seen = done
        assert [features.shape for features in seen] == [(90, 512), (90, 1024)]
        assert (table["downstream_r2"] == 0.4).all()
        xr.testing.assert_equal(read_features(folder / "squeezenet1_1-random" / "features.nc"), seen[0])

    def test_what_is_there_is_not_done_again(self, done):
        folder, table, _ = done
        before = written(folder)
        again = run(folder, downstream=lambda features: {"R2": float(len(features))}, cluster_tiles=make_world()[0])
        assert written(folder) == before
        assert (again["downstream_R2"] == 90).all()
        shared = [name for name in table.columns if not name.startswith("downstream")]
        pd.testing.assert_frame_equal(again[shared], table[shared])

    def test_goes_on_where_it_stopped(self, done, tmp_path):
        def stop(n_done, n):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, progress=stop)
        before = written(tmp_path)
        assert {path.parts[len(tmp_path.parts)] for path in before} == {"squeezenet1_1-random"}
        table = run(tmp_path)
        after = written(tmp_path)
        assert {path: after[path] for path in before} == before
        scores = ["auroc", "auroc_low", "sensitivity", "threshold", "difference"]
        pd.testing.assert_frame_equal(table[scores], done[1][scores])

    def test_intervals_by_squares(self, done):
        table = run(done[0], block_km=25.0)
        meta = json.loads(table.attrs["comparison"])
        # Three rows of ten test tiles, 11 km apart, over squares of 25 km.
        assert 8 <= meta["n_blocks"] <= 15
        assert table["p_value"].isna().all()
        assert not np.allclose(table["auroc_low"].iloc[:3], done[1]["auroc_low"].iloc[:3])

    def test_other_labels_in_the_same_folder(self, done):
        labels = make_world()[1].assign(lights_class=lambda table: table["lights_class"] % 2)
        with pytest.raises(FeatureError, match="holds a network"):
            run(done[0], labels=labels)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"networks": ["alexnet", "resnet18"]}, "32 px are too small for alexnet; give input_px=63"),
            ({"networks": ["resnet19"]}, "there is no network 'resnet19'"),
            ({"networks": ["resnet18=own.pth"]}, "there are no weights own.pth"),
            ({"training": {"task": "regression"}}, "networks are compared as classifiers"),
            ({"training": {"folder": "x"}}, "training holds folder, which compare sets"),
            ({"downstream": lambda features: {}}, "downstream and cluster_tiles belong together"),
            ({"label": "roof"}, "has no column 'roof'"),
            ({"labels": make_world()[1].query("split != 'test'")}, "no tile is of the split 'test'"),
        ],
    )
    def test_bad_input_is_told_before_training(self, tmp_path, options, message):
        with pytest.raises(FeatureError, match=message):
            run(tmp_path, **options)
        assert not list(tmp_path.iterdir())


class TestOnPaper:
    def test_files(self, done, tmp_path):
        _, table, _ = done
        page = write_comparison(table, tmp_path, title="Roofs <b> & roads", note="Made-up clusters.")
        assert {path.name for path in tmp_path.iterdir()} == {
            f"comparison.{end}" for end in ("csv", "html", "md", "png")
        }
        back = pd.read_csv(tmp_path / "comparison.csv")
        pd.testing.assert_series_equal(back["auroc"], table["auroc"], rtol=1e-5)
        html = page.read_text()
        assert "Roofs &lt;b&gt; &amp; roads" in html
        assert "http" not in html.replace('http-equiv="Content', "")
        assert "<script" not in html

    def test_markdown_has_a_line_a_network_the_best_first(self, done, tmp_path):
        _, table, _ = done
        write_comparison(table, tmp_path)
        lines = [line for line in (tmp_path / "comparison.md").read_text().splitlines() if line.startswith("| ")]
        heads, *rows = ([cell.strip() for cell in line.strip("|").split(" | ")] for line in lines)
        rows = [row for row in rows if not row[0].startswith("---")]
        means = table[table["class"] == MEAN].sort_values("auroc", ascending=False)
        assert [row[0] for row in rows] == means["network"].tolist()
        assert {len(row) for row in rows} == {len(heads)}
        cell = rows[0][heads.index("mean AUROC")]
        assert cell.startswith(f"{means['auroc'].iloc[0]:.3f} ({means['auroc_low'].iloc[0]:.3f} to ")
        assert rows[0][heads.index("r², clusters")] == "0.400 (0.300 to 0.500)"

    def test_same_bytes(self, done, tmp_path):
        for folder in ("a", "b"):
            write_comparison(done[1], tmp_path / folder)
        for path in (tmp_path / "a").iterdir():
            assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()

    def test_picture_shows_every_network(self, done, tmp_path):
        write_comparison(done[1], tmp_path)
        two = image.imread(tmp_path / "comparison.png").shape
        only = done[1][done[1]["network"] == NETWORKS[0]]
        only.attrs = done[1].attrs
        write_comparison(only, tmp_path)
        one = image.imread(tmp_path / "comparison.png").shape
        assert two[1] == one[1]
        assert two[0] - one[0] == pytest.approx(0.42 * 160, abs=1)

    def test_another_table(self, done, tmp_path):
        with pytest.raises(FeatureError, match="has no column 'n_parameters'"):
            write_comparison(done[1].drop(columns="n_parameters"), tmp_path)
        bare = done[1].copy()
        bare.attrs = {}
        with pytest.raises(FeatureError, match="no attribute 'comparison'"):
            write_comparison(bare, tmp_path)


class TestCommandLine:
    def test_scene_to_page(self, tmp_path):
        app = typer.Typer()
        app.command()(cli_compare)
        rng = np.random.default_rng(0)
        shade = np.kron(rng.integers(0, 2, (12, 12)), np.ones((32, 32)))
        pixels = np.clip(60 + 90 * shade + rng.normal(0, 20, (3, 384, 384)), 1, 255).astype(np.uint8)
        placed = {"crs": "EPSG:32736", "transform": Affine(30, 0, 500_000, 0, -30, 8_000_000)}
        with rasterio.open(
            tmp_path / "scene.tif", "w", driver="GTiff", count=3, height=384, width=384, dtype="uint8", **placed
        ) as dataset:
            dataset.write(pixels)
        rows, columns = np.divmod(np.arange(144), 12)
        east, north = 500_000 + 30 * (32 * columns + 16), 8_000_000 - 30 * (32 * rows + 16)
        points = gpd.GeoDataFrame(
            {
                "cluster_id": [f"n{i}" for i in range(144)],
                "built": shade[16::32, 16::32].ravel().astype(bool),
                "split": np.repeat(["train", "validation", "test"], 48),
                "wealth": shade[16::32, 16::32].ravel() + rng.normal(0, 0.3, 144),
            },
            geometry=gpd.points_from_xy(east, north),
            crs="EPSG:32736",
        ).to_crs("EPSG:4326")
        points.to_parquet(tmp_path / "points.parquet")
        command = [
            "--points", tmp_path / "points.parquet", "--scene", tmp_path / "scene.tif", "--size-px", 32,
            "--resolution-m", 30, "--label", "built", "--network", "squeezenet1_1=random", "--epochs", 1,
            "--clusters", tmp_path / "points.parquet", "--outcome", "wealth", "--block-km", 3, "--engine", "eager",
            "--threads", 1, "-o", tmp_path / "networks",
        ]  # fmt: skip
        found = CliRunner().invoke(app, [str(part) for part in command], catch_exceptions=False)
        assert found.exit_code == 0
        assert "squeezenet1_1 (random): mean AUROC" in found.output
        table = pd.read_csv(tmp_path / "networks" / "comparison.csv")
        assert table["class"].tolist() == ["False", "True", MEAN]
        assert table["auroc"].iloc[0] > 0.9
        assert table["downstream_r2"].iloc[0] > 0.4
        assert (tmp_path / "networks" / "comparison.html").is_file()

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ([], "expected --network, once or more, or --networks"),
            (["--network", "resnet18", "--outcome", "wealth"], "--clusters, --outcome and --block-km belong together"),
        ],
    )
    def test_options_that_do_not_fit(self, tmp_path, options, message):
        app = typer.Typer()
        app.command()(cli_compare)
        command = ["--points", str(tmp_path / "points.parquet"), "-o", str(tmp_path), *options]
        with pytest.raises(FeatureError, match=message):
            CliRunner().invoke(app, command, catch_exceptions=False)
