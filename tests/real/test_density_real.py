"""Real counts summed to coarse zones and taken apart again: what each method recovers of what it was not shown."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely

from geopov.grid import CellGrid
from geopov.maps.density.population import allocate
from geopov.maps.density.weights import equal_area, proportional, resample_to
from geopov.maps.density.zones import ZoneCells, read_zones, zone_cells
from geopov.raster import Scene

pytestmark = pytest.mark.real

LESOTHO = (27.0, -30.7, 29.5, -28.5)


def squares(grid: CellGrid, known: np.ndarray, side_km: float) -> gpd.GeoDataFrame:
    """Squares of this side, as many whole cells, wherever anything is known."""
    step = round(side_km * 1000 / grid.cell_m)
    west, _, _, north = grid.bounds
    boxes = []
    for row in range(0, grid.height, step):
        for column in range(0, grid.width, step):
            if known[row : row + step, column : column + step].any():
                last_row, last_column = min(row + step, grid.height), min(column + step, grid.width)
                left, right = west + column * grid.cell_m, west + last_column * grid.cell_m
                boxes.append(shapely.box(left, north - last_row * grid.cell_m, right, north - row * grid.cell_m))
    return gpd.GeoDataFrame({"name": [f"square {i}" for i in range(len(boxes))]}, geometry=boxes, crs=grid.crs)


def with_counts(shapes: gpd.GeoDataFrame, grid: CellGrid, people: np.ndarray) -> ZoneCells:
    """The zones on the grid, with the people of the cells in them; the country is the land, for every method."""
    land = np.isfinite(people).astype(float)
    bare = zone_cells(read_zones(shapes.assign(people=0.0), id_column="name", count_column="people"), grid, land=land)
    counted = shapes.assign(people=bare.fraction @ np.nan_to_num(people).ravel())
    return zone_cells(read_zones(counted, id_column="name", count_column="people"), grid, land=land)


def scores(truth: np.ndarray, predicted: np.ndarray) -> tuple[float, float]:
    """R² (coefficient of determination) and mean absolute error over the cells of the country."""
    inside = np.isfinite(truth)
    error = predicted[inside] - truth[inside]
    return 1 - (error**2).sum() / ((truth[inside] - truth[inside].mean()) ** 2).sum(), float(np.abs(error).mean())


@pytest.fixture
def lesotho(real_data):
    """GHS-POP and VIIRS radiance on a grid, and the zones its people are summed to."""

    def make(cell_m: float, zones: str):
        grid = CellGrid.from_bounds(LESOTHO, cell_m=cell_m)
        people = resample_to(grid, real_data / "lesotho" / "ghs_pop_250m.tif", how="sum")
        radiance = resample_to(grid, real_data / "lesotho" / "viirs_nightlights.tif")
        known = np.isfinite(people)
        if zones == "squares":
            shapes = squares(grid, known, 10)
        else:
            centres = gpd.read_file(real_data / "lesotho" / "settlements.geojson").to_crs(grid.crs).centroid
            cells = shapely.voronoi_polygons(
                shapely.MultiPoint(centres.to_numpy()), extend_to=shapely.box(*grid.bounds)
            )
            parts = shapely.intersection(shapely.get_parts(cells), shapely.box(*grid.bounds))
            shapes = gpd.GeoDataFrame({"name": range(len(parts))}, geometry=parts, crs=grid.crs)
        return grid, people, radiance, with_counts(shapes, grid, people)

    return make


@pytest.mark.parametrize("cell_m", [250, 1000])
def test_no_one_is_lost_between_projections(real_data, cell_m):
    """GHS-POP in ESRI:54009, 2,135,184 people, to cells in UTM: 0.1% was asked for, rounding is what remains."""
    path = real_data / "lesotho" / "ghs_pop_250m.tif"
    people = resample_to(CellGrid.from_bounds(LESOTHO, cell_m=cell_m), path, how="sum")
    assert np.nansum(people) == pytest.approx(2_135_183.955, rel=1e-8)


# R² and MAE (people per cell) as measured: equal area, then proportional to radiance + 0.1. Both know the border.
@pytest.mark.parametrize(
    ("zones", "cell_m", "n_zones", "equal", "lights"),
    [
        ("squares", 250, 354, (0.052, 6.91), (0.139, 6.14)),
        ("squares", 1000, 355, (0.140, 92.2), (0.353, 78.4)),
        ("voronoi", 1000, 1752, (0.346, 75.5), (0.454, 68.2)),
    ],
)
def test_lights_beat_equal_area_in_lesotho(lesotho, zones, cell_m, n_zones, equal, lights):
    grid, truth, radiance, cells = lesotho(cell_m, zones)
    assert len(cells.zones) == n_zones
    assert cells.zones.total == pytest.approx(2_135_183.955, rel=1e-8)
    for weights, measured in ((equal_area(grid), equal), (proportional(radiance, offset=0.1), lights)):
        result = allocate(cells, weights)
        assert result.total == pytest.approx(cells.zones.total, rel=1e-9)
        np.testing.assert_allclose(result.zones["allocated"], cells.zones.counts, rtol=1e-9)
        assert scores(truth, result.people) == pytest.approx(measured, rel=0.01)
    assert lights[0] > equal[0]
    assert lights[1] < equal[1]


def test_nigeria_is_taken_apart_and_put_together(real_data):
    """The population raster summed to squares of 100 km, and shared again by the published wealth map.

    Wealth is an index around 0, so its exponential is the weight: a first guess, not fitted to the truth.
    """
    folder = real_data / "nigeria"
    scene = Scene.open(folder / "population.tif")
    grid = CellGrid(scene.crs, scene.transform, scene.width, scene.height)
    truth = resample_to(grid, scene, how="sum")
    wealth = resample_to(grid, folder / "published_wealth_2012_2014_msnl.tif")
    cells = with_counts(squares(grid, np.isfinite(truth), 100), grid, truth)
    assert len(cells.zones) == 121
    by_area, by_wealth = allocate(cells, equal_area(grid)), allocate(cells, np.exp(wealth))
    for result in (by_area, by_wealth):
        assert result.total == pytest.approx(np.nansum(truth), rel=1e-9)
        np.testing.assert_allclose(result.zones["allocated"], cells.zones.counts, rtol=1e-9)
    assert scores(truth, by_area.people) == pytest.approx((0.130, 14.09), rel=0.01)
    assert scores(truth, by_wealth.people) == pytest.approx((0.380, 12.17), rel=0.01)
    # On its own grid the raster comes back as it was, pixel by pixel.
    with rasterio.open(folder / "population.tif") as source:
        np.testing.assert_allclose(truth, source.read(1), rtol=1e-6)
