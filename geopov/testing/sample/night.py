"""Nightlights as a sensor like VIIRS sees them: electric light of houses, blurred, in cells of 15 arc-seconds."""

from __future__ import annotations

import math

import numpy as np
from affine import Affine
from scipy import ndimage
from scipy.special import expit

from geopov.testing.sample.fields import CELL_M, Floats, Place, smooth_noise
from geopov.testing.sample.people import People

__all__ = ["NOISE_FLOOR", "STEP_DEGREES", "draw_lights"]

STEP_DEGREES = 1 / 240
NOISE_FLOOR = 0.3
"""nW/cm²/sr: three standard deviations of the sensor's noise; what lies below is darkness."""

_HOUSE = 0.08
_SPREAD_M = 350.0


def draw_lights(rng: np.random.Generator, people: People, place: Place) -> tuple[Floats, Affine]:
    """Radiance in nW/cm²/sr on a grid in longitude and latitude that covers the country, and the grid's transform.

    Houses have electric light by a logistic curve in wealth that leaves the poorer half of a country dark, sooner in
    towns, where the grid is. Light spreads over neighbouring cells (the sensor's footprint is wider than its cell), and
    utilities differ from district to district in how bright they light. Noise is as large where there is no light, so
    some cells are below zero.
    """
    n = len(people.wealth)
    at = people.houses.astype(np.intp)
    urban = people.urban[at[:, 0], at[:, 1]]
    wealth = people.house_wealth
    electric = rng.random(len(wealth)) < expit(3.0 * (wealth - np.where(urban, 0.1, 1.0)))
    emitted = np.zeros((n, n), dtype=np.float32)
    np.add.at(emitted, tuple(at.T), np.where(electric, _HOUSE * np.exp(0.35 * np.clip(wealth, -2, 3)), 0.0))
    emitted *= np.exp(0.25 * smooth_noise(rng, n, correlation_cells=60))
    # A sensor's cell takes in about 21 of ours.
    blurred = ndimage.gaussian_filter(emitted, _SPREAD_M / CELL_M) * (463 / CELL_M) ** 2

    grid, (height, width) = _lonlat_grid(place)
    lon = grid.c + STEP_DEGREES * (np.arange(width) + 0.5)
    lat = grid.f - STEP_DEGREES * (np.arange(height) + 0.5)
    row, col = place.cells(*(axis.ravel() for axis in np.meshgrid(lon, lat)))
    light = ndimage.map_coordinates(blurred, [row - 0.5, col - 0.5], order=1, mode="constant").reshape(height, width)
    radiance = light + NOISE_FLOOR / 3 * rng.standard_normal(light.shape)
    return radiance.astype(np.float32), grid


def _lonlat_grid(place: Place) -> tuple[Affine, tuple[int, int]]:
    lon, lat = place.border()
    west, north = math.floor(lon.min() / STEP_DEGREES), math.ceil(lat.max() / STEP_DEGREES)
    width = math.ceil(lon.max() / STEP_DEGREES) - west
    height = north - math.floor(lat.min() / STEP_DEGREES)
    return Affine(STEP_DEGREES, 0, west * STEP_DEGREES, 0, -STEP_DEGREES, north * STEP_DEGREES), (height, width)
