"""A fitted welfare model as one file: what a map needs to predict, and what a reader needs to trust it."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import xarray as xr

from geopov._validation import ID_COLUMN, atomic_path
from geopov.errors import RegressionError
from geopov.regression._inputs import Floats
from geopov.regression.intervals import Coverage, Intervals
from geopov.regression.sample import feature_names
from geopov.regression.shrinkage import Deshrinkage
from geopov.regression.support import Support

_FORMAT = 2  # 1 had one half width for all places
_NOT_TEXT = ("coef", "low", "high", "support", "coverage", "intervals", "deshrinkage")
_CHUNK_ROWS = 8192  # 1,300 features of so many cells are 85 MB in double precision


@dataclass(frozen=True)
class WelfareModel:
    """Ridge coefficients with intervals, a support and their origin.

    A prediction is the linear model's, de-shrunk. Intervals are centred on it: they were learned from the errors of
    held-out predictions that were de-shrunk in the same way, so that they are as wide as what is reported is wrong.

    Attributes
    ----------
    outcome, unit : str
        What is predicted, and in what.
    feature_names : tuple of str (p,)
        Columns that ``predict`` expects, in order.
    coef : array (p,)
        Outcome per unit of each feature as extracted.
    intercept : float
        In the outcome's unit.
    low, high : array (p,)
        Range of each feature in the training; a feature beyond it is taken at its end.
    alpha : float
        Ridge penalty, on standardised features.
    deshrinkage : Deshrinkage
        Correction of what the linear model predicts; ``method`` is ``"none"`` where there is none.
    intervals : Intervals
        Half widths from the prediction and the distance from the support.
    support : Support
        Region of feature space the training clusters occupy.
    support_limit : float
        Distance beyond which a place is out of support.
    coverage : Coverage
        Of the interval: nominal level, and what held-out blocks measured.
    n_training : int
        Clusters the model was fitted on.
    extractor, tile_spec, window : dict
        How the features were made: ``geopov.features.build(extractor)``, ``TileSpec.from_dict(tile_spec)``, and
        ``window_km`` and ``n_tiles`` of several tiles a cluster. Empty where the features did not say.
    provenance : dict
        Versions and sha256 of the inputs.
    """

    outcome: str
    unit: str
    feature_names: tuple[str, ...]
    coef: Floats
    intercept: float
    low: Floats
    high: Floats
    alpha: float
    deshrinkage: Deshrinkage
    intervals: Intervals
    support: Support
    support_limit: float
    coverage: Coverage
    n_training: int
    extractor: dict[str, Any]
    tile_spec: dict[str, Any]
    window: dict[str, Any]
    provenance: dict[str, Any]

    def predict(self, X: np.ndarray | xr.DataArray) -> pd.DataFrame:
        """Predict places from their features.

        Parameters
        ----------
        X : array (n, p) or DataArray (cluster, feature)
            Features. A DataArray must name the same features in the same order. Rows with NaN are places without valid
            pixels.

        Returns
        -------
        DataFrame
            ``mean``, ``lower``, ``upper`` in the outcome's unit, NaN for a row with NaN, and ``in_support`` bool, False
            for it. The index is ``cluster_id`` where ``X`` has one.

        Raises
        ------
        RegressionError
            If the features are not those of the training.
        """
        values = self._check_features(X)
        mean, distance = np.full(len(values), np.nan), np.full(len(values), np.nan)
        for start in range(0, len(values), _CHUNK_ROWS):
            rows = np.asarray(values[start : start + _CHUNK_ROWS], dtype=np.float64)
            valid = np.isfinite(rows).all(axis=1)
            at = start + np.flatnonzero(valid)
            mean[at] = np.clip(rows[valid], self.low, self.high) @ self.coef + self.intercept
            distance[at] = self.support.distance(rows[valid])
        mean = self.deshrinkage.apply(mean)
        half_width = self.intervals.half_width(mean, distance)
        columns = {
            "mean": mean,
            "lower": mean - half_width,
            "upper": mean + half_width,
            "in_support": distance <= self.support_limit,
        }
        index = None
        if isinstance(X, xr.DataArray) and ID_COLUMN in X.coords:
            index = pd.Index(X[ID_COLUMN].to_numpy(), name=ID_COLUMN)
        return pd.DataFrame(columns, index=index)

    def _check_features(self, X: np.ndarray | xr.DataArray) -> np.ndarray:
        if X.ndim != 2 or X.shape[1] != len(self.feature_names):
            raise RegressionError(
                f"features of shape {X.shape} are given; the model expects (n, {len(self.feature_names)}). "
                "Use the extractor the model was trained with: geopov.features.build(model.extractor)."
            )
        if not isinstance(X, xr.DataArray):
            return X
        given = feature_names(X)
        if given != self.feature_names:
            wrong = next(
                i for i, (ours, theirs) in enumerate(zip(self.feature_names, given, strict=True)) if ours != theirs
            )
            raise RegressionError(
                f"feature {wrong} is named {given[wrong]!r}; the model expects {self.feature_names[wrong]!r} there. "
                "Use the extractor the model was trained with, and keep the order of its features."
            )
        return X.to_numpy()

    def save(self, path: Path | str) -> None:
        """Write the model as an .npz of plain arrays and JSON; the same model gives the same bytes."""
        path = Path(path)
        if path.suffix != ".npz":
            raise RegressionError(f"the model would be written to {path.name}; expected a name that ends in .npz.")
        text = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in _NOT_TEXT}
        text |= {"format": _FORMAT, "coverage": vars(self.coverage), "support_floor": self.support.floor}
        text |= {"intervals": self.intervals.to_dict(), "deshrinkage": self.deshrinkage.to_dict()}
        metadata = json.dumps(text, sort_keys=True, allow_nan=True).encode()
        with atomic_path(path) as partial, partial.open("wb") as stream:
            np.savez_compressed(
                stream,
                metadata=np.frombuffer(metadata, dtype=np.uint8),
                coef=self.coef,
                low=self.low,
                high=self.high,
                support_mean=self.support.mean,
                support_scale=self.support.scale,
                support_directions=self.support.directions,
                support_gain=self.support.gain,
            )

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read a model that :meth:`save` wrote. Nothing in the file is executed.

        Raises
        ------
        RegressionError
            If the file is missing, damaged, no model, or of another format.
        """
        try:
            # Opened here, since np.load leaves a damaged archive open.
            with Path(path).open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
            text = json.loads(arrays.pop("metadata").tobytes())
        except FileNotFoundError:
            raise RegressionError(f"there is no model at {path}. `geopov regression fit` writes model.npz.") from None
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise RegressionError(f"{path} is not a welfare model, or is damaged ({error}). Fit it again.") from error
        written = text.pop("format", None) if isinstance(text, dict) else None
        if written != _FORMAT:
            raise RegressionError(
                f"{path} is a model of format {written}; this version of geopov reads format {_FORMAT}. "
                "Fit it again: `geopov regression fit`."
            )
        support = Support(
            mean=arrays["support_mean"],
            scale=arrays["support_scale"],
            directions=arrays["support_directions"],
            gain=arrays["support_gain"],
            floor=text.pop("support_floor"),
        )
        text |= {
            "feature_names": tuple(text["feature_names"]),
            "coverage": Coverage(**text["coverage"]),
            "intervals": Intervals.from_dict(text["intervals"]),
            "deshrinkage": Deshrinkage.from_dict(text["deshrinkage"]),
        }
        return cls(**text, coef=arrays["coef"], low=arrays["low"], high=arrays["high"], support=support)
