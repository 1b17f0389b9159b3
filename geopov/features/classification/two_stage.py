"""A cheap first pass over all tiles, and a second classifier on those that it cannot rule out.

Where the classes of interest are rare, most of the work of a network is spent on empty land. The first pass rules tiles
out at a threshold set for a wanted sensitivity, and its cost is what it misses; both are measured on tiles not used to
set it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import geopandas as gpd
import numpy as np
import numpy.typing as npt

from geopov import __version__
from geopov._validation import check_positive, some
from geopov.errors import FeatureError
from geopov.features.classification.calibration import CalibrationMethod, calibration_scores
from geopov.features.classification.classifier import (
    TileClassifier,
    calibrated,
    fit_classifier,
    read_json,
    train_classifier,
    write_json,
)
from geopov.features.classification.labels import Labelled, prepare_labels
from geopov.features.comparison.intervals import clopper_pearson
from geopov.features.extract import ProgressCallback, Tiles, extract_array
from geopov.features.subset import Subset

__all__ = ["Threshold", "TwoStage", "choose_threshold", "train_two_stage"]

TWO_STAGE = "two_stage.json"
CANDIDATE = "candidate"
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Threshold:
    """Where the first pass lets tiles through.

    Attributes
    ----------
    value : float
        Least probability of a tile that is let through.
    wanted : float
        Sensitivity asked for.
    sensitivity, low, high : float
        Share of the wanted tiles let through where it was set, with its exact binomial 95% interval: those tiles are as
        many as the labels have, and another region's may fare otherwise.
    kept : float
        Share of all tiles let through there.
    """

    value: float
    wanted: float
    sensitivity: float
    low: float
    high: float
    kept: float


def choose_threshold(
    probability: npt.NDArray[Any], wanted: npt.NDArray[Any], *, sensitivity: float = 0.95
) -> Threshold:
    """The highest threshold at which at least a share ``sensitivity`` of the wanted tiles is let through.

    Parameters
    ----------
    probability : array (tile,)
        Of being wanted; compared as float32, as it is in use.
    wanted : bool array (tile,)
        Which tiles are.
    sensitivity : float
        Above 0, at most 1.

    Raises
    ------
    FeatureError
        If no tile is wanted, a probability is missing, or the sensitivity is out of range.
    """
    check_positive(sensitivity, "sensitivity", FeatureError)
    values, truth = np.asarray(probability, dtype=np.float32), np.asarray(wanted, dtype=bool)
    if sensitivity > 1:
        raise FeatureError(f"sensitivity is {sensitivity:g}; expected a share above 0, at most 1.")
    if values.shape != truth.shape or values.ndim != 1 or not truth.any() or np.isnan(values).any():
        raise FeatureError(
            f"{int(truth.sum())} of {len(truth)} tiles are wanted, with probabilities of shape {values.shape}; "
            "expected one known probability a tile, and at least one wanted tile."
        )
    ranked = np.sort(values[truth])[::-1]
    # 0.95 x 20 is a hair above 19 in floating point, and must not ask for the twentieth.
    needed = max(int(np.ceil(sensitivity * len(ranked) - 1e-9)), 1)
    least = ranked[needed - 1]
    reached = clopper_pearson(int((ranked >= least).sum()), len(ranked))
    return Threshold(float(least), sensitivity, *reached, kept=float((values >= least).mean()))


@dataclass(eq=False)
class TwoStage:
    """Two classifiers, of which the second sees only the tiles that the first lets through.

    Attributes
    ----------
    classes : tuple of str
        Of the second.
    positive : tuple of str
        Classes the first pass looks for.
    threshold : Threshold
        Of the first pass.
    first, second : TileClassifier
        Which must take the same tiles, their bands chosen by name.
    shares : float array (class,)
        Of the training tiles that the first pass rules out, one more of each class added; a tile ruled out has its
        probability of holding a wanted class, and the rest, spread by these shares over the classes on each side.
    card, checks : dict
        JSON types: how it was trained; what both stages together reach on the test tiles.
    """

    classes: tuple[str, ...]
    positive: tuple[str, ...]
    threshold: Threshold
    first: TileClassifier
    second: TileClassifier
    shares: Floats
    card: dict[str, Any] = field(default_factory=dict)
    checks: dict[str, Any] = field(default_factory=dict)
    name: str = field(default="two_stage_classifier", init=False)
    context_px: int = field(init=False)

    def __post_init__(self) -> None:
        if self.first.context_px != self.second.context_px:
            raise FeatureError(
                f"the first pass takes context_px={self.first.context_px} and the second classifier "
                f"{self.second.context_px}; both see the same tiles, so give both the same."
            )
        self.context_px = self.first.context_px

    @property
    def feature_names(self) -> list[str]:
        """``p_CLASS``, one a class of the second, and ``first_pass``, the probability the first gave."""
        return [f"p_{name}" for name in self.classes] + ["first_pass"]

    def for_bands(self, band_names: Sequence[str]) -> Self:
        """The same classifiers for tiles whose bands have these names."""
        return replace(self, first=self.first.for_bands(band_names), second=self.second.for_bands(band_names))

    def passes(self, first_pass: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """Which tiles (n,) go to the second classifier, by the probability that the first gave."""
        kept: npt.NDArray[np.bool_] = first_pass.astype(np.float32) >= np.float32(self.threshold.value)
        return kept

    def __call__(self, data: npt.NDArray[Any], valid: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Probabilities (tile, class + 1), the first pass's last; NaN where too few pixels are valid for a stage."""
        candidate = self.first(data, valid)[:, 1]
        kept = self.passes(candidate)
        rows = np.full((len(data), len(self.classes) + 1), np.nan, dtype=np.float32)
        rows[:, -1] = candidate
        rows[:, :-1] = self._ruled_out(candidate)
        if kept.any():
            rows[kept, :-1] = self.second(data[kept], valid[kept])
        return rows

    def _ruled_out(self, candidate: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        wanted = np.array([name in self.positive for name in self.classes])
        within = np.where(wanted, self.shares / self.shares[wanted].sum(), self.shares / self.shares[~wanted].sum())
        spread: npt.NDArray[np.float32] = np.where(wanted, candidate[:, None], 1 - candidate[:, None]) * within
        return spread

    def spec(self) -> dict[str, Any]:
        """What tells it from others."""
        return {
            "name": self.name,
            "positive": list(self.positive),
            "threshold": self.threshold.value,
            "first": self.first.spec(),
            "second": self.second.spec(),
        }

    def provenance(self) -> dict[str, Any]:
        """How the numbers came about."""
        return {"first": self.first.provenance(), "second": self.second.provenance(), "geopov": __version__}

    def write(self, folder: str | Path) -> Path:
        """Write ``two_stage.json`` beside the folders ``first`` and ``second``."""
        folder = Path(folder)
        self.first.write(folder / "first")
        self.second.write(folder / "second")
        content = {
            "positive": list(self.positive),
            "threshold": asdict(self.threshold),
            "shares": self.shares.tolist(),
            "card": self.card,
            "checks": self.checks,
        }
        write_json(folder / TWO_STAGE, content)
        return folder

    @classmethod
    def open(cls, folder: str | Path) -> TwoStage:
        """What :meth:`write` wrote; raises FeatureError if the folder holds something else."""
        folder = Path(folder)
        content = read_json(folder / TWO_STAGE)
        first, second = TileClassifier.open(folder / "first"), TileClassifier.open(folder / "second")
        try:
            return cls(
                second.classes,
                tuple(content["positive"]),
                Threshold(**content["threshold"]),
                first,
                second,
                np.asarray(content["shares"], dtype=float),
                dict(content["card"]),
                dict(content["checks"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise FeatureError(f"{folder / TWO_STAGE} is damaged ({error!r}); train it again.") from error


def train_two_stage(
    tiles: Tiles,
    labels: gpd.GeoDataFrame,
    *,
    label: str,
    positive: str | Sequence[str],
    folder: str | Path,
    first: Any = "band_statistics",
    sensitivity: float = 0.95,
    extractor: Any = None,
    calibration: CalibrationMethod = "temperature",
    block_km: float | None = None,
    shares: tuple[float, float, float] = (0.7, 0.15, 0.15),
    seed: int = 0,
    progress: ProgressCallback | None = None,
    **training: Any,
) -> TwoStage:
    """Train a first pass that says whether a tile holds a wanted class, and a classifier for the tiles that may.

    Parameters
    ----------
    tiles, labels, label, extractor, calibration, block_km, shares, seed, progress, **training
        As for :func:`~geopov.features.classification.classifier.train_classifier`; the last two but ``seed`` are of
        the second classifier.
    positive : str or sequence of str
        The wanted classes: one or more, but not all.
    folder : path
        To be written, with the folders ``first`` and ``second`` in it.
    first : specification, or mapping with the key ``backbone``
        The first pass: an extractor, on whose features a logistic regression is fitted; or options for training a small
        network.
    sensitivity : float
        Share of the wanted validation tiles that the first pass must let through.

    Returns
    -------
    TwoStage
        The second is fitted on all training tiles, since whether a tile passes is told by its pixels alone and so
        changes no probability given the pixels. It is calibrated on, and checked on, the tiles that pass.
    """
    folder = Path(folder)
    labelled = prepare_labels(tiles, labels, label=label, block_km=block_km, shares=shares, seed=seed)
    wanted = _wanted(labelled, positive)
    is_wanted = np.isin(np.asarray(labelled.classes), wanted)
    table = labelled.table.assign(**{CANDIDATE: is_wanted[labelled.table["class_code"].to_numpy()]})
    options: dict[str, Any] = dict(first) if isinstance(first, dict) and "backbone" in first else {"extractor": first}
    pass_ = train_classifier(
        tiles, table, label=CANDIDATE, folder=folder / "first", seed=seed, progress=progress, **options
    )
    candidate = extract_array(pass_, Subset(tiles, labelled.positions))[:, 1]
    validation = labelled.of("validation") & ~np.isnan(candidate)
    threshold = choose_threshold(candidate[validation], is_wanted[labelled.codes[validation]], sensitivity=sensitivity)
    fitted = fit_classifier(
        tiles, labelled, folder=folder / "second", extractor=extractor, seed=seed, progress=progress, training=training
    )
    kept = candidate >= np.float32(threshold.value)
    second = calibrated(fitted, tiles, labelled, method=calibration, among=kept)
    ruled_out = 1 + np.bincount(labelled.codes[labelled.of("train") & ~kept], minlength=len(labelled.classes))
    both = TwoStage(labelled.classes, wanted, threshold, pass_, second, ruled_out / ruled_out.sum(), labelled.report)
    both.checks = _checks(both, tiles, labelled, is_wanted)
    both.write(folder)
    return both


def _wanted(labelled: Labelled, positive: str | Sequence[str]) -> tuple[str, ...]:
    wanted = (positive,) if isinstance(positive, str) else tuple(positive)
    unknown = sorted(set(wanted) - set(labelled.classes))
    if unknown or not wanted or len(set(wanted)) == len(labelled.classes):
        raise FeatureError(
            f"positive is {list(wanted)}; expected one or more of the classes {some(labelled.classes, 20)}, "
            "but not all."
        )
    return wanted


def _checks(both: TwoStage, tiles: Tiles, labelled: Labelled, is_wanted: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """What the first pass lets through, and what both together reach, of the test tiles."""
    rows = extract_array(both, Subset(tiles, labelled.positions))
    test = labelled.of("test") & ~np.isnan(rows).any(axis=1)
    kept, codes = both.passes(rows[test, -1]), labelled.codes[test]
    wanted = is_wanted[codes]
    return {
        "n_tiles": int(test.sum()),
        "kept": clopper_pearson(int(kept.sum()), len(kept)),
        "sensitivity_of_first_pass": clopper_pearson(int((kept & wanted).sum()), int(wanted.sum())),
        "specificity_of_first_pass": clopper_pearson(int((~kept & ~wanted).sum()), int((~wanted).sum())),
        "both_stages": calibration_scores(rows[test, :-1], codes),
    }
