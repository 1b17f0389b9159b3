"""Where in a tile a class is seen: Grad-CAM (Selvaraju et al. 2017), by captum.

Imports torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from geopov._optional import require
from geopov.features.explanation.watch import WatchedNetwork
from geopov.features.networks.card import NetworkCard
from geopov.features.training.tasks import class_probabilities

__all__ = ["Target", "grad_cam", "logit_names", "targets_of"]


@dataclass(frozen=True)
class Target:
    """Something a head tells, and what speaks for it.

    Attributes
    ----------
    title : str
        For people.
    score : float array (tile,)
        How strongly each tile is said to be it; NaN where it is not known.
    kind : str
        What the score is.
    logit : int
        Which of the head's outputs to follow back.
    sign : {1, -1}
        Whether a greater output speaks for it or against it.
    """

    title: str
    score: npt.NDArray[np.float64]
    kind: str
    logit: int
    sign: int = 1


def logit_names(card: NetworkCard) -> list[str]:
    """What a greater value of each of the head's outputs speaks for."""
    names = card.class_titles
    return [f"above {name}" for name in names[:-1]] if card.task == "ordinal" else names


def targets_of(card: NetworkCard, outputs: npt.NDArray[np.floating[Any]]) -> list[Target]:
    """What the head of a trained network tells of tiles, from its outputs (tile, logit).

    One for each class, by probability. What speaks for a class of an ordinal task is what speaks for having passed the
    step below it, and for the lowest what speaks against the first step. A number has two ends.
    """
    if card.task == "regression":
        name, values = card.outputs[0], outputs[:, 0].astype(np.float64)
        return [Target(f"highest {name}", values, name, 0), Target(f"lowest {name}", -values, f"minus {name}", 0, -1)]
    chances = class_probabilities(outputs, card.task)
    if card.task == "ordinal":
        steps = [(0, -1)] + [(step, 1) for step in range(card.n_logits)]
    else:
        steps = [(logit, 1) for logit in range(card.n_logits)]
    return [
        Target(name, chances[:, k], "probability", logit, sign)
        for k, (name, (logit, sign)) in enumerate(zip(card.class_titles, steps, strict=True))
    ]


def grad_cam(network: WatchedNetwork, images: torch.Tensor, target: Target, *, share: float = 1.0) -> torch.Tensor:
    """What in the layer's map speaks for the target.

    Parameters
    ----------
    network : WatchedNetwork
        With a head.
    images : Tensor (tile, band, y, x)
        From :meth:`WatchedNetwork.images`.
    target : Target
        From :func:`targets_of`.
    share : float
        Side of the tile as a share of the image's; 1 without context.

    Returns
    -------
    Tensor (tile, y', x')
        Zero or more: the map's filters, each weighted by the mean gradient of the output with respect to it, summed and
        rectified.

    Raises
    ------
    FeatureError
        If the network has no head, or no such layer.
    MissingDependencyError
        Without captum.
    """
    require("captum", purpose="Grad-CAM")
    from captum.attr import LayerGradCam

    explainer = LayerGradCam(_Signed(network.classifier(share=share), target), network.module(images))
    found = [
        explainer.attribute(part.clone().requires_grad_(), target=0, relu_attributions=True).detach().cpu()
        for part in network.chunks(images)
    ]
    return torch.cat(found)[:, 0].float()


class _Signed(nn.Module):
    def __init__(self, classifier: nn.Module, target: Target) -> None:
        super().__init__()
        self.classifier, self.logit, self.sign = classifier, target.logit, target.sign

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.classifier(images)
        return self.sign * outputs[:, self.logit : self.logit + 1]
