"""What a network should say of each tile, and what it costs to say something else.

Imports torch; reached only from inside :func:`geopov.features.training.fit.pretrain`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from geopov.features.networks.card import Task

__all__ = ["Target", "balanced_weights"]


def balanced_weights(codes: npt.NDArray[np.float64], n_classes: int) -> npt.NDArray[np.float64]:
    """Weights (n_classes,) under which each class counts alike: n / (n_classes x tiles of the class), 1 on average."""
    counts = np.bincount(codes.astype(int), minlength=n_classes)
    return np.asarray(len(codes) / (n_classes * counts), dtype=np.float64)


class Target(nn.Module):
    """The labels of a training, on the device where it runs.

    Numbers are learnt in units of the training tiles' standard deviation from their mean, so that rates of learning
    mean the same for any label.

    Parameters
    ----------
    values : float array (n,)
        Numbers of the classes, or the numbers themselves, of each row of the cache.
    train : int array
        Rows of the training tiles.
    task : {"classification", "ordinal", "regression"}
        Cross-entropy of one logit a class; binary cross-entropy of one a step between neighbouring classes, summed
        (Niu et al. 2016, equation 2); or squared error.
    class_weights : float array (n_classes,), optional
        What a tile of each class counts.
    """

    values: torch.Tensor
    weights: torch.Tensor

    def __init__(
        self,
        values: npt.NDArray[np.float64],
        train: npt.NDArray[np.intp],
        *,
        task: Task,
        class_weights: npt.NDArray[np.float64] | None = None,
    ) -> None:
        super().__init__()
        self.task = task
        weights = np.ones(len(values)) if class_weights is None else class_weights[values.astype(int)]
        self.register_buffer("values", torch.tensor(values), persistent=False)
        self.register_buffer("weights", torch.tensor(weights, dtype=torch.float32), persistent=False)
        of_train = values[train]
        self.mean, self.scale = float(of_train.mean()), float(of_train.std()) or 1.0

    def loss(self, logits: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Weighted mean over these rows of the cache."""
        weights, values = self.weights[rows], self.values[rows]
        logits = logits.float()
        if self.task == "classification":
            losses = functional.cross_entropy(logits, values.long(), reduction="none")
        elif self.task == "ordinal":
            above = (values[:, None] > torch.arange(logits.shape[1], device=logits.device)).float()
            losses = functional.binary_cross_entropy_with_logits(logits, above, reduction="none").sum(1)
        else:
            losses = (logits[:, 0] - ((values - self.mean) / self.scale).float()) ** 2
        return (losses * weights).sum() / weights.sum()

    def in_unit(self, logits: torch.Tensor) -> torch.Tensor:
        """What the logits say, in the unit of the values; classes as they are."""
        return logits * self.scale + self.mean if self.task == "regression" else logits

    @torch.no_grad()
    def put_unit_into(self, head: nn.Linear) -> None:
        """Change a trained head so that what it gives is in the unit of the values."""
        if self.task == "regression":
            head.weight.mul_(self.scale)
            head.bias.mul_(self.scale).add_(self.mean)
