"""The report's content for machines: everything as JSON, and the scores of all runs as one long Parquet table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from geopov._validation import atomic_path
from geopov.regression.report import wording
from geopov.regression.report.format import COLUMNS

if TYPE_CHECKING:
    from geopov.regression.report import Run

_TYPES = {"value": "float64", "low": "float64", "high": "float64", "n": "Int64", "n_blocks": "Int64"}


def write_json(runs: Sequence[Run], path: Path, *, title: str, captions: Sequence[str]) -> None:
    """Write title, captions and, run by run, the sentences, the warnings and ``scores.json`` whole."""
    content = {"title": title, "maps": list(captions), "runs": [_content(run) for run in runs]}
    with atomic_path(path) as partial:
        partial.write_text(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def _content(run: Run) -> dict[str, Any]:
    summary = run.summary
    return {
        "name": run.name,
        "answers": [asdict(answer) for answer in wording.answers(summary)],
        "warnings": [asdict(caution) for caution in wording.cautions(summary)],
        "sentences": {
            "deshrinking": wording.about_deshrinking(summary),
            "permutation": wording.about_permutation(summary),
            "repeats": wording.about_repeats(summary),
            "blocks": wording.about_blocks(summary),
            "banding": wording.about_banding(summary),
        },
        "summary": summary,
    }


def write_scores(runs: Sequence[Run], path: Path) -> None:
    """Write :func:`long_scores` as Parquet."""
    with atomic_path(path) as partial:
        long_scores(runs).to_parquet(partial, index=False)


def long_scores(runs: Sequence[Run]) -> pd.DataFrame:
    """Every score of every run.

    Returns
    -------
    DataFrame
        ``run``, ``subset``, ``predictor``, ``score``, ``value``, ``low`` and ``high`` (ends of the 95% interval, NaN
        where there is none), ``n`` clusters, ``n_blocks``.
    """
    rows = [
        {"run": run.name, "subset": row["subset"], "predictor": row["predictor"], "score": name, "value": row[name]}
        | {"low": row.get(f"{name}_low"), "high": row.get(f"{name}_high"), "n": row["n"], "n_blocks": row["n_blocks"]}
        for run in runs
        for row in run.summary["scores"]
        for name in COLUMNS
        if name in row
    ]
    return pd.DataFrame(rows).astype(_TYPES)
