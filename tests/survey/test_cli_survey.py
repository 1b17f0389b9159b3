from __future__ import annotations

import json

import pandas as pd
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from geopov.cli.survey import app
from geopov.errors import SurveyError
from geopov.survey import read_clusters


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_points_then_describe(survey_table, tmp_path):
    table, out = tmp_path / "survey.csv", tmp_path / "clusters.parquet"
    survey_table.to_csv(table, index=False)
    arguments = ["points", table, "--id", "DHSCLUST", "--lon", "LONGNUM", "--lat", "LATNUM", "--outcome", "wealth"]
    arguments += ["--rename", "URBAN_RURA=urban", "--where", "DHSYEAR=2014", "-o", out]
    printed = run(*arguments)
    assert "3 clusters" in printed
    assert "no value of wealth" in printed
    described = run("describe", out)
    assert "urban: False (1), True (2)" in described
    assert "no value of wealth" in described
    clusters = read_clusters(out)
    assert clusters["cluster_id"].tolist() == ["1", "2", "4"]
    assert str(tmp_path) not in json.dumps(clusters.attrs)
    first = out.read_bytes()
    run(*arguments)
    assert out.read_bytes() == first
    assert clusters.attrs["provenance"]["parameters"]["where"] == {"DHSYEAR": ["2014"]}


def test_households(tmp_path):
    table, out = tmp_path / "hh.csv", tmp_path / "clusters.parquet"
    table.write_text("hh,ea,w,n,pc,lon,lat\nh1,1,1,2,365,34,-11\nh2,1,1,2,1095,34,-11\nh3,2,1,2,9,0,0\n")
    arguments = ["households", table, "--on", "hh", "--cluster", "ea", "--weight", "w", "--size", "n"]
    arguments += ["--outcome", "pc", "--lon", "lon", "--lat", "lat", "--to-ppp-usd-per-day", 1 / 365, "-o", out]
    assert "none of its households" in " ".join(run(*arguments).split())
    assert read_clusters(out)["consumption"].tolist() == [pytest.approx(2.0)]


def test_areas(country, tmp_path):
    recipe, inputs = country
    out = tmp_path / "out" / "clusters.parquet"
    options = [option for name, path in inputs.items() for option in ("--input", f"{name}={path}")]
    printed = run("areas", recipe, *options, "-o", out)
    assert "7 clusters" in printed
    assert "Zones matched by: same name (3), last one left in its group (1)" in printed
    assert pd.read_csv(out.with_suffix(".dropped.csv"))["source"].tolist() == ["polygons", "counts", "clusters"]
    assert b"geo" in pq.read_schema(out).metadata


def test_an_option_that_is_no_pair(country, tmp_path):
    recipe, _ = country
    with pytest.raises(SurveyError, match="expected NAME=VALUE"):
        run("areas", recipe, "--input", "wards", "-o", tmp_path / "x.parquet")


@pytest.mark.parametrize("command", ["points", "areas", "households", "describe"])
def test_help_has_an_example(command):
    assert f"Example: geopov survey {command}" in " ".join(run(command, "--help").split())
