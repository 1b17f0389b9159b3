"""Features of tiles, averaged over each cluster: statistics, histograms, random filters, or what a network sees.

    extractor = build({"name": "efficientnet_lite0", "bands": [1, 1, 1], "stretch": "log", "lo": 0.1, "hi": 100})
    features = extract(extractor, tiles)
    write_features(features, "features.nc")

The network may be trained here, on nightlights or on any label of tiles::

    points = sample_by_nightlights(open_lights("viirs.tif"), n=20_000, region=scene, away_from=clusters, ...)
    cnn = pretrain(geopov.tiles.extract(scene, points, spec), points, folder="network", backbone="resnet18")
    features = extract(cnn, geopov.tiles.extract(scene, clusters, spec))

Importing this package imports no PyTorch; building a network does.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from geopov.features.extract import OUTSIDE, Tiles, extract, extract_array
from geopov.features.extractor import Concatenation, Extractor, build, extractor_names
from geopov.features.histograms import BandHistograms
from geopov.features.networks.weights import EFFICIENTNET_LITE0, WeightsSource, fetch_weights
from geopov.features.preprocess import Preprocessing
from geopov.features.statistics import BandStatistics
from geopov.features.store import read_features, write_features

if TYPE_CHECKING:
    from geopov.features.callable import CallableExtractor
    from geopov.features.classification.apply import classify, open_classifier
    from geopov.features.classification.classifier import TileClassifier, train_classifier
    from geopov.features.classification.sheet import write_page, write_sheet
    from geopov.features.classification.two_stage import TwoStage, train_two_stage
    from geopov.features.comparison.bake_off import compare
    from geopov.features.comparison.intervals import auroc_bootstrap, auroc_delong, clopper_pearson, delong_test
    from geopov.features.comparison.table import write_comparison
    from geopov.features.context import choose_context, seam_errors
    from geopov.features.explanation.report import explain
    from geopov.features.networks.card import NetworkCard
    from geopov.features.nightlights.classes import LightsClasses
    from geopov.features.nightlights.lights import Lights, open_lights
    from geopov.features.nightlights.sampling import sample_by_nightlights
    from geopov.features.shared import alignment_px, block_bytes, block_features, shares_computation
    from geopov.features.table import features_from_table, read_vectors
    from geopov.features.threads import one_thread
    from geopov.features.training.fit import pretrain
    from geopov.features.training.predict import TrainedNetwork

__all__ = [
    "EFFICIENTNET_LITE0",
    "OUTSIDE",
    "BandHistograms",
    "BandStatistics",
    "CallableExtractor",
    "Concatenation",
    "Extractor",
    "Lights",
    "LightsClasses",
    "NetworkCard",
    "Preprocessing",
    "TileClassifier",
    "Tiles",
    "TrainedNetwork",
    "TwoStage",
    "WeightsSource",
    "alignment_px",
    "auroc_bootstrap",
    "auroc_delong",
    "block_bytes",
    "block_features",
    "build",
    "choose_context",
    "classify",
    "clopper_pearson",
    "compare",
    "delong_test",
    "explain",
    "extract",
    "extract_array",
    "extractor_names",
    "features_from_table",
    "fetch_weights",
    "one_thread",
    "open_classifier",
    "open_lights",
    "pretrain",
    "read_features",
    "read_vectors",
    "sample_by_nightlights",
    "seam_errors",
    "shares_computation",
    "train_classifier",
    "train_two_stage",
    "write_comparison",
    "write_features",
    "write_page",
    "write_sheet",
]

_HOME = {
    "callable": ("CallableExtractor",),
    "networks.card": ("NetworkCard",),
    "classification.apply": ("classify", "open_classifier"),
    "classification.classifier": ("TileClassifier", "train_classifier"),
    "classification.sheet": ("write_page", "write_sheet"),
    "classification.two_stage": ("TwoStage", "train_two_stage"),
    "comparison.bake_off": ("compare",),
    "comparison.intervals": ("auroc_bootstrap", "auroc_delong", "clopper_pearson", "delong_test"),
    "comparison.table": ("write_comparison",),
    "context": ("choose_context", "seam_errors"),
    "explanation.report": ("explain",),
    "nightlights.classes": ("LightsClasses",),
    "nightlights.lights": ("Lights", "open_lights"),
    "nightlights.sampling": ("sample_by_nightlights",),
    "shared": ("alignment_px", "block_bytes", "block_features", "shares_computation"),
    "threads": ("one_thread",),
    "table": ("features_from_table", "read_vectors"),
    "training.fit": ("pretrain",),
    "training.predict": ("TrainedNetwork",),
}


def __getattr__(name: str) -> Any:
    # Training and comparing bring in Lightning, and extracting needs none of it.
    for module, names in _HOME.items():
        if name in names:
            return getattr(importlib.import_module(f"geopov.features.{module}"), name)
    raise AttributeError(f"module 'geopov.features' has no attribute {name!r}")
