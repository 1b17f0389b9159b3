"""Vector files and tables of a catalogue, opened as data frames."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import pandas as pd
import pyarrow.parquet as pq

from geopov.catalog.verify import same_crs
from geopov.errors import CatalogError

__all__ = ["read_table"]

_VECTOR = {".gpkg", ".geojson", ".json", ".shp", ".zip"}


def read_table(path: Path, *, name: str, crs: str | None) -> pd.DataFrame:
    """Read a table by its suffix.

    Parameters
    ----------
    path : Path
        GeoParquet, Parquet, GeoPackage, GeoJSON, shapefile (also zipped) or CSV.
    name : str
        Of the source, for messages.
    crs : str, optional
        What the catalogue says: set where the file has none, an error where the file has another.

    Returns
    -------
    GeoDataFrame or DataFrame
        The first where the file has geometries.

    Raises
    ------
    CatalogError
        If the format is another, the file is damaged, or its CRS is not ``crs``.
    """
    suffix = path.suffix.lower()
    try:
        if suffix == ".csv":
            return pd.read_csv(path)
        if suffix == ".parquet":
            has_geometry = b"geo" in (pq.read_schema(path).metadata or {})
            table = gpd.read_parquet(path) if has_geometry else pd.read_parquet(path)
        elif suffix in _VECTOR:
            table = gpd.read_file(path)
        else:
            raise CatalogError(
                f"source {name!r}: {path.name} is no format the catalogue opens (Parquet, GeoPackage, GeoJSON, "
                "shapefile, CSV). Read it from .path; geopov.survey reads Stata and SPSS files."
            )
    except (ValueError, OSError, RuntimeError) as error:
        if isinstance(error, CatalogError):
            raise
        raise CatalogError(f"source {name!r}: {path} cannot be read as {suffix}: {error}") from error
    return _with_crs(table, path, name, crs) if isinstance(table, gpd.GeoDataFrame) else table


def _with_crs(table: gpd.GeoDataFrame, path: Path, name: str, crs: str | None) -> gpd.GeoDataFrame:
    if crs is None:
        return table
    if table.crs is None:
        return table.set_crs(crs)
    if not same_crs(table.crs, crs):
        raise CatalogError(f"source {name!r}: {path.name} is in {table.crs.name}, the catalogue says {crs}. Mend one.")
    return table
