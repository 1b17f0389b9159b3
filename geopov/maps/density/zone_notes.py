"""What a reader of a population map should know of the zones behind it, in a few sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from geopov._validation import some
from geopov.maps.density.zone_cells import ZoneCells

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

# How many zones a note names.
_NAMED = 20


def allocation_notes(cells: ZoneCells, weights: Floats, *, by_area: Flags, by_point: Flags) -> list[str]:
    """Sentences on problems of the zones, unknown weights, fallbacks, and empty zones that look inhabited.

    Parameters
    ----------
    cells : ZoneCells
        Of n zones.
    weights : array (height, width)
        As given, NaN where unknown.
    by_area, by_point : bool array (n,)
        Zones whose people were shared by area, or put in the cell of one point.
    """
    ids = np.array(cells.zones.ids, dtype=object)
    counts = cells.zones.counts
    notes = _summaries([*cells.zones.problems, *cells.problems])
    unknown = int((np.isnan(weights) & (cells.land > 0)).sum())
    if unknown:
        notes.append(f"{unknown} cells have no known weight and got nobody, unless their zone has no other.")
    for which, what in (
        (by_area, "populated zones have no weight in any cell; their people are shared by area"),
        (by_point, "populated zones have no cell of their own; their people are in the cell of a point inside them"),
    ):
        if which.any():
            notes.append(f"{int(which.sum())} {what} ({counts[which].sum():,.0f} people): {some(ids[which], _NAMED)}.")
    brightness = cells.mean(weights)
    populated = (counts > 0) & np.isfinite(brightness)
    if populated.any():
        typical = float(np.median(brightness[populated]))
        # Equal weights differ by rounding only.
        lit = (counts == 0) & (brightness > typical * (1 + 1e-9))
        if lit.any():
            notes.append(
                f"{int(lit.sum())} zones have no people, but more weight than half of the populated zones; is their "
                f"count missing? {some(ids[lit], _NAMED)}."
            )
    return notes


def _summaries(problems: Sequence[Mapping[str, Any]]) -> list[str]:
    """One line a kind of problem, with how many, which, and how large."""
    kinds: dict[str, list[Mapping[str, Any]]] = {}
    for problem in problems:
        kinds.setdefault(problem["problem"], []).append(problem)
    lines = []
    for what, found in kinds.items():
        values = [float(problem["value"]) for problem in found]
        named = some([problem["zone_id"] for problem in found if problem["zone_id"]], _NAMED)
        size = f"{sum(values):g} in all, the largest {max(values):g}" if len(found) > 1 else f"{values[0]:g}"
        lines.append(f"{len(found)} × {what}: {size}{f' (zones {named})' if named else ''}.")
    return lines
