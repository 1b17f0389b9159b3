"""Maps summed up by administrative units: population-weighted means over any polygons, and the table written for GIS.

A cell on a border belongs to both units, each by the exact share of its area inside, and its people with it.
"""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyogrio
import shapely
from affine import Affine
from rasterio.errors import RasterioIOError

from geopov._validation import atomic_path, check_columns, check_unique, some, still_gpkg_date
from geopov.errors import MapError
from geopov.grid import CellGrid
from geopov.maps.density.population import Population
from geopov.maps.density.weights import resample_to
from geopov.maps.density.zone_cells import fractions_of, people_shares
from geopov.maps.density.zone_geometry import only_polygons, reproject
from geopov.maps.read import RasterMap, read_vector

Floats = npt.NDArray[np.float64]

# Shares of cells in polygons take some 100 bytes a cell while they are made.
_CELLS_PER_STRIP = 2_000_000

# No quantity on Earth comes near; nodata values that a file does not declare do, such as -3.4e38.
_SENTINEL = 1e30

_FID, _GEOMETRY = "fid", "geom"


def aggregate(
    values: Path | str,
    population: Population | Path | str,
    polygons: gpd.GeoDataFrame | Path | str,
    *,
    id_column: str,
    bands: Sequence[str] | None = None,
    population_band: str | None = None,
    nodata: float | None = None,
    population_nodata: float | None = None,
) -> pd.DataFrame:
    """Population-weighted means of a map's bands over polygons, cells on a border shared by exact area.

    The population gives the grid: people are taken to be spread evenly over each cell (over its part inside the
    census zones, where that is known). Where the map of values lies on another grid, a population cell has the
    area-weighted mean of the valid values in it, and is covered if there are any.

    The mean of a band of lower bounds is a mean bound, not the lower bound of the mean: errors that are not the same
    everywhere partly cancel, so it is too wide.

    Parameters
    ----------
    values : path
        Map whose bands are averaged, in any CRS.
    population : Population or path
        People per cell (not per km²); missing means nobody. A raster's cells must be square in its CRS, which may be
        in degrees.
    polygons : GeoDataFrame or path
        Units in any CRS; they may overlap or leave gaps.
    id_column : str
        Names a unit; unique.
    bands : sequence of str, optional
        Bands of ``values`` to average; default all.
    population_band : str, optional
        Default: the band ``people``, or the only one.
    nodata, population_nodata : float, optional
        Missing value that replaces what the files say. NaN, infinity and values beyond 1e30 are always missing.

    Returns
    -------
    DataFrame
        One row a unit, in the order of ``polygons``: ``id_column`` (str); ``people`` (persons); and for each band its
        mean over the people covered (unit of the band, NaN where there are none) and ``<band>_covered``, the share of
        the unit's people in cells with a value (0 to 1, NaN where nobody lives). ``attrs["notes"]`` says how many of
        all people the units hold, and names units without people, without values, and partly covered.

    Raises
    ------
    MapError
        If a file, band or column is missing, polygons have no CRS or are none, ids repeat or are missing, people are
        negative, or the two maps do not meet.
    """
    units = _read_units(polygons, id_column)
    if isinstance(population, Population):
        grid, people, name = population.grid, np.nan_to_num(population.people, nan=0.0), "the population"
        inside, total = population.inside, population.total
    else:
        grid, people = _read_people(population, population_band, population_nodata)
        name, inside, total = Path(population).name, None, float(people.sum())
    names, known = _read_values(values, grid, bands, nodata, (id_column, "people"))
    layers = [people]
    for value in known:
        covered = np.isfinite(value)
        layers += [np.where(covered, people, 0.0), np.where(covered, value, 0.0) * people]
    sums = _sums(units, grid, layers, np.ones(people.shape) if inside is None else inside)
    table = pd.DataFrame({id_column: units[id_column], "people": sums[0]})
    with np.errstate(invalid="ignore", divide="ignore"):
        for band, covered_people, weighted in zip(names, sums[1::2], sums[2::2], strict=True):
            table[band] = weighted / covered_people
            table[f"{band}_covered"] = covered_people / sums[0]
    table.attrs["notes"] = _coverage_notes(table, id_column, names, total, name)
    return table


def match(
    units: pd.DataFrame, estimates: pd.DataFrame, *, id_column: str, area_column: str = "area", loose: bool = False
) -> pd.DataFrame:
    """Units of a map joined with a table of direct estimates by name; whatever has no partner stays, and is named.

    Parameters
    ----------
    units : DataFrame
        As of :func:`aggregate`: one row a unit, named by ``id_column``.
    estimates : DataFrame
        One row an area, named by ``area_column``.
    id_column, area_column : str
        Unique in their tables.
    loose : bool
        Compare without case, accents, spaces and punctuation; default exactly.

    Returns
    -------
    DataFrame
        ``area`` (the unit's name, or the estimate's where there is no unit), the columns of ``units``, then those of
        ``estimates``; NaN where there is no partner. Units first, in their order. ``attrs["notes"]`` counts and names
        both kinds without partner, with the nearest name of the other kind.

    Raises
    ------
    MapError
        If names repeat or are missing, also once simplified, a column stands in both tables, or no name agrees.
    """
    left, names = _named(units, id_column, "the table of units", loose)
    right, areas = _named(estimates, area_column, "the table of estimates", loose)
    shared = [column for column in left.columns if column in right.columns or column == "area"]
    if shared or "area" in right.columns:
        raise MapError(f"the column {some(shared or ['area'])} would stand twice in the joined table; rename it first.")
    lone_units, lone_areas = names[~names.index.isin(areas.index)], areas[~areas.index.isin(names.index)]
    if len(lone_units) == len(names):
        raise MapError(
            f"no name of the units ({some(names)}) is among the estimates ({some(areas)}). Are both of one country and "
            "level, and are these the right columns? loose=True compares without case, accents and punctuation."
        )
    order = names.index.append(lone_areas.index)
    joined = pd.concat([left.reindex(order), right.reindex(order)], axis=1)
    joined.insert(0, "area", [*names, *lone_areas])
    joined = joined.reset_index(drop=True)
    joined.attrs["notes"] = [
        *_lone("units without a direct estimate", lone_units, areas),
        *_lone("estimates without a unit on the map", lone_areas, names),
    ]
    return joined


def write_admin(
    table: pd.DataFrame, path: Path | str, *, polygons: gpd.GeoDataFrame | Path | str, id_column: str
) -> tuple[Path, Path]:
    """Write a table of units as GeoPackage (layer ``admin``) and, beside it, as CSV; a repeat gives the same bytes.

    Parameters
    ----------
    table : DataFrame
        One row a unit, named by its first column; numbers, text and booleans.
    path : path
        Ends in .gpkg; the CSV has the same stem.
    polygons : GeoDataFrame or path
        The units' polygons. Rows without one have no geometry, so that none is lost.
    id_column : str
        Names a unit in ``polygons``.

    Returns
    -------
    gpkg, csv : Path
        What was written.

    Raises
    ------
    MapError
        If the path is no .gpkg, no row has a polygon, or a column's name is one that the GeoPackage needs.
    """
    path = Path(path)
    if path.suffix != ".gpkg":
        raise MapError(f"the table is written as a GeoPackage with a CSV beside it; {path.name} must end in .gpkg.")
    taken = [column for column in table.columns if str(column).lower() in (_FID, _GEOMETRY)]
    if taken or not table.columns.map(str).str.lower().is_unique:
        raise MapError(
            f"columns {some(taken or table.columns)} clash in a GeoPackage, which ignores case; rename them."
        )
    units = _read_units(polygons, id_column).set_index(id_column)
    key = table.columns[0]
    ids = table[key].astype(str)
    if not ids.isin(units.index).any():
        raise MapError(f"no row of the table ({some(ids)}) has a polygon ({some(units.index)}); is {key!r} the unit?")
    flat = table.assign(**{key: ids}).reset_index(drop=True)
    flat.attrs = {}
    csv = path.with_suffix(".csv")
    with atomic_path(csv) as partial:
        flat.to_csv(partial, index=False, float_format="%.10g", lineterminator="\n")
    shapes = gpd.GeoSeries(units.geometry.reindex(ids).to_numpy(), crs=units.crs)
    with atomic_path(path) as partial:
        _write_gpkg(gpd.GeoDataFrame(flat, geometry=shapes), partial)
    return path, csv


def _write_gpkg(table: gpd.GeoDataFrame, path: Path) -> None:
    """One layer."""
    options = {"FID": _FID, "GEOMETRY_NAME": _GEOMETRY}
    with still_gpkg_date():
        pyogrio.write_dataframe(table, path, layer="admin", driver="GPKG", promote_to_multi=True, layer_options=options)


def _read_units(polygons: gpd.GeoDataFrame | Path | str, id_column: str) -> gpd.GeoDataFrame:
    """Polygons with a CRS and unique ids of type str, repaired where their outlines cross."""
    units = polygons if isinstance(polygons, gpd.GeoDataFrame) else read_vector(polygons, "polygons")
    check_columns(units, [id_column], "the table of polygons", MapError)
    if units.crs is None:
        raise MapError("the polygons have no CRS; set it, for example polygons.set_crs('EPSG:4326').")
    ids = _ids(units[id_column], "the table of polygons")
    shapes = units.geometry.to_numpy()
    flat = ~np.isin(shapely.get_type_id(shapes), (3, 6)) | shapely.is_empty(shapes)
    if flat.any() or len(units) == 0:
        raise MapError(
            f"{int(flat.sum())} of {len(units)} units are no polygons ({some(ids[flat])}); drop or fix them."
        )
    broken = ~shapely.is_valid(shapes)
    shapes = shapes.copy()
    shapes[broken] = only_polygons(shapely.make_valid(shapes[broken]))
    return gpd.GeoDataFrame({id_column: ids}, geometry=shapes, crs=units.crs)


def _ids(column: pd.Series, what: str) -> pd.Series:
    if column.isna().any():
        raise MapError(f"{int(column.isna().sum())} rows of {what} have no {column.name}; give each one, or drop them.")
    # A missing value elsewhere turns whole numbers into floats, whose text is another name.
    if pd.api.types.is_float_dtype(column) and (column == column.round()).all():
        column = column.astype("int64")
    ids = column.astype(str).reset_index(drop=True)
    check_unique(ids, what, MapError)
    return ids


def _read_people(path: Path | str, band: str | None, nodata: float | None) -> tuple[CellGrid, Floats]:
    with RasterMap.open(path) as source:
        if band is None and source.count > 1 and "people" not in source.band_names:
            raise MapError(f"{path} has the bands {some(source.band_names, 20)}; name the one of people per cell.")
        transform = source.source.transform
        if abs(transform.a + transform.e) > 1e-6 * transform.a:
            raise MapError(f"{path} has cells of {transform.a:g} x {-transform.e:g}; resample it to square ones.")
        grid = CellGrid(source.crs, Affine(*transform[:6]), source.source.width, source.source.height)
        number = 1 if band is None and source.count == 1 else _number(source, band or "people")
        people = np.nan_to_num(_read_band(source, number, nodata), nan=0.0)
    if (people < 0).any():
        raise MapError(
            f"{path} has {int((people < 0).sum())} cells of negative people (the least is {people.min():g}); if that "
            "marks missing cells, pass it as population_nodata."
        )
    return grid, people


def _read_values(
    path: Path | str, grid: CellGrid, bands: Sequence[str] | None, nodata: float | None, taken: Sequence[str]
) -> tuple[list[str], list[Floats]]:
    """Names of the bands, none of them among those taken, and their values (height, width) on the grid."""
    with RasterMap.open(path) as source:
        names = list(source.band_names if bands is None else bands)
        numbers = [_number(source, name) for name in names]
        columns = [*taken, *(column for name in names for column in (name, f"{name}_covered"))]
        if twice := sorted({column for column in columns if columns.count(column) > 1}):
            raise MapError(f"the column {some(map(repr, twice))} would stand twice in the table; choose other bands.")
        size = (source.source.width, source.source.height) == (grid.width, grid.height)
        if size and source.crs == grid.crs and source.source.transform.almost_equals(grid.transform, 1e-9):
            return names, [_read_band(source, number, nodata) for number in numbers]
    return names, [resample_to(grid, path, band=number, nodata=nodata) for number in numbers]


def _number(source: RasterMap, name: str) -> int:
    number = source.band_number(name)
    if number is None:
        raise MapError(f"{source.path} has no band {name!r}; it has {some(source.band_names, 20)}.")
    return number


def _read_band(source: RasterMap, number: int, nodata: float | None) -> Floats:
    """A band at full resolution, NaN where missing."""
    try:
        raw = source.source.read(number, masked=nodata is None)
    except RasterioIOError as error:
        raise MapError(f"{source.path} cannot be read, it may be cut short: {error}") from error
    values = np.ma.filled(raw.astype(np.float64), np.nan)
    if nodata is not None:
        # Compared in the file's own type: a nodata value written in decimals is rounded as the cells were.
        values[raw == raw.dtype.type(nodata)] = np.nan
    return np.asarray(np.where(np.abs(values) < _SENTINEL, values, np.nan))


def _sums(units: gpd.GeoDataFrame, grid: CellGrid, layers: Sequence[Floats], inside: Floats) -> Floats:
    """Sums (layer, unit) of cells by their people's share in each unit, some rows of the grid at a time."""
    shapes = gpd.GeoSeries(reproject(units.geometry, grid.crs, piece_m=250.0), crs=grid.crs)
    sums, across = np.zeros((len(layers), len(units))), grid.transform
    for first, last in grid.strips(max(1, _CELLS_PER_STRIP // grid.width)):
        down = Affine(across.a, 0, across.c, 0, across.e, across.f + first * across.e)
        part = CellGrid(grid.crs, down, grid.width, last - first)
        share = people_shares(fractions_of(shapes, part), inside[first:last])
        for row, layer in zip(sums, layers, strict=True):
            row += share @ layer[first:last].ravel()
    return sums


def _coverage_notes(table: pd.DataFrame, id_column: str, bands: Sequence[str], total: float, name: str) -> list[str]:
    inside = float(table["people"].sum())
    share = f" ({inside / total:.2%})" if total > 0 else ""
    notes = [f"the units hold {inside:,.0f} of the {total:,.0f} people of {name}{share}"]
    empty = ~(table["people"] > 0)
    if empty.any():
        notes.append(f"{int(empty.sum())} units without people: {some(table.loc[empty, id_column])}")
    for band in bands:
        covered = table[f"{band}_covered"]
        for what, of in (("without any", covered == 0), ("with only some", (covered > 0) & (covered < 1 - 1e-9))):
            if of.any():
                notes.append(
                    f"{int(of.sum())} units {what} of their people covered by {band}: {some(table.loc[of, id_column])}"
                )
    return notes


def _named(table: pd.DataFrame, column: str, what: str, loose: bool) -> tuple[pd.DataFrame, pd.Series]:
    """The table without its names, and the names, both indexed by what is compared."""
    check_columns(table, [column], what, MapError)
    names = _ids(table[column], what)
    names.index = pd.Index(names.map(_simplified) if loose else names)
    twice = names[names.index.duplicated(keep=False)]
    if len(twice):
        raise MapError(
            f"{what} has names that differ only by case, accents or punctuation: {some(twice)}; rename them."
        )
    rest = pd.DataFrame(table.drop(columns=column)).set_index(names.index)
    rest.attrs = {}
    return rest, names


def _simplified(name: str) -> str:
    plain = unicodedata.normalize("NFKD", name).casefold()
    return "".join(letter for letter in plain if letter.isalnum())


def _lone(what: str, lone: pd.Series, others: pd.Series) -> list[str]:
    """A line that counts and names those without a partner, each with the nearest name it could have."""
    if not len(lone):
        return []
    near = {name: difflib.get_close_matches(name, list(others), n=1, cutoff=0.75) for name in lone}
    named = some([f"{name} ({near[name][0]}?)" if near[name] else name for name in lone], limit=20)
    return [f"{len(lone)} {what}: {named}"]
