"""A tile classifier on any label: trained, calibrated, checked on tiles it has not seen, and kept in a folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import geopandas as gpd
import numpy as np
import numpy.typing as npt

from geopov import __version__
from geopov._validation import atomic_path, some
from geopov.errors import FeatureError
from geopov.features.classification.calibration import (
    Calibration,
    CalibrationMethod,
    calibration_scores,
    fit_calibration,
    reliability,
)
from geopov.features.classification.fitting import NETWORK_FOLDER, Fitted, fit_logistic, fit_network
from geopov.features.classification.labels import Labelled, prepare_labels
from geopov.features.extract import ProgressCallback, Tiles, extract_array
from geopov.features.extractor import Extractor, build
from geopov.features.subset import Subset

__all__ = ["TileClassifier", "calibrated", "fit_classifier", "train_classifier"]

CLASSIFIER, CALIBRATION = "classifier.json", "calibration.json"
Floats = npt.NDArray[np.float64]


@dataclass(eq=False)
class TileClassifier:
    """Calibrated probabilities of classes, from an extractor and a linear head on its features.

    It is an extractor itself, whose features are the probabilities: :func:`geopov.features.extract` then gives each
    cluster's mean probability, such as the expected share of metal roofs among its tiles.

    Attributes
    ----------
    classes : tuple of str
        In the order of the probabilities.
    extractor : Extractor
        What the head looks at; of a network, the mean of its final map.
    weights : float array (class, feature)
        Of the head.
    intercept : float array (class,)
        Of the head.
    calibration : Calibration
        From the head's scores to probabilities.
    card : dict
        JSON types: the label, how many tiles of each class and split, how it was trained.
    checks : dict
        JSON types: scores before and after calibration, and reliability of each class, on the test tiles.
    """

    classes: tuple[str, ...]
    extractor: Extractor
    weights: Floats
    intercept: Floats
    calibration: Calibration
    card: dict[str, Any]
    checks: dict[str, Any] = field(default_factory=dict)
    name: str = field(default="tile_classifier", init=False)
    context_px: int = field(init=False)

    def __post_init__(self) -> None:
        self.context_px = self.extractor.context_px

    @property
    def feature_names(self) -> list[str]:
        """``p_CLASS``, one a class."""
        return [f"p_{name}" for name in self.classes]

    def for_bands(self, band_names: Sequence[str]) -> Self:
        """The same classifier for tiles whose bands have these names."""
        bound = self.extractor.for_bands(band_names)
        if len(bound.feature_names) != self.weights.shape[1]:
            raise FeatureError(
                f"the tiles' bands {some(band_names)} give {len(bound.feature_names)} features; the classifier was "
                f"trained on {self.weights.shape[1]}, from the bands {some(self.card['band_names'])}."
            )
        return replace(self, extractor=bound)

    def logits(self, features: npt.NDArray[Any]) -> Floats:
        """Scores (tile, class) before calibration, of features (tile, feature)."""
        # A matrix product may round a row differently in another batch; einsum without BLAS does not.
        found: Floats = np.einsum("nf,kf->nk", features.astype(float), self.weights, optimize=False) + self.intercept
        return found

    def __call__(self, data: npt.NDArray[Any], valid: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Probabilities (tile, class) of data (tile, band, y, x); NaN rows where too few pixels are valid."""
        return self.calibration.probabilities(self.logits(self.extractor(data, valid))).astype(np.float32)

    def spec(self) -> dict[str, Any]:
        """What tells it from others: its extractor, classes and calibration."""
        return {
            "name": self.name,
            "classes": list(self.classes),
            "extractor": self.extractor.spec(),
            "calibration": self.calibration.to_dict(),
        }

    def provenance(self) -> dict[str, Any]:
        """How the numbers came about."""
        return {"extractor": self.extractor.provenance(), "card": self.card, "geopov": __version__}

    def write(self, folder: str | Path) -> Path:
        """Write ``classifier.json`` and ``calibration.json``; of a network, beside its own folder ``network``.

        Returns
        -------
        Path
            The folder.
        """
        folder = Path(folder)
        spec = self.extractor.spec()
        if self.card["training"]["model"] == "network":
            spec["weights"] = NETWORK_FOLDER
        head = {
            "classes": list(self.classes),
            "extractor": spec,
            "card": self.card,
            "intercept": self.intercept.tolist(),
            "weights": self.weights.tolist(),
        }
        write_json(folder / CALIBRATION, {"calibration": self.calibration.to_dict(), "checks": self.checks})
        write_json(folder / CLASSIFIER, head)
        return folder

    @classmethod
    def open(cls, folder: str | Path) -> TileClassifier:
        """A classifier that :meth:`write` or :func:`train_classifier` wrote.

        Raises
        ------
        FeatureError
            If the folder holds none, or a file is damaged.
        """
        folder = Path(folder)
        head, scale = read_json(folder / CLASSIFIER), read_json(folder / CALIBRATION)
        try:
            spec, card = dict(head["extractor"]), dict(head["card"])
            weights, intercept = np.asarray(head["weights"], dtype=float), np.asarray(head["intercept"], dtype=float)
            if card["training"]["model"] == "network":
                spec["weights"] = str(folder / NETWORK_FOLDER)
            classes = tuple(str(name) for name in head["classes"])
            calibration, checks = scale["calibration"], dict(scale["checks"])
        except (KeyError, TypeError, ValueError) as error:
            raise FeatureError(f"{folder} holds no whole classifier ({error!r}); train it again.") from error
        if weights.ndim != 2 or not len(classes) == len(weights) == len(intercept):
            raise FeatureError(
                f"{folder / CLASSIFIER} has {len(classes)} classes and a head of shape {weights.shape}; train it again."
            )
        found = Calibration.from_dict(calibration, origin=folder / CALIBRATION)
        extractor = build(spec).for_bands(card["band_names"])
        return cls(classes, extractor, weights, intercept, found, card, checks)


def train_classifier(
    tiles: Tiles,
    labels: gpd.GeoDataFrame,
    *,
    label: str,
    folder: str | Path,
    extractor: Any = None,
    calibration: CalibrationMethod = "temperature",
    block_km: float | None = None,
    shares: tuple[float, float, float] = (0.7, 0.15, 0.15),
    seed: int = 0,
    progress: ProgressCallback | None = None,
    **training: Any,
) -> TileClassifier:
    """Train, calibrate and check a classifier of tiles, and write it to a folder.

    Parameters
    ----------
    tiles : TileSet
        Cut around the labelled points; joined to them by ``cluster_id``.
    labels : GeoDataFrame of points
        With ``cluster_id``, the label, and optionally ``split``; see
        :func:`geopov.features.classification.labels.prepare_labels`, which also explains ``block_km`` and ``shares``.
    label : str
        Column of text, whole numbers, categories or True and False: settlement or not, roof type.
    folder : path
        To be written. Training that was cut short goes on from there.
    extractor : specification, optional
        As :func:`geopov.features.build` takes it: a logistic regression on its features in place of a network trained
        end to end, in seconds in place of hours.
    calibration : {"temperature", "isotonic", "none"}
        Fitted on the validation tiles.
    seed : int
        Of the split and of the training.
    progress : callable, optional
        Called with (done, total).
    **training
        Passed on to :func:`geopov.features.training.fit.pretrain`: ``backbone``, ``weights``, ``epochs`` and so on.

    Returns
    -------
    TileClassifier
        Its attribute ``checks`` says, of the test tiles, how well its probabilities hold.

    Raises
    ------
    FeatureError
        If labels and tiles do not fit, or an option is wrong.
    """
    labelled = prepare_labels(tiles, labels, label=label, block_km=block_km, shares=shares, seed=seed)
    fitted = fit_classifier(
        tiles, labelled, folder=Path(folder), extractor=extractor, seed=seed, progress=progress, training=training
    )
    classifier = calibrated(fitted, tiles, labelled, method=calibration)
    classifier.write(folder)
    return classifier


def fit_classifier(
    tiles: Tiles,
    labelled: Labelled,
    *,
    folder: Path,
    extractor: Any,
    seed: int,
    progress: ProgressCallback | None,
    training: Mapping[str, Any],
) -> Fitted:
    """A network, or the head on an extractor's features where one is given."""
    if extractor is None:
        return fit_network(tiles, labelled, folder, {"seed": seed, **training}, progress=progress)
    if training:
        raise FeatureError(
            f"{some(training)} belongs to training a network, but extractor= asks for a logistic regression on "
            "features that are not trained. Leave one of them out."
        )
    return fit_logistic(tiles, labelled, extractor, progress=progress)


def calibrated(
    fitted: Fitted,
    tiles: Tiles,
    labelled: Labelled,
    *,
    method: CalibrationMethod,
    among: npt.NDArray[np.bool_] | None = None,
) -> TileClassifier:
    """The classifier with its calibration, fitted on validation tiles and checked on test tiles.

    Parameters
    ----------
    fitted : Fitted
        Extractor and head.
    tiles, labelled
        As it was fitted on.
    method : {"temperature", "isotonic", "none"}
        Of calibration.
    among : bool array (labelled tile,), optional
        The tiles it will be used on, where those are not all.
    """
    card = {**labelled.report, "band_names": list(tiles.band_names), "tile": tiles.spec.to_dict()}
    card["training"] = fitted.training
    plain = Calibration("none", 0)
    bare = TileClassifier(labelled.classes, fitted.extractor, fitted.weights, fitted.intercept, plain, card)
    logits = bare.logits(extract_array(fitted.extractor, Subset(tiles, labelled.positions)))
    usable = ~np.isnan(logits).any(axis=1)
    inside = usable if among is None else usable & among
    validation, test = inside & labelled.of("validation"), inside & labelled.of("test")
    for name, chosen in (("validation", validation), ("test", test)):
        if not chosen.any():
            raise FeatureError(
                f"no {name} tile is left to calibrate or check on: too few valid pixels, or none passed the first pass."
            )
    found = fit_calibration(logits[validation], labelled.codes[validation], method=method)
    truth = labelled.codes[test]
    after = found.probabilities(logits[test])
    checks = {
        "n_unusable": int((~usable).sum()),
        "before": calibration_scores(plain.probabilities(logits[test]), truth),
        "after": calibration_scores(after, truth),
        "reliability": {
            name: reliability(after[:, code], truth == code).to_dict("records")
            for code, name in enumerate(labelled.classes)
        },
    }
    return replace(bare, calibration=found, checks=checks)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON whole or not at all."""
    with atomic_path(path) as partial:
        partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """A file of a classifier; raises FeatureError if it is not there or is no JSON object."""
    if not path.is_file():
        raise FeatureError(f"there is no {path}; expected a folder that train_classifier wrote.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise FeatureError(f"{path} is not readable as JSON ({error}); train the classifier again.") from None
    if not isinstance(content, dict):
        raise FeatureError(f"{path} holds a {type(content).__name__}; train the classifier again.")
    return content
