"""What the survey stage wrote down of its clusters, put in words for the report."""

from __future__ import annotations

from typing import Any

import geopandas as gpd

from geopov import survey


def describe_survey(clusters: gpd.GeoDataFrame, *, window_km: float = 0.0) -> dict[str, Any] | None:
    """How the outcome was measured, and what a reader must know of the clusters.

    Parameters
    ----------
    clusters : GeoDataFrame
        As the survey stage wrote them, with its ``attrs``.
    window_km : float
        Side of the square that the tiles of a cluster cover; 0 where it is not known.

    Returns
    -------
    dict or None
        JSON-able: ``notes`` (sentences), ``measures`` (see :func:`geopov.survey.describe_measures`) and ``window``, a
        sentence where displaced clusters may lie outside their tiles, or None. None where there is nothing to tell.
    """
    notes = [f"{note[0].upper()}{note[1:].rstrip('.')}." for note in clusters.attrs.get("notes", [])]
    window = None
    if "displacement_km" in clusters and (clusters["displacement_km"] > 0).any():
        usual = sorted(clusters["displacement_km"].unique())
        notes.append(
            "The published positions were displaced at random, so that nobody can be found: "
            f"by up to {' or '.join(f'{km:g}' for km in usual)} km."
        )
        window = survey.check_window(clusters, window_km=window_km) if window_km > 0 else None
    if survey.GAPS[0] in clusters or survey.GAPS[1] in clusters:
        notes.append(survey.gap_text(clusters))
    measures = survey.describe_measures(clusters.attrs.get("measures", {}))
    if not (notes or measures):
        return None
    return {"notes": notes, "measures": measures, "window": window}
