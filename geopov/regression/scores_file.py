"""The two files that reports are made from: ``predictions.parquet`` and ``scores.json``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from geopov._validation import atomic_path
from geopov.regression.cross_validation import CrossValidation


def write_scores(validation: CrossValidation, folder: Path | str, **beside: Any) -> None:
    """Write predictions and scores into a folder, which is made where it does not exist.

    Parameters
    ----------
    validation : CrossValidation
        What is written.
    folder : path
        Scores come last, so that a folder with scores is a whole one.
    **beside
        What else ``scores.json`` says: ``model``, ``features``, ``provenance``, ``random_folds``, ``permutation``,
        ``repeats``, ``years``, ``survey``, ``blocks`` of features; None where it was not looked at.
    """
    folder = Path(folder)
    with atomic_path(folder / "predictions.parquet") as partial:
        validation.predictions.to_parquet(partial, index=False)
    with atomic_path(folder / "scores.json") as partial:
        partial.write_text(json.dumps(_summary(validation) | beside, indent=1) + "\n")


def _summary(validation: CrossValidation) -> dict[str, Any]:
    table, meta = validation.predictions, validation.meta
    half_widths = (table["upper"] - table["mean"]).to_numpy()
    return {
        **{name: meta[name] for name in ("outcome", "unit", "label", "baseline", "baselines", "deshrink")},
        **{name: meta[name] for name in ("splits", "n_blocks", "seed", "leakage")},
        "verdict": validation.verdict,
        "n": len(table),
        "n_survey": len(table) + int((validation.dropped["source"] == "clusters").sum()),
        "dropped": records(validation.dropped),
        "folds": records(validation.folds),
        "scores": records(validation.scores),
        "differences": records(validation.differences),
        "curve": records(validation.curve),
        "shrinkage": records(validation.shrinkage),
        "bias_by_decile": {method: records(bias) for method, bias in validation.bias.items()},
        "coverage": records(pd.DataFrame([vars(validation.coverage)]))[0],
        "coverage_by": records(validation.coverage_by),
        "half_width_median": float(np.median(half_widths)),
        "half_width_range": np.quantile(half_widths, [0.1, 0.9]).tolist(),
        "out_of_support": int((~table["in_support"]).sum()),
        "block_advice": records(pd.DataFrame([vars(validation.block_advice)]))[0],
    }


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as dictionaries; NaN, which JSON does not know, becomes null."""
    rows: list[dict[str, Any]] = table.astype(object).where(table.notna(), None).to_dict("records")  # type: ignore[assignment]
    return rows
