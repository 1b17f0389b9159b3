"""Where a cluster really is: the random displacement of published coordinates, forwards and turned round.

Surveys move the coordinates of a cluster before they publish them, so that nobody can be found. The rule is known, and
so is what it does to a study: features are taken kilometres from the people whose welfare they should explain.
:func:`displace` does to known points what the survey does; :func:`draw_positions` draws where a published point may
have come from, so that features can be averaged over what is possible; :func:`check_window` says how many clusters a
window of tiles may miss. What displacement costs a model is measured in :mod:`geopov.survey.displacement.attenuation`.

Sources: Burgert, Colston, Roy & Zachary (2013), Geographic Displacement Procedure and Georeferenced Data Release Policy
for the Demographic and Health Surveys, DHS Spatial Analysis Reports 7; Perez-Haydrich, Warren, Burgert & Emch (2013),
Guidelines on the Use of DHS GPS Data, DHS Spatial Analysis Reports 8.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd

from geopov._validation import ID_COLUMN, check_points, check_positive, some
from geopov.errors import SurveyError
from geopov.survey.displacement.moves import Floats, Reach, move, stream
from geopov.survey.files.tables import as_number, as_urban

Density = Callable[[Floats, Floats], npt.ArrayLike]
"""Longitudes (n,) and latitudes (n,) in degrees to people per km² (n,), in any unit: only ratios count."""

COLUMN = "displacement_km"
CANDIDATES = 32
"""Candidates a draw when draws are weighted by population."""


@dataclass(frozen=True)
class DisplacementRule:
    """How far a survey moves a cluster: a random direction, and a distance uniform between 0 and a maximum.

    A uniform distance is not a uniform spread over the disc: the density of the published point falls as one over the
    distance from the true one, so that half of all points lie within half the maximum.

    Attributes
    ----------
    urban_km, rural_km : float
        Usual maximum of urban and rural clusters.
    far_km, far_share : float
        Maximum of a random share of the rural clusters.
    """

    urban_km: float = 2.0
    rural_km: float = 5.0
    far_km: float = 10.0
    far_share: float = 0.01

    def __post_init__(self) -> None:
        for name in ("urban_km", "rural_km", "far_km", "far_share"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
                raise SurveyError(f"{name} of a displacement rule is {value!r}; expected a number, zero or more.")
        if self.far_share > 1:
            raise SurveyError(f"far_share is {self.far_share:g}; expected a share between 0 and 1.")

    def scaled(self, multiple: float) -> DisplacementRule:
        """The rule with all its distances times ``multiple``."""
        urban, rural, far = (distance * multiple for distance in (self.urban_km, self.rural_km, self.far_km))
        return DisplacementRule(urban, rural, far, self.far_share)


RULES: Mapping[str, DisplacementRule] = {
    "dhs": DisplacementRule(),
    "lsms": DisplacementRule(),
    "none": DisplacementRule(urban_km=0, rural_km=0, far_km=0, far_share=0),
}
"""By survey programme. LSMS-ISA publishes the centres of enumeration areas moved as DHS moves its clusters.

For Tanzania 2008 and Uganda 2005 and 2009 that is an assumption: by the notes on the data of Yeh et al. (2020), their
documents name no procedure.
"""


def as_rule(rule: DisplacementRule | str) -> DisplacementRule:
    """A rule by its name in :data:`RULES`, or as it is.

    Raises
    ------
    SurveyError
        If no rule has that name.
    """
    if isinstance(rule, DisplacementRule):
        return rule
    if rule not in RULES:
        raise SurveyError(f"there is no displacement rule {rule!r}; expected one of {', '.join(RULES)}, or give one.")
    return RULES[rule]


def displacement_km(clusters: pd.DataFrame, rule: DisplacementRule | str) -> pd.Series:
    """The usual maximum displacement of each cluster, in kilometres.

    Parameters
    ----------
    clusters : DataFrame
        With ``urban``; where it is absent or missing the rural figure is taken, the larger, and a note of it stands in
        ``attrs["notes"]`` of the result.
    rule : DisplacementRule or str
        Of the survey.

    Returns
    -------
    Series (float)
        By the index of ``clusters``, named ``displacement_km``.
    """
    rule = as_rule(rule)
    urban, unknown = _urban(clusters)
    km = np.where(urban, rule.urban_km, rule.rural_km).astype(float)
    usual = pd.Series(km, index=clusters.index, name=COLUMN)
    if unknown.any() and rule.urban_km != rule.rural_km:
        usual.attrs["notes"] = [
            f"{int(unknown.sum())} of {len(clusters)} clusters do not say whether they are urban; "
            f"they are taken as displaced by up to {rule.rural_km:g} km, as rural ones are"
        ]
    return usual


def displace(
    points: gpd.GeoDataFrame, *, rule: DisplacementRule | str, seed: int, within: gpd.GeoDataFrame | None = None
) -> gpd.GeoDataFrame:
    """Move points as a survey does before it publishes them.

    Parameters
    ----------
    points : GeoDataFrame
        Points at their true positions, with ``cluster_id`` and, for the rule, ``urban``.
    rule : DisplacementRule or str
        Of the survey.
    seed : int
        The move of a point depends on it and on the ``cluster_id`` alone, not on the other points or their order.
    within : GeoDataFrame, optional
        Polygons of administrative units: direction and distance are drawn again until the point lies in the polygon
        it started in, as DHS does since 2009. A point outside every polygon is moved freely; one that finds no place
        in 1,000 redraws stays where it is. Both are named in ``attrs["notes"]``.

    Returns
    -------
    GeoDataFrame
        The same rows in EPSG:4326, moved, with ``displacement_km`` of the rule.

    Raises
    ------
    SurveyError
        If the points cannot be placed, the seed is no whole number, or ``within`` holds other than polygons.
    """
    points = _checked(points)
    lon, lat, notes = move(points, reach_by_rule(points, as_rule(rule)), n_draws=1, seed=seed, within=within)
    usual = displacement_km(points, rule)
    moved = points.assign(**{COLUMN: usual}).set_geometry(gpd.points_from_xy(lon[:, 0], lat[:, 0]), crs="EPSG:4326")
    moved.attrs = _with_notes(points.attrs, [*_notes(usual), *notes])
    return moved


def draw_positions(
    clusters: gpd.GeoDataFrame,
    *,
    n_draws: int,
    seed: int,
    rule: DisplacementRule | str | None = None,
    within: gpd.GeoDataFrame | None = None,
    weights: Density | None = None,
) -> gpd.GeoDataFrame:
    """Draws of the true positions, given the published ones.

    Where people may live anywhere, the true point is spread around the published one as that is around the true one:
    the same rule turned round. ``weights`` replace "anywhere" by where people live. Near the border of a polygon this
    leaves out that true points there had fewer places to be published at, a matter of the few kilometres along it.

    Parameters
    ----------
    clusters : GeoDataFrame
        Points as published, with ``cluster_id``.
    n_draws : int
        A cluster; one that was not displaced has one row, its point.
    seed : int
        A cluster's draws depend on it and on the ``cluster_id`` alone, not on the other clusters or their order.
    rule : DisplacementRule or str, optional
        Of the survey; default by the column ``displacement_km``, where 5 km stands for a rural cluster and its one
        chance in a hundred of up to 10 km.
    within : GeoDataFrame, optional
        Polygons of administrative units; a true point lies in the polygon of its published one. As in
        :func:`displace`.
    weights : callable, optional
        Population density at longitudes and latitudes. Each draw is then one of 32 candidates, with a chance in
        proportion (sampling importance resampling, Rubin 1988). Where all of them are empty the first is taken, and the
        cluster is named in ``attrs["notes"]``.

    Returns
    -------
    GeoDataFrame
        In EPSG:4326, cluster by cluster: ``point_id`` (str, unique), ``cluster_id``, ``draw`` (from 0), geometry.

    Raises
    ------
    SurveyError
        If neither a rule nor the column ``displacement_km`` is given, or as for :func:`displace`.
    """
    points = _checked(clusters)
    if isinstance(n_draws, bool) or not isinstance(n_draws, int | np.integer) or n_draws < 1:
        raise SurveyError(f"n_draws is {n_draws!r}; expected a whole number, at least 1.")
    notes = [] if rule is None else _notes(displacement_km(points, rule))
    reach = reach_by_column(points) if rule is None else reach_by_rule(points, as_rule(rule))
    per_draw = 1 if weights is None else CANDIDATES
    lon, lat, unplaced = move(points, reach, n_draws=n_draws * per_draw, seed=seed, within=within)
    notes += unplaced
    ids = points[ID_COLUMN]
    if weights is not None:
        chosen, empty = _choose(lon, lat, weights, ids, seed, n_draws)
        lon, lat = (np.take_along_axis(x.reshape(len(ids), n_draws, -1), chosen, axis=2)[..., 0] for x in (lon, lat))
        if empty.any():
            notes.append(f"no people where {int(empty.sum())} clusters may be, by the weights ({some(ids[empty])})")
    kept = np.ones(lon.shape, dtype=bool)
    kept[np.maximum(reach.usual_km, reach.far_km * (reach.far_share > 0)) == 0, 1:] = False
    row, draw = np.nonzero(kept)
    owner = ids.to_numpy(dtype=object)[row]
    draws = gpd.GeoDataFrame(
        {"point_id": [f"{name}/{i}" for name, i in zip(owner, draw, strict=True)], ID_COLUMN: owner, "draw": draw},
        geometry=gpd.points_from_xy(lon[kept], lat[kept]),
        crs="EPSG:4326",
    )
    draws.attrs = _with_notes({}, notes)
    return draws


def minimum_window_km(clusters: pd.DataFrame) -> float:
    """Side of the square around a published point that holds the true one of every cluster, as a rule.

    Twice the largest usual displacement of the column ``displacement_km``; the one rural cluster in a hundred that DHS
    moves up to 10 km may still lie outside (:func:`share_outside`).
    """
    return 2 * float(_displacement(clusters).max())


def share_outside(clusters: pd.DataFrame, *, window_km: float) -> float:
    """Expected share of clusters whose true point lies outside a square window centred on the published one.

    Parameters
    ----------
    clusters : DataFrame
        With ``displacement_km``, as for :func:`draw_positions`.
    window_km : float
        Side of the window, its edges north-south and east-west.
    """
    check_positive(window_km, "window_km", SurveyError)
    reach = reach_by_column(clusters)
    usual, far = (_share_beyond(window_km / 2, maximum) for maximum in (reach.usual_km, reach.far_km))
    return float(np.mean((1 - reach.far_share) * usual + reach.far_share * far))


def check_window(clusters: pd.DataFrame, *, window_km: float) -> str | None:
    """A sentence for the report where a window is smaller than :func:`minimum_window_km`; None where it is not.

    Parameters
    ----------
    clusters : DataFrame
        With ``displacement_km``.
    window_km : float
        Side of the window in which tiles are taken; of the tile where there is one.
    """
    share, minimum = share_outside(clusters, window_km=window_km), minimum_window_km(clusters)
    if window_km >= minimum * (1 - 1e-9):
        return None
    usual = _displacement(clusters)
    smaller = int((2 * usual > window_km * (1 + 1e-9)).sum())
    return (
        f"The window of {window_km:g} km is smaller than the displacement of {smaller} of {len(usual)} clusters: "
        f"about {share:.1%} of all clusters lie outside their window. "
        f"A window of {minimum:g} km would hold them; or average over draws of the true position."
    )


def reach_by_rule(clusters: pd.DataFrame, rule: DisplacementRule) -> Reach:
    """How far a rule may move each cluster."""
    urban, _ = _urban(clusters)
    usual = np.where(urban, rule.urban_km, rule.rural_km).astype(float)
    return Reach(usual, np.full(len(usual), float(rule.far_km)), np.where(urban, 0.0, rule.far_share))


def reach_by_column(clusters: pd.DataFrame) -> Reach:
    """How far each cluster may have been moved, by its ``displacement_km``."""
    usual, dhs = _displacement(clusters).to_numpy(), RULES["dhs"]
    return Reach(usual, np.full(len(usual), dhs.far_km), np.where(usual == dhs.rural_km, dhs.far_share, 0.0))


def _urban(clusters: pd.DataFrame) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Whether each cluster is urban, and whether that is unknown, when it is taken as rural."""
    if "urban" not in clusters.columns:
        return np.zeros(len(clusters), dtype=bool), np.ones(len(clusters), dtype=bool)
    unknown = clusters["urban"].isna().to_numpy()
    urban = np.zeros(len(clusters), dtype=bool)
    urban[~unknown] = as_urban(clusters["urban"][~unknown], "the table of clusters").to_numpy()
    return urban, unknown


def _displacement(clusters: pd.DataFrame) -> pd.Series:
    if COLUMN not in clusters.columns:
        raise SurveyError(
            f"the clusters have no column {COLUMN!r}; add it with displacement_km(clusters, 'dhs'), or give a rule."
        )
    km = as_number(clusters[COLUMN], "the table of clusters")
    if km.isna().any() or (km < 0).any():
        raise SurveyError(
            f"{COLUMN} is missing or negative for {int((~(km >= 0)).sum())} clusters; expected kilometres."
        )
    return km


def _share_beyond(half_km: float, maximum_km: Floats) -> Floats:
    """Chance (n,) that a random direction and a distance uniform up to a maximum lead out of a square.

    In the eighth of directions closest to an edge's normal the edge lies ``half / cos(angle)`` away. The chance to stop
    short of it, averaged over the eighth, is a closed form; where the maximum is less than ``half`` it is one.
    """
    ratio = np.minimum(half_km / np.maximum(maximum_km, 1e-12), 1.0)
    # Beyond this angle even the maximum does not reach the edge.
    angle = np.minimum(np.arccos(ratio), np.pi / 4)
    inside = (ratio * np.log(1 / np.cos(angle) + np.tan(angle)) + np.pi / 4 - angle) * 4 / np.pi
    beyond: Floats = 1 - inside
    return beyond


def _choose(
    lon: Floats, lat: Floats, weights: Density, ids: pd.Series, seed: int, n_draws: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """One of the candidates of each draw (n, n_draws, 1), and clusters (n,) with a draw that had none with people."""
    density = np.asarray(weights(lon.ravel(), lat.ravel()), dtype=np.float64).reshape(len(ids), n_draws, -1)
    if (density < 0).any():
        raise SurveyError("weights are negative somewhere; expected people per km², NaN or zero where there are none.")
    total = np.cumsum(np.nan_to_num(density), axis=2)
    chance = np.stack([stream(seed, name, 1).random(n_draws) for name in ids])[..., None]
    chosen = (total <= chance * total[..., -1:]).sum(axis=2, keepdims=True)
    empty = total[..., -1] == 0
    chosen[empty] = 0
    return chosen, empty.any(axis=1)


def _checked(points: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    checked = check_points(points, error=SurveyError)
    checked.attrs = dict(points.attrs)
    return checked


def _notes(table: pd.Series | pd.DataFrame) -> list[str]:
    return list(table.attrs.get("notes", []))


def _with_notes(attrs: Mapping[str, object], notes: list[str]) -> dict[str, object]:
    before = attrs.get("notes", [])
    return {**attrs, "notes": [*(before if isinstance(before, list) else []), *notes]} if notes else dict(attrs)
