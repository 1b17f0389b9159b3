"""Features that somebody else made: vectors of any origin, a row a cluster, from a table.

Embeddings of texts or of mobile-phone records, statistics of a road network, the features of another team's network:
what has numbers by ``cluster_id`` becomes features like any other, to be fitted alone or fused with others.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from geopov import __version__
from geopov._validation import ID_COLUMN, check_columns, check_unique, sha256_of, some
from geopov.errors import FeatureError

__all__ = ["features_from_table", "read_vectors"]

Floats = npt.NDArray[np.float64]


def read_vectors(path: str | Path, *, columns: Sequence[str] | None = None, id_column: str = ID_COLUMN) -> xr.DataArray:
    """Read features from a table on disk.

    Parameters
    ----------
    path : path
        CSV (``.csv``), or Parquet and GeoParquet (``.parquet``), whose columns may also hold a vector a row.
    columns, id_column
        As of :func:`features_from_table`.

    Returns
    -------
    DataArray (cluster, feature), float64
        As of :func:`features_from_table`, with the file's sha256 in ``provenance``.

    Raises
    ------
    FeatureError
        If the file is missing or no such table, and for what :func:`features_from_table` raises.
    """
    path = Path(path)
    if path.suffix not in (".csv", ".parquet"):
        raise FeatureError(f"vectors are to be read from {path.name}; expected a table in .csv or .parquet.")
    if not path.is_file():
        raise FeatureError(f"there is no table {path}; expected vectors with the column {id_column!r}.")
    try:
        # Ids such as 007 are names, not numbers.
        table = pd.read_csv(path, dtype={id_column: str}) if path.suffix == ".csv" else pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise FeatureError(f"{path} cannot be read ({error}); expected a table in .csv or .parquet.") from error
    features = features_from_table(table, columns=columns, id_column=id_column)
    provenance = {"table": path.name, "sha256": sha256_of(path)} | json.loads(features.attrs["provenance"])
    return features.assign_attrs(provenance=json.dumps(provenance))


def features_from_table(
    table: pd.DataFrame, *, columns: Sequence[str] | None = None, id_column: str = ID_COLUMN
) -> xr.DataArray:
    """Make features of the columns of a table.

    Parameters
    ----------
    table : DataFrame
        A row a cluster.
    columns : sequence of str, optional
        Columns to take: numbers, or vectors (lists or arrays of one length). Default: all but ids and geometries.
    id_column : str
        Column with the ids of the clusters.

    Returns
    -------
    DataArray (cluster, feature), float64
        Clusters in the order of the table, with the coordinate ``cluster_id``. A column of vectors gives a feature for
        each component, ``text_000``, ``text_001`` and so on. Rows without a finite number in every column are left out
        and told of in the attribute ``dropped``, a JSON list of ``{"cluster_id", "reason"}``; ``provenance`` names the
        columns. How to extract is not said, so that no map can be made of a model that needs them.

    Raises
    ------
    FeatureError
        If a column is missing or holds anything else, an id is missing or repeats, or no row is whole.
    """
    check_columns(table, [id_column, *(columns or [])], "the table of vectors", FeatureError)
    if table[id_column].isna().any():
        raise FeatureError(f"{int(table[id_column].isna().sum())} rows have no {id_column!r}; expected an id in each.")
    ids = table[id_column].astype(str)
    check_unique(ids, "the table of vectors", FeatureError)
    taken = [
        str(name) for name in (table.columns if columns is None else columns) if name not in (id_column, "geometry")
    ]
    if not taken:
        raise FeatureError(f"the table of vectors has no column beside {id_column!r}; expected features.")
    blocks = {name: _column(table[name], name) for name in taken}
    values = np.concatenate(list(blocks.values()), axis=1)
    names = [name for column, block in blocks.items() for name in _names(column, block.shape[1], table[column])]
    if len(set(names)) < len(names):
        raise FeatureError("two features of the table have the same name; rename a column.")
    whole = np.isfinite(values).all(axis=1)
    if not whole.any():
        raise FeatureError(f"none of {len(table)} rows of the table has a finite number in each of {some(taken)}.")
    dropped = [
        {"cluster_id": ids.iloc[row], "reason": f"no {next(n for n, b in blocks.items() if not _finite(b[row]))!r}"}
        for row in np.flatnonzero(~whole)
    ]
    return xr.DataArray(
        values[whole],
        dims=("cluster", "feature"),
        coords={
            ID_COLUMN: ("cluster", ids[whole].to_numpy(dtype=str)),
            "feature": np.asarray(names, dtype=str),
        },
        name="features",
        attrs={
            "provenance": json.dumps({"columns": taken, "geopov": __version__}),
            "dropped": json.dumps(dropped),
        },
    )


def _column(values: pd.Series, name: str) -> Floats:
    """Numbers (n, k) of a column of numbers (k = 1) or of vectors; rows of NaN where there is none."""
    if ":" in name:
        raise FeatureError(f"a column is named {name!r}; a colon sets off a block of features, so rename it.")
    if pd.api.types.is_numeric_dtype(values):
        return values.to_numpy(dtype=np.float64, na_value=np.nan)[:, None]
    known = values.notna()
    vectors = [np.asarray(vector) for vector in values[known]]
    shapes = sorted({vector.shape for vector in vectors})
    if not vectors or any(vector.dtype.kind not in "biuf" or vector.ndim != 1 for vector in vectors):
        raise FeatureError(
            f"the column {name!r} holds no numbers but such as {values.iloc[0]!r}; expected numbers or "
            "vectors. Name the columns to take: columns=[...], on the command line --column."
        )
    if len(shapes) > 1:
        lengths = some(shape[0] for shape in shapes)
        raise FeatureError(f"the vectors of the column {name!r} have {lengths} components; expected one length.")
    filled = np.full((len(values), shapes[0][0]), np.nan)
    filled[known.to_numpy()] = np.stack(vectors)
    return filled


def _names(column: str, size: int, values: pd.Series) -> list[str]:
    if pd.api.types.is_numeric_dtype(values):
        return [column]
    digits = max(3, len(str(size - 1)))
    return [f"{column}_{number:0{digits}d}" for number in range(size)]


def _finite(values: Floats) -> bool:
    return bool(np.isfinite(values).all())
