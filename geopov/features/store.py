"""Features on disk: one NetCDF file, with their provenance in its attributes."""

from __future__ import annotations

from pathlib import Path

import xarray as xr

from geopov._validation import ID_COLUMN, atomic_path
from geopov.errors import FeatureError

__all__ = ["read_features", "write_features"]


def write_features(features: xr.DataArray, path: str | Path) -> Path:
    """Write features to NetCDF; equal features give equal bytes.

    Parameters
    ----------
    features : DataArray (cluster, feature)
        From :func:`geopov.features.extract`.
    path : path
        Of the file, by custom ending in ``.nc``.

    Returns
    -------
    Path
        The file, whole: it is written under another name and renamed.

    Raises
    ------
    FeatureError
        If the array has other dimensions, or no ``cluster_id``.
    """
    _check(features, "the array")
    path = Path(path)
    with atomic_path(path) as partial:
        features.to_dataset(name="features").to_netcdf(partial, engine="h5netcdf")
    return path


def read_features(path: str | Path) -> xr.DataArray:
    """Read features written by :func:`write_features`, into memory.

    Raises
    ------
    FeatureError
        If there is no such file, or it holds no features.
    """
    path = Path(path)
    if not path.is_file():
        raise FeatureError(f"there is no features file {path}; `geopov features extract` makes one.")
    try:
        with xr.open_dataset(path, engine="h5netcdf") as dataset:
            dataset.load()
    except (OSError, ValueError, KeyError) as error:
        raise FeatureError(f"{path} cannot be read as NetCDF ({error}); make it again.") from error
    if "features" not in dataset:
        raise FeatureError(f"{path} has no variable 'features'; expected a file of `geopov features extract`.")
    features = dataset["features"]
    _check(features, str(path))
    return features


def _check(features: xr.DataArray, what: str) -> None:
    if features.dims != ("cluster", "feature") or ID_COLUMN not in features.coords:
        raise FeatureError(
            f"{what} has dimensions {features.dims} and coordinates {list(features.coords)}; "
            "expected ('cluster', 'feature') and cluster_id."
        )
