"""What a trained network says of tiles: the numbers of its head, and probabilities."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from geopov.features.extract import Tiles, extract_array
from geopov.features.networks.card import NetworkCard
from geopov.features.networks.engines import EngineName
from geopov.features.networks.network import NetworkExtractor
from geopov.features.networks.trained import load_trained
from geopov.features.training.tasks import class_probabilities

__all__ = ["TrainedNetwork"]


class TrainedNetwork:
    """A network with its head, from the folder where it was trained.

    Parameters
    ----------
    extractor : NetworkExtractor
        Trunk and preprocessing.
    weight : float32 array (n_logits, n_features)
        Of the head.
    bias : float32 array (n_logits,)
        Of the head.
    card : NetworkCard
        What it was trained on.
    """

    def __init__(
        self,
        extractor: NetworkExtractor,
        *,
        weight: npt.NDArray[np.float32],
        bias: npt.NDArray[np.float32],
        card: NetworkCard,
    ) -> None:
        self.extractor, self.card = extractor, card
        self._weight, self._bias = weight, bias

    @classmethod
    def load(
        cls, folder: str | os.PathLike[str], *, threads: int | None = None, engine: EngineName = "auto"
    ) -> TrainedNetwork:
        """The network in a folder that :func:`geopov.features.training.fit.pretrain` wrote.

        Parameters
        ----------
        folder : path
            With ``network.pth`` and ``card.json``.
        threads : int, optional
            Of the computation on a CPU.
        engine : {"auto", "eager", "fused", "onnxruntime", "cuda"}
            See :class:`~geopov.features.networks.network.NetworkExtractor`; "eager" starts at once, "auto" is faster.

        Raises
        ------
        FeatureError
            If the folder holds no trained network, or its files do not belong together.
        """
        folder = Path(folder)
        head, card = load_trained(folder).head, NetworkCard.read(folder)
        return cls(
            NetworkExtractor("pretrained", weights=folder, threads=threads, engine=engine),
            weight=head.weight.numpy(),
            bias=head.bias.numpy(),
            card=card,
        )

    def outputs(self, tiles: Tiles, *, batch_size: int = 256) -> npt.NDArray[np.float32]:
        """What the head gives.

        Parameters
        ----------
        tiles : TileSet
            With the bands and the context that the card names.
        batch_size : int
            Tiles read at once.

        Returns
        -------
        float32 array (tile, n_logits)
            In the order of the tiles' index: one logit a class; one a step between ordered classes; or the number, in
            the card's unit. Rows of NaN for tiles with too few valid pixels.

        Raises
        ------
        FeatureError
            If the tiles have other bands or another context.
        """
        features = extract_array(self.extractor, tiles, batch_size=batch_size)
        return np.asarray(features @ self._weight.T + self._bias, dtype=np.float32)

    def probabilities(self, tiles: Tiles, *, batch_size: int = 256) -> npt.NDArray[np.float64]:
        """Probabilities of the classes, as they come out of the network: not calibrated.

        Parameters
        ----------
        tiles, batch_size
            As in :meth:`outputs`.

        Returns
        -------
        float64 array (tile, class)
            In the order of the card's ``outputs``; rows sum to 1, or are NaN.

        Raises
        ------
        FeatureError
            If the network predicts a number, or the tiles do not fit.
        """
        return class_probabilities(self.outputs(tiles, batch_size=batch_size), self.card.task)
