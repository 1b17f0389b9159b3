"""The model as a file: the same bytes, the same predictions, and no other features."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest

from geopov._validation import sha256_of
from geopov.errors import RegressionError
from geopov.regression import CrossValidation, SpatialBlocks, WelfareModel, WelfareNeighbours, WelfareRidge, evaluate
from geopov.regression.intervals import Coverage, Intervals
from geopov.regression.shrinkage import METHODS, Deshrinkage
from geopov.regression.support import Support


def build(*, n: int = 300, p: int = 5, method: str = "none", seed: int = 0) -> tuple[WelfareModel, np.ndarray]:
    """A model made by hand, whose errors grow with the prediction, and the features it was made from."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p))
    coef = rng.normal(size=p)
    linear = X @ coef + 2
    observed = linear + np.exp(0.4 * (linear - 2)) * rng.normal(size=n)
    deshrinkage, support = Deshrinkage.fit(observed, linear, method=method), Support.fit(X)
    mean, distance = deshrinkage.apply(linear), support.distance(X)
    model = WelfareModel(
        outcome="asset_wealth",
        unit="index",
        feature_names=tuple(f"f{i}" for i in range(p)),
        coef=coef,
        intercept=2.0,
        low=X.min(axis=0),
        high=X.max(axis=0),
        alpha=1.0,
        deshrinkage=deshrinkage,
        intervals=Intervals.fit(np.abs(observed - mean), mean, distance, level=0.9, folds=np.arange(n) % 5),
        support=support,
        support_limit=float(np.quantile(distance, 0.99)),
        coverage=Coverage(0.9, 0.91, np.nan, np.nan),
        n_training=n,
        extractor={"name": "views"},
        tile_spec={},
        window={},
        provenance={"geopov": "0"},
    )
    return model, X


@pytest.mark.parametrize("method", METHODS)
def test_intervals_are_centred_on_the_reported_mean(method: str) -> None:
    model, X = build(method=method)
    table = model.predict(X)
    mean = model.deshrinkage.apply(X @ model.coef + model.intercept)
    np.testing.assert_allclose(table["mean"], mean, rtol=1e-12)
    half_width = model.intervals.half_width(mean, model.support.distance(X))
    np.testing.assert_allclose(table["upper"] - table["mean"], half_width, rtol=1e-9)
    np.testing.assert_allclose(table["mean"] - table["lower"], half_width, rtol=1e-9)
    assert half_width.max() > 1.5 * half_width.min()


@pytest.mark.parametrize("method", METHODS)
def test_whole_through_a_file(method: str, tmp_path: Path) -> None:
    model, X = build(method=method)
    model.save(tmp_path / "model.npz")
    loaded = WelfareModel.load(tmp_path / "model.npz")
    assert (loaded.intervals, loaded.deshrinkage) == (model.intervals, model.deshrinkage)
    assert loaded.predict(X).equals(model.predict(X))
    loaded.save(tmp_path / "again.npz")
    assert sha256_of(tmp_path / "again.npz") == sha256_of(tmp_path / "model.npz")


@pytest.mark.parametrize("method", METHODS)
def test_rows_without_features_or_unlike_the_training(method: str) -> None:
    model, X = build(method=method)
    X[[0, 9], 1] = np.nan
    X[4] = 1e6
    table = model.predict(X)
    assert table[["mean", "lower", "upper"]].isna().all(axis=1).to_numpy().nonzero()[0].tolist() == [0, 9]
    assert not table["in_support"].iloc[[0, 4, 9]].any()
    assert table["in_support"].dtype == bool
    assert np.isfinite(table.loc[4, ["mean", "lower", "upper"]].to_numpy(dtype=float)).all()


def test_files_of_the_first_format_are_named(tmp_path: Path) -> None:
    model, _ = build()
    model.save(tmp_path / "model.npz")
    with np.load(tmp_path / "model.npz") as stored:
        arrays = dict(stored)
    text = json.loads(arrays.pop("metadata").tobytes())
    text = {name: value for name, value in text.items() if name not in {"intervals", "deshrinkage"}}
    metadata = json.dumps(text | {"format": 1, "half_width": 0.5}).encode()
    np.savez(tmp_path / "first.npz", metadata=np.frombuffer(metadata, dtype=np.uint8), **arrays)
    with pytest.raises(RegressionError, match=r"format 1; this version of geopov reads format 2.*Fit it again"):
        WelfareModel.load(tmp_path / "first.npz")


@pytest.fixture(scope="module")
def run(country, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, CrossValidation, WelfareModel]:
    folder = tmp_path_factory.mktemp("run") / "wealth"
    return folder, *_evaluate(country, folder)


def _evaluate(country, folder: Path, **changes) -> tuple[CrossValidation, WelfareModel]:
    features = country.features.assign_attrs(
        tile_spec='{"size_px": 16}', window='{"window_km": 10.0, "n_tiles": 25}', band_names='["red"]'
    )
    arguments = {
        "outcome": "asset_wealth",
        "splits": SpatialBlocks(block_km=40),
        "baseline": country.lights,
        "unit": "index",
        "inputs": {"features": "ab" * 32},
        "folder": folder,
    }
    return evaluate(WelfareRidge(), features, country.clusters, **(arguments | changes))


def test_predicts_as_the_estimator_does(country, run) -> None:
    _, _, model = run
    X, y = country.features.to_numpy(), country.clusters["asset_wealth"].to_numpy()
    ridge = WelfareRidge().fit(X, y, groups=SpatialBlocks(block_km=40).block_ids(country.clusters))
    table = model.predict(X)
    np.testing.assert_allclose(table["mean"], ridge.predict(X), atol=1e-10)
    half_width = model.intervals.half_width(table["mean"].to_numpy(), model.support.distance(X))
    np.testing.assert_allclose(table["upper"] - table["mean"], half_width, rtol=1e-9)
    assert table["in_support"].mean() > 0.9
    assert model.alpha == pytest.approx(ridge.alpha_)


def test_saved_and_loaded(country, run, tmp_path: Path) -> None:
    folder, _, model = run
    loaded = WelfareModel.load(folder / "model.npz")
    X = country.features.to_numpy()
    assert loaded.predict(X).equals(model.predict(X))
    assert loaded.extractor == {"name": "views"}
    assert loaded.tile_spec == {"size_px": 16}
    assert loaded.window == {"window_km": 10.0, "n_tiles": 25}
    assert (loaded.outcome, loaded.unit, loaded.n_training) == ("asset_wealth", "index", 240)
    assert loaded.coverage == model.coverage
    assert loaded.provenance["inputs"] == {"features": "ab" * 32}
    assert len(loaded.provenance["training_data"]) == 64
    loaded.save(tmp_path / "again.npz")
    assert sha256_of(tmp_path / "again.npz") == sha256_of(folder / "model.npz")


def test_a_repeat_gives_the_same_bytes(country, run, tmp_path: Path) -> None:
    folder, _, _ = run
    _evaluate(country, tmp_path / "wealth")
    names = ["model.npz", "predictions.parquet", "scores.json"]
    assert sorted(path.name for path in (tmp_path / "wealth").iterdir()) == names
    for name in names:
        assert sha256_of(tmp_path / "wealth" / name) == sha256_of(folder / name), name


def test_training_data_is_told_apart(country, run, tmp_path: Path) -> None:
    _, _, model = run
    changed = country.clusters.assign(asset_wealth=country.clusters["asset_wealth"] + 1e-9)
    other = dataclasses.replace(country, clusters=changed)
    _, again = _evaluate(other, tmp_path, random_folds=False)
    assert again.provenance["training_data"] != model.provenance["training_data"]


def test_written_folder_holds_what_was_found(run) -> None:
    folder, validation, model = run
    summary = json.loads((folder / "scores.json").read_text())
    assert summary["n"] == summary["n_survey"] == 240
    assert summary["verdict"] == validation.verdict
    half_widths = (validation.predictions["upper"] - validation.predictions["mean"]).to_numpy()
    assert summary["half_width_median"] == pytest.approx(np.median(half_widths))
    assert summary["half_width_range"] == pytest.approx(np.quantile(half_widths, [0.1, 0.9]).tolist())
    assert summary["deshrink"] == model.deshrinkage.method == "none"
    assert summary["splits"] == {
        "name": "SpatialBlocks",
        "block_km": 40,
        "n_folds": 5,
        "seed": 0,
        "buffer_km": 0.0,
        "tile_km": 0.0,
    }
    assert summary["random_folds"]["R2"] > 0.5
    assert len(summary["folds"]) == 5
    pooled = next(r for r in summary["scores"] if r["subset"] == "all" and r["predictor"] == "model")
    assert pooled["R2"] == pytest.approx(validation.scores.iloc[0]["R2"])
    table = gpd.read_parquet(folder / "predictions.parquet")
    assert table["cluster_id"].tolist() == validation.predictions["cluster_id"].tolist()


def test_progress_counts_folds_permutations_and_repeats(country, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    _evaluate(
        country,
        tmp_path,
        n_permutations=3,
        n_repeats=2,
        random_folds=False,
        progress=lambda done, total: seen.append((done, total)),
    )
    done = [number for number, _ in seen]
    assert done == sorted(done)
    assert {total for _, total in seen} == {done[-1]} == {5 + 3 + 2}


@pytest.mark.parametrize("method", ["linear", "tweedie"])
def test_a_map_can_be_de_shrunk(country, run, tmp_path: Path, method: str) -> None:
    _, _, plain = run
    validation, model = _evaluate(country, tmp_path, random_folds=False, deshrink=method)
    table = validation.predictions
    np.testing.assert_array_equal(table["mean"], table[f"mean_{method}"])
    assert model.deshrinkage.method == method
    X = country.features.to_numpy()
    predicted, before = model.predict(X), plain.predict(X)
    np.testing.assert_allclose(predicted["mean"], model.deshrinkage.apply(before["mean"]), rtol=1e-9)
    assert predicted["mean"].std() > 1.1 * before["mean"].std()
    # Learned from the errors of what is reported, which are larger.
    np.testing.assert_allclose((predicted["lower"] + predicted["upper"]) / 2, predicted["mean"], rtol=1e-9)
    assert (predicted["upper"] - predicted["lower"]).mean() > (before["upper"] - before["lower"]).mean()
    assert validation.coverage.measured == pytest.approx(0.9, abs=0.06)


def test_places_without_pixels_have_no_prediction(country, run) -> None:
    _, _, model = run
    X = country.features.to_numpy().astype(np.float32)
    X[[0, 9]] = np.nan
    X[4] = 1e6
    table = model.predict(X)
    assert table[["mean", "lower", "upper"]].isna().all(axis=1).to_numpy().nonzero()[0].tolist() == [0, 9]
    assert not table["in_support"].iloc[[0, 4, 9]].any()
    assert np.isfinite(table.loc[4, "mean"])


def test_many_cells_equal_few(country, run) -> None:
    _, _, model = run
    many = np.tile(country.features.to_numpy(), (40, 1))  # more than one chunk
    np.testing.assert_allclose(model.predict(many)["mean"][-240:], model.predict(many[-240:])["mean"])


def test_features_must_be_those_of_the_training(country, run) -> None:
    _, _, model = run
    labelled = model.predict(country.features)
    assert labelled.index.tolist() == country.clusters["cluster_id"].tolist()
    with pytest.raises(RegressionError, match=r"shape \(240, 39\).*expects \(n, 40\)"):
        model.predict(country.features.to_numpy()[:, 1:])
    with pytest.raises(RegressionError, match="feature 0 is named 'f1'; the model expects 'f0'"):
        model.predict(country.features[:, [1, 0, *range(2, 40)]])


def test_only_linear_models_are_saved(country, tmp_path: Path) -> None:
    with pytest.raises(RegressionError, match="WelfareNeighbours has no coefficients"):
        evaluate(
            WelfareNeighbours(),
            country.features,
            country.clusters,
            outcome="asset_wealth",
            splits=SpatialBlocks(block_km=40),
            folder=tmp_path,
        )
    assert not list(tmp_path.iterdir())


def test_bad_files_are_named(run, tmp_path: Path) -> None:
    folder, _, model = run
    with pytest.raises(RegressionError, match="no model at"):
        WelfareModel.load(tmp_path / "none.npz")
    damaged = tmp_path / "damaged.npz"
    damaged.write_bytes((folder / "model.npz").read_bytes()[:500])
    with pytest.raises(RegressionError, match="not a welfare model, or is damaged"):
        WelfareModel.load(damaged)
    other = tmp_path / "other.npz"
    np.savez(other, a=np.ones(3))
    with pytest.raises(RegressionError, match="not a welfare model"):
        WelfareModel.load(other)
    objects = tmp_path / "objects.npz"
    np.savez(objects, metadata=np.array([{"a": 1}], dtype=object))
    with pytest.raises(RegressionError, match="not a welfare model"):
        WelfareModel.load(objects)
    later = tmp_path / "later.npz"
    np.savez(later, metadata=np.frombuffer(b'{"format": 99}', dtype=np.uint8))
    with pytest.raises(RegressionError, match="format 99; this version"):
        WelfareModel.load(later)
    with pytest.raises(RegressionError, match=r"ends in \.npz"):
        model.save(tmp_path / "model.pkl")
