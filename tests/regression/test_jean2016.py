"""The original against scikit-learn run as its notebooks do, what its defects are worth, and the page."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression, Ridge
from typer.testing import CliRunner

from geopov.cli import app
from geopov.errors import RegressionError
from geopov.features import write_features
from geopov.regression.jean2016 import DEFECTS, JeanFigures, jean2016, original, render_jean2016
from geopov.regression.nested import nested_ridge
from geopov.regression.scores import score
from geopov.regression.splits import SpatialBlocks

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)


def _data(n: int = 60, p: int = 90, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p)) * rng.uniform(0.5, 3, p) + 5
    return X, X[:, :5].sum(axis=1) + 3 * rng.normal(size=n)


def _r2(observed: np.ndarray, predicted: np.ndarray) -> float:
    return float(np.corrcoef(observed, predicted)[0, 1] ** 2)


def _by_sklearn(
    X: np.ndarray, y: np.ndarray, folds: int, alphas: np.ndarray, seed: int, shuffle: bool = False
) -> tuple:
    """The notebooks' nested loops, word for word but for the library; folds are drawn as ours are."""
    rng = np.random.default_rng(seed)
    predicted, found = np.zeros_like(y), []
    for train, test in original._random_folds(len(y), folds, rng):
        outcome = rng.permutation(y[train]) if shuffle else y[train]
        inner = np.zeros((len(train), len(alphas)))
        for rows, held_out in original._random_folds(len(train), folds, rng):
            for at, alpha in enumerate(alphas):
                centre = X[train][rows].mean(axis=0)
                ridge = Ridge(alpha).fit(X[train][rows] - centre, outcome[rows])
                inner[held_out, at] = ridge.predict(X[train][held_out] - centre)
        best = alphas[np.argmax([_r2(outcome, column) for column in inner.T])]
        predicted[test] = Ridge(best).fit(X[train], outcome).predict(X[test])
        found.append(_r2(y[test], predicted[test]))
    return predicted, np.mean(found)


@pytest.mark.parametrize(("n", "p"), [(60, 90), (80, 12)])
def test_figure3_is_the_notebooks(n: int, p: int) -> None:
    X, y = _data(n, p)
    expected, r2 = _by_sklearn(X, y, 5, np.logspace(1, 5, 10), seed=3)
    found = original.figure3(original.reduce(X), y, np.random.default_rng(3))
    assert found.predicted == pytest.approx(expected)
    assert found.r2 == pytest.approx(r2)


@pytest.mark.parametrize("shuffle", [True, False])
def test_figure4_is_the_notebooks(shuffle: bool) -> None:
    X, y = _data()
    Z = PCA(10).fit_transform(X)
    assert np.abs(original.reduce(X, 10)) == pytest.approx(np.abs(Z))
    _, expected = _by_sklearn(Z, y, 3, np.logspace(0, 3, 10), seed=5, shuffle=shuffle)
    found = original.figure4_randomised(Z, y, np.random.default_rng(5), shuffle=shuffle)
    assert found == pytest.approx(expected)
    _, expected = _by_sklearn(Z, y, 5, np.logspace(0, 3, 10), seed=6)
    assert original.figure4_images(Z, y, np.random.default_rng(6)) == pytest.approx(expected)


def test_figure4_nightlights_are_least_squares() -> None:
    X, y = _data()
    folds = original._random_folds(60, 5, np.random.default_rng(1))
    expected = [
        _r2(y[test], LinearRegression().fit(X[train, :2], y[train]).predict(X[test, :2])) for train, test in folds
    ]
    assert original.figure4_lights(X[:, :2], y, np.random.default_rng(1)) == pytest.approx(np.mean(expected))
    dark = np.zeros((60, 1))
    assert original.figure4_lights(dark, y, np.random.default_rng(1)) == 0


@pytest.mark.parametrize("p", [90, 15])
def test_figure5_is_the_notebooks(p: int) -> None:
    X, y = _data(100, p)
    countries = {"a": np.arange(60), "b": np.arange(60, 100), "pooled": np.arange(100)}
    alphas = np.logspace(-2, 5, 30)
    inside, outside = np.zeros((10, 30)), np.zeros((10, 30))
    for fold, (train, test) in enumerate(original._random_folds(60, 10, np.random.default_rng(2))):
        pca = PCA(8).fit(X[train])
        for at, alpha in enumerate(alphas):
            ridge = Ridge(alpha).fit(pca.transform(X[train]), y[train])
            inside[fold, at] = _r2(y[test], ridge.predict(pca.transform(X[test])))
            outside[fold, at] = _r2(y[60:], ridge.predict(pca.transform(X[60:])))
    best = np.argmax(inside.mean(axis=0))
    found = original.figure5_column(
        original.reduce(X), y, countries, name="a", n_components=8, n_trials=1, rng=np.random.default_rng(2)
    )
    assert list(found) == ["a", "b", "pooled"]
    assert found["a"] == pytest.approx(inside.mean(axis=0)[best])
    assert found["b"] == pytest.approx(outside.mean(axis=0)[best])


def test_a_mean_over_folds_finds_something_in_nothing() -> None:
    """Noise in five folds of 20 clusters: 1/19 in each by chance, twice the r² of the same predictions pooled."""
    found = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        Z, y = rng.normal(size=(100, 20)), rng.normal(size=100)
        held_out = original.figure3(Z, y, rng)
        found.append((held_out.r2, _r2(y, held_out.predicted)))
    by_fold, pooled = np.mean(found, axis=0)
    assert by_fold == pytest.approx(1 / 19, rel=0.2)
    assert pooled < 0.6 * by_fold


@pytest.fixture(scope="module")
def two_countries(simulated, as_features) -> tuple[xr.DataArray, gpd.GeoDataFrame, xr.DataArray]:
    """Two simulated countries that look alike, and nine clusters of a third."""
    parts = [simulated(n=n, p=30, seed=5, noise=0.4) for n in (150, 120, 9)]
    tables, images, lights = [], [], []
    for number, part in enumerate(parts):
        moved = part.clusters.assign(country="abc"[number], cluster_id="abc"[number] + part.clusters["cluster_id"])
        tables.append(moved.set_geometry(moved.geometry.translate(10 * number)))
        images.append(part.features.to_numpy())
        lights.append(part.lights.to_numpy()[:, 1:])
    clusters = pd.concat(tables, ignore_index=True)
    ids = list(clusters["cluster_id"])
    return as_features(np.vstack(images), ids), clusters, as_features(np.vstack(lights), ids)


@pytest.fixture(scope="module")
def figures(two_countries) -> JeanFigures:
    features, clusters, lights = two_countries
    return jean2016(features, clusters, outcome="asset_wealth", nightlights=lights, n_trials=30, block_km=40)


def test_tables_are_whole(figures: JeanFigures) -> None:
    both = ["original", "nested"]
    assert figures.defects == DEFECTS
    assert figures.meta["countries"] == ["a", "b"]
    assert figures.meta["too_small"] == ["c"]
    assert figures.meta["n"] == 279
    assert figures.scores[["procedure", "country", "n"]].to_numpy().tolist() == [
        [procedure, country, n] for procedure in both for country, n in (("a", 150), ("b", 120))
    ]
    assert len(figures.predictions) == 2 * (150 + 120)
    assert figures.predictions.notna().all(axis=None)
    assert figures.curves.groupby(["procedure", "predictor"]).size().tolist() == [9] * 4  # a tenth has 28 clusters
    assert figures.curves["n"].max() == 279
    assert figures.curves.groupby("procedure")["trials"].first().to_dict() == {"original": 6, "nested": 1}
    assert figures.randomised["country"].tolist() == ["a", "b", "pooled"] * 2
    assert figures.null.groupby(["procedure", "country"]).size().tolist() == [30] * 6
    nested = figures.generalisation[figures.generalisation["procedure"] == "nested"]
    assert set(zip(nested["trained_on"], nested["tested_on"], strict=True)) == {
        (one, two) for one in ("a", "b", "pooled") for two in ("a", "b", "pooled")
    }
    assert ((figures.generalisation["r2"] >= 0) & (figures.generalisation["r2"] <= 1)).all()


def test_nested_is_the_nested_ridge_on_spatial_blocks(figures: JeanFigures, two_countries) -> None:
    features, clusters, _ = two_countries
    X, y = features.to_numpy()[:150], clusters["asset_wealth"].to_numpy()[:150]
    splits = SpatialBlocks(block_km=40)
    pairs, blocks = list(splits.split(clusters[:150])), splits.block_ids(clusters[:150])
    expected = nested_ridge(X, y, pairs, groups=blocks).predicted[:, 0]
    rows = figures.predictions.query("procedure == 'nested' and country == 'a'")
    assert rows["predicted"].to_numpy() == pytest.approx(expected)
    row = figures.scores.query("procedure == 'nested' and country == 'a'").iloc[0]
    assert row["r2"] == row["r2_pooled"] == pytest.approx(score(y, expected)["r2_pearson"])
    assert row["r2_low"] < row["r2"] < row["r2_high"]
    abroad = nested_ridge(
        features.to_numpy(), clusters["asset_wealth"].to_numpy(), [(np.arange(150), np.arange(150, 270))],
        groups=np.append(blocks, np.zeros(129)), n_components=30,
    ).predicted[150:270, 0]  # fmt: skip
    found = figures.generalisation.query("procedure == 'nested' and trained_on == 'a' and tested_on == 'b'")
    assert found["r2"].item() == pytest.approx(
        score(clusters["asset_wealth"].to_numpy()[150:270], abroad)["r2_pearson"]
    )


def test_what_the_defects_are_worth(as_features) -> None:
    """Images of nothing, neighbours alike: the original finds something, places held out whole find nothing."""
    rng = np.random.default_rng(0)
    towns = rng.uniform(0, 3, size=(30, 2))
    place = np.repeat(np.arange(30), 4)
    lon, lat = (towns[place] + rng.normal(scale=0.01, size=(120, 2))).T
    looks = rng.normal(size=(30, 40))[place] + 0.3 * rng.normal(size=(120, 40))
    wealth = rng.normal(size=30)[place] + 0.3 * rng.normal(size=120)
    table = {"cluster_id": [f"c{i}" for i in range(120)], "wealth": wealth}
    clusters = gpd.GeoDataFrame(table, geometry=gpd.points_from_xy(lon, lat), crs="EPSG:4326")
    found = jean2016(
        as_features(looks, list(clusters["cluster_id"])), clusters, outcome="wealth", n_trials=30, block_km=40
    )
    r2 = found.scores.set_index("procedure")["r2"]
    assert r2["original"] > 0.4
    assert r2["nested"] < 0.1
    assert found.meta["countries"] == ["all clusters"]
    assert found.generalisation.empty
    assert list(found.curves["predictor"].unique()) == ["images"]


def test_without_defects_and_again_the_same(two_countries, figures: JeanFigures) -> None:
    features, clusters, lights = two_countries
    steps: list[tuple[int, int]] = []
    settings = {"outcome": "asset_wealth", "nightlights": lights, "n_trials": 30, "block_km": 40}
    clean = jean2016(features, clusters, **settings, defects=False, progress=lambda *step: steps.append(step))
    assert clean.defects == ()
    for name, table in clean.tables().items():
        before = getattr(figures, name)
        before = before[before["procedure"] == "nested"].reset_index(drop=True) if "procedure" in before else before
        pd.testing.assert_frame_equal(table, before, check_dtype=False)
    assert steps == [(done, steps[-1][1]) for done in range(steps[-1][1] + 1)]


def test_bad_input(two_countries) -> None:
    features, clusters, _ = two_countries
    with pytest.raises(RegressionError, match="n_trials is 0; expected a whole number above zero"):
        jean2016(features, clusters, outcome="asset_wealth", n_trials=0)
    with pytest.raises(RegressionError, match="a: block_km=5000 puts 150 clusters"):
        jean2016(features, clusters, outcome="asset_wealth", block_km=5000)
    with pytest.raises(RegressionError, match=r"all clusters: 20 clusters can be used; expected at least 50"):
        jean2016(features, clusters[:20].drop(columns="country"), outcome="asset_wealth")


@pytest.fixture(scope="module")
def page(figures: JeanFigures, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "jean.html"
    render_jean2016(figures, path)
    return path


def test_page_stands_alone_and_names_the_defects(page: Path) -> None:
    html = page.read_text()
    words = re.sub(r"base64,[A-Za-z0-9+/=]+", "", html)
    assert not re.search(r"(https?:)?//[a-z]|<script|<link|url\(|@import", words)
    text = re.sub(r"\s+", " ", words.replace("&#39;", "'"))
    for sentence in DEFECTS:
        assert sentence in text
    assert html.count("<img ") == 2 * (2 + 1 + 1 + 1)
    assert len(re.findall(r'alt="[^"]{10,}"', html)) == html.count("<img ")
    assert not re.search(r"\b(nan|NaN|None)\b", text)
    assert "only among the pooled" in text


def test_tables_lie_beside_the_page(page: Path, figures: JeanFigures) -> None:
    content = json.loads(page.with_suffix(".json").read_text())
    assert content["defects"] == list(DEFECTS)
    assert content["meta"]["seed"] == 0
    for name, table in figures.tables().items():
        assert len(content[name]) == len(table)
    assert content["scores"][0]["r2"] == figures.scores.loc[0, "r2"]
    assert content["scores"][0]["r2_low"] is None


def test_a_repeat_gives_the_same_bytes(page: Path, figures: JeanFigures, tmp_path: Path) -> None:
    render_jean2016(figures, tmp_path / "jean.html")
    for suffix in (".html", ".json"):
        assert (tmp_path / "jean.html").with_suffix(suffix).read_bytes() == page.with_suffix(suffix).read_bytes()
    with pytest.raises(RegressionError, match=r"ends in \.html"):
        render_jean2016(figures, tmp_path / "jean.json")


@pytest.mark.skipif(not CHROMIUM, reason="no Chromium on this machine")
@pytest.mark.parametrize("width", [390, 1280])
def test_page_fits_the_screen(page: Path, tmp_path: Path, width: int) -> None:
    probe = "<script>document.title = document.documentElement.scrollWidth + ' ' + "
    probe += "[...document.images].filter(i => i.naturalWidth > 0 && i.width <= innerWidth).length</script></body>"
    (tmp_path / "probe.html").write_text(page.read_text().replace("</body>", probe))
    # Headless Chromium refuses narrow windows, a frame may be any width.
    frame = f'<iframe src="probe.html" style="width:{width}px;height:900px;border:0"></iframe>'
    copy_title = "<script>onload = () => { document.title = frames[0].document.title }</script>"
    (tmp_path / "frame.html").write_text(f"<body style='margin:0'>{frame}{copy_title}</body>")
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--allow-file-access-from-files", "--window-size=1300,950"]
    command += ["--dump-dom", (tmp_path / "frame.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = re.search(r"<title>(\d+) (\d+)</title>", done.stdout)
    assert found, done.stdout[-500:] + done.stderr[-500:]
    assert int(found.group(1)) <= width
    assert int(found.group(2)) == 10


@pytest.fixture(scope="module")
def files(two_countries, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("inputs")
    features, clusters, _ = two_countries
    write_features(features[:100], folder / "features.nc")
    clusters[:100].to_parquet(folder / "clusters.parquet")
    names = ["--features", str(folder / "features.nc"), "--clusters", str(folder / "clusters.parquet")]
    return ["report", "--protocol", "jean2016", *names, "--outcome", "asset_wealth"]


def test_command(files: list[str], tmp_path: Path) -> None:
    page = tmp_path / "jean.html"
    done = CliRunner().invoke(app, [*files, "--trials", "2", "--block-km", "40", "--seed", "1", "-o", str(page)])
    assert done.exit_code == 0, done.output
    assert "held out by place" in done.output
    meta = json.loads(page.with_suffix(".json").read_text())["meta"]
    assert (meta["n_trials"], meta["seed"], meta["block_km"]) == (2, 1, 40)
    assert set(meta["inputs"]) == {"features", "clusters"}
    assert str(tmp_path) not in page.read_text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda words: ["report", *words[3:]],
            "--features and --clusters and --outcome are given; expected only with --protocol jean2016",
        ),
        (lambda words: words[:-2], "--protocol jean2016 also needs --outcome"),
        (lambda words: [*words, "folder"], "DIR is given; expected not with --protocol jean2016"),
        (lambda words: [*words, "--map", "map.png"], "--map is given; expected not with --protocol jean2016"),
        (lambda words: [*words, "--nightlights", "none.nc"], "--nightlights is none.nc, which is not there"),
        (lambda _: ["report"], "no DIR is given"),
        (lambda _: ["report", "folder", "--trials", "5"], "--trials is given; expected only with --protocol jean2016"),
    ],
)
def test_wrong_combinations(files: list[str], change, message: str, tmp_path: Path) -> None:
    page = tmp_path / "jean.html"
    done = CliRunner().invoke(app, [*change(files), "-o", str(page)])
    assert isinstance(done.exception, RegressionError)
    assert message in str(done.exception)
    assert not page.exists()
