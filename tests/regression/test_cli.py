"""``geopov regression fit`` and ``geopov report``, from files to files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from geopov._validation import sha256_of
from geopov.cli import regression, report
from geopov.errors import RegressionError
from geopov.features import write_features
from geopov.regression import WelfareModel

RUNNER = CliRunner()
REPORT = typer.Typer()
REPORT.command()(report.report)


@pytest.fixture(scope="module")
def inputs(country, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    write_features(country.features, folder / "features.nc")
    write_features(country.lights, folder / "lights.nc")
    columns = {"part": [i % 4 for i in range(240)], "year": [2014, 2018] * 120}
    columns["country"] = [("ken", "rwa", "tza", "uga")[i // 60] for i in range(240)]
    country.clusters.assign(**columns).to_parquet(folder / "clusters.parquet")
    return folder


def _fit(inputs: Path, *options: str):
    files = ["--features", inputs / "features.nc", "--clusters", inputs / "clusters.parquet"]
    return RUNNER.invoke(regression.app, ["fit", *map(str, files), "--outcome", "asset_wealth", *options])


def test_fit_then_report(inputs: Path, tmp_path: Path) -> None:
    out = tmp_path / "wealth"
    lights = str(inputs / "lights.nc")
    options = ["--baseline", lights, "--block-km", "40", "--unit", "index", "--label", "Asset wealth", "-o", str(out)]
    done = _fit(inputs, *options)
    assert done.exit_code == 0, done.output
    assert "The model beats " in done.output.replace("\n", " ")
    model = WelfareModel.load(out / "model.npz")
    assert model.provenance["inputs"]["features"] == sha256_of(inputs / "features.nc")
    assert set(model.provenance["inputs"]) == {"features", "clusters", "baseline"}

    page = tmp_path / "report.html"
    done = RUNNER.invoke(REPORT, [str(out), "--title", "Wealth of the land", "-o", str(page)])
    assert done.exit_code == 0, done.output
    assert "<h1>Wealth of the land</h1>" in page.read_text()


def test_folds_from_a_column(inputs: Path, tmp_path: Path) -> None:
    done = _fit(inputs, "--fold-column", "part", "--coverage", "0.8", "--no-random-folds", "-o", str(tmp_path))
    assert done.exit_code == 0, done.output
    summary = json.loads((tmp_path / "scores.json").read_text())
    assert summary["splits"]["column"] == "part"
    assert summary["coverage"]["nominal"] == 0.8
    assert summary["random_folds"] is None


def test_everything_that_can_be_asked_for(inputs: Path, tmp_path: Path) -> None:
    options = ["--random-convolution", inputs / "lights.nc", "--deshrink", "linear", "--components", 5]
    options += ["--permutations", 8, "--repeats", 2, "--imagery-year", 2016, "--imagery-year", 2019]
    options += ["--nightlights-year", 2015]
    done = _fit(inputs, "--block-km", "40", *map(str, options), "-o", str(tmp_path))
    assert done.exit_code == 0, done.output
    summary = json.loads((tmp_path / "scores.json").read_text())
    assert "random_convolution" in summary["baselines"]
    assert summary["deshrink"] == "linear"
    assert summary["model"]["n_components"] == 5
    assert len(summary["permutation"]["null_r2"]) == 8
    assert summary["permutation"]["p_value"] == pytest.approx(1 / 9)
    assert len(summary["repeats"]["R2"]) == 2
    # The correlation of the division that was scored would show among the others.
    assert not np.isclose(summary["repeats"]["r2_pearson"], summary["permutation"]["observed_r2"], atol=1e-9).any()
    assert summary["years"] == {
        "survey": [2014, 2018],
        "imagery": [2016, 2019],
        "nightlights": [2015],
        "gap": 2,
        "nightlights_gap": 3,
    }
    assert "random-convolution" in WelfareModel.load(tmp_path / "model.npz").provenance["inputs"]


def test_a_country_at_a_time(inputs: Path, tmp_path: Path) -> None:
    done = _fit(inputs, "--leave-out", "country", "-o", str(tmp_path))
    assert done.exit_code == 0, done.output
    summary = json.loads((tmp_path / "scores.json").read_text())
    assert [row["name"] for row in summary["folds"]] == ["ken", "rwa", "tza", "uga"]
    done = _fit(inputs, "--leave-out", "village", "-o", str(tmp_path))
    assert "expected country or survey" in str(done.exception)
    done = _fit(inputs, "--leave-out", "country", "--fold-column", "part", "-o", str(tmp_path))
    assert "expected one of them" in str(done.exception)
    done = _fit(inputs, "--leave-out", "country", "--repeats", "3", "-o", str(tmp_path))
    assert "n_repeats" in str(done.exception)


def test_mistakes_are_named(inputs: Path, tmp_path: Path) -> None:
    done = _fit(inputs, "--baseline", str(tmp_path / "none.nc"), "-o", str(tmp_path))
    assert isinstance(done.exception, RegressionError)
    assert "--baseline is" in str(done.exception)
    done = RUNNER.invoke(REPORT, [str(tmp_path), "--map", "a.png", "--caption", "a", "--caption", "b", "-o", "r.html"])
    assert isinstance(done.exception, RegressionError)
    assert "1 --map and 2 --caption" in str(done.exception)


@pytest.mark.parametrize("app", [regression.app, REPORT])
def test_help_has_an_example(app: typer.Typer) -> None:
    arguments = ["fit", "--help"] if app is regression.app else ["--help"]
    assert "Example: geopov" in RUNNER.invoke(app, arguments).output
