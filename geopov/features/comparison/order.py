"""What the table and the picture share: the order of the networks, and how a count is written."""

from __future__ import annotations

import pandas as pd

from geopov.features.comparison.class_scores import MEAN

__all__ = ["count", "ranked"]


def ranked(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the mean over classes, the best AUROC first, equal ones by name."""
    means = table[table["class"] == MEAN]
    return means.sort_values(["auroc", "network", "start"], ascending=[False, True, True], kind="stable")


def count(value: float) -> str:
    """Three digits of what is below a hundred, whole numbers above."""
    return f"{value:,.3g}" if value < 100 else f"{value:,.0f}"
