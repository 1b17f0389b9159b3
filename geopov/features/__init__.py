"""Features of tiles, averaged over each cluster: band statistics, histograms, random convolutions, or a network's.

    extractor = build({"name": "efficientnet_lite0", "bands": [1, 1, 1], "stretch": "log", "lo": 0.1, "hi": 100})
    features = extract(extractor, tiles)
    write_features(features, "features.nc")

Importing this package imports no PyTorch; building a network does.
"""

from geopov.features.extract import Tiles, extract, extract_array
from geopov.features.extractor import Concatenation, Extractor, build, extractor_names
from geopov.features.histograms import BandHistograms
from geopov.features.preprocess import Preprocessing
from geopov.features.statistics import BandStatistics
from geopov.features.store import read_features, write_features
from geopov.features.weights import EFFICIENTNET_LITE0, WeightsSource, fetch_weights

__all__ = [
    "EFFICIENTNET_LITE0",
    "BandHistograms",
    "BandStatistics",
    "Concatenation",
    "Extractor",
    "Preprocessing",
    "Tiles",
    "WeightsSource",
    "build",
    "extract",
    "extract_array",
    "extractor_names",
    "fetch_weights",
    "read_features",
    "write_features",
]
