"""Vectors of any origin become features: numbers, embeddings, who is left out and why."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from geopov._validation import sha256_of
from geopov.cli.features.table import table as command
from geopov.errors import FeatureError
from geopov.features import read_features, write_features
from geopov.features.table import features_from_table, read_vectors


@pytest.fixture
def vectors() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "cluster_id": ["a", "b", "c", "d"],
            "roads_km": [1.0, 2.5, np.nan, 4.0],
            "market": [True, False, True, True],
            "text": [[0.5, 1.0], [1.5, 2.0], [2.5, 3.0], None],
        }
    )


def test_columns_and_components_become_features(vectors: pd.DataFrame) -> None:
    found = features_from_table(vectors)
    assert found.dims == ("cluster", "feature")
    assert found["cluster_id"].to_numpy().tolist() == ["a", "b"]
    assert found["feature"].to_numpy().tolist() == ["roads_km", "market", "text_000", "text_001"]
    assert found.to_numpy().tolist() == [[1.0, 1.0, 0.5, 1.0], [2.5, 0.0, 1.5, 2.0]]
    assert json.loads(found.attrs["dropped"]) == [
        {"cluster_id": "c", "reason": "no 'roads_km'"},
        {"cluster_id": "d", "reason": "no 'text'"},
    ]


def test_columns_can_be_chosen(vectors: pd.DataFrame) -> None:
    named = vectors.assign(name="x").rename(columns={"cluster_id": "village"})
    found = features_from_table(named, columns=["market", "roads_km"], id_column="village")
    assert found["feature"].to_numpy().tolist() == ["market", "roads_km"]
    assert found["cluster_id"].to_numpy().tolist() == ["a", "b", "d"]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_from_file_to_file(vectors: pd.DataFrame, tmp_path: Path, suffix: str) -> None:
    path, numbers = tmp_path / f"vectors{suffix}", vectors[["cluster_id", "roads_km", "market"]]
    numbers = numbers.assign(cluster_id=["007", "008", "009", "010"])
    numbers.to_csv(path, index=False) if suffix == ".csv" else numbers.to_parquet(path)
    found = read_vectors(path)
    assert found["cluster_id"].to_numpy().tolist() == ["007", "008", "010"]
    provenance = json.loads(found.attrs["provenance"])
    assert provenance["sha256"] == sha256_of(path)
    assert provenance["columns"] == ["roads_km", "market"]
    assert read_features(write_features(found, tmp_path / "features.nc")).identical(found)


def test_vectors_survive_parquet(vectors: pd.DataFrame, tmp_path: Path) -> None:
    vectors.to_parquet(tmp_path / "vectors.parquet")
    found = read_vectors(tmp_path / "vectors.parquet", columns=["text"])
    assert found.to_numpy().tolist() == [[0.5, 1.0], [1.5, 2.0], [2.5, 3.0]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cluster_id": ["a", "a", "b", "c"]}, "1 identifiers stand more than once"),
        ({"cluster_id": ["a", None, "b", "c"]}, "1 rows have no 'cluster_id'"),
        ({"roads_km": ["1", "2", "3", "x"]}, "the column 'roads_km' holds no numbers but such as '1'"),
        ({"roads_km": [np.nan] * 4}, "none of 4 rows"),
        ({"text": [[1.0], [1.0, 2.0], [1.0], [2.0]]}, "have 1, 2 components"),
        ({"text": [[["a"]], [1.0], [1.0], [2.0]]}, "'text' holds no numbers"),
        ({"text": [None] * 4}, "'text' holds no numbers"),
        ({"a:b": [1.0] * 4}, "a colon sets off a block"),
        ({"text_000": [1.0] * 4}, "the same name"),
    ],
)
def test_mistakes_are_named(vectors: pd.DataFrame, changes: dict[str, list[object]], message: str) -> None:
    with pytest.raises(FeatureError, match=message):
        features_from_table(vectors.assign(**{name: pd.Series(values) for name, values in changes.items()}))


def test_wrong_tables_are_named(vectors: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(FeatureError, match="no column 'village'"):
        features_from_table(vectors, id_column="village")
    with pytest.raises(FeatureError, match="no column beside 'cluster_id'"):
        features_from_table(vectors[["cluster_id"]])
    with pytest.raises(FeatureError, match=r"expected a table in \.csv or \.parquet"):
        read_vectors(tmp_path / "vectors.xlsx")
    with pytest.raises(FeatureError, match="there is no table"):
        read_vectors(tmp_path / "vectors.csv")
    for name in ("vectors.csv", "vectors.parquet"):
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(FeatureError, match="cannot be read"):
            read_vectors(tmp_path / name)


def test_command(vectors: pd.DataFrame, tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(command)
    vectors.to_parquet(tmp_path / "vectors.parquet")
    out = tmp_path / "text.nc"
    arguments = [str(tmp_path / "vectors.parquet"), "--column", "text", "--column", "roads_km", "-o", str(out)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "2 clusters x 3 features" in done.output.replace("\n", " ")
    assert "dropped 2: without a number in every column (c, d)" in done.output.replace("\n", " ")
    assert read_features(out)["feature"].to_numpy().tolist() == ["text_000", "text_001", "roads_km"]
    assert "Example:" in CliRunner().invoke(app, ["--help"]).output
