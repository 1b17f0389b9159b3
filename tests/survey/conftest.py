from __future__ import annotations

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from shapely.geometry import box


@pytest.fixture
def survey_table() -> pd.DataFrame:
    """Six clusters around Lesotho as a statistics office would write them, one at (0, 0) and one without a value."""
    return pd.DataFrame(
        {
            "DHSCLUST": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
            "LATNUM": [-29.1, -29.2, -29.3, -29.4, 0.0, -29.6],
            "LONGNUM": [27.1, 27.2, 27.3, 27.4, 0.0, 27.6],
            "URBAN_RURA": ["U", "R", "R", "U", "R", "R"],
            "DHSYEAR": [2014.0, 2014.0, 2009.0, 2014.0, 2014.0, 2014.0],
            "wealth": [0.5, -0.5, -0.25, 1.5, 0.0, np.nan],
            "region": ["A", "B", "A", "A", "B", "B"],
        }
    )


@pytest.fixture
def columns() -> dict[str, str]:
    return {"id_column": "DHSCLUST", "lon_column": "LONGNUM", "lat_column": "LATNUM"}


@pytest.fixture
def country(tmp_path):
    """Two districts of two municipalities of two wards each, as files: a square country with a census by name.

    Both districts have a Kalika; Haripur and Haripurwa differ by two letters; ward 2 of Haripur comes in two pieces.
    """
    municipalities = {"Kalika": (0, 0), "Bheri Malika": (2, 0), "Kaalika": (10, 0), "Haripur": (12, 0)}
    zones = gpd.GeoDataFrame(
        {"name": list(municipalities)},
        geometry=[box(80 + x / 10, 27 + y / 10, 80.2 + x / 10, 27.1) for x, y in municipalities.values()],
        crs="EPSG:4326",
    )
    districts = gpd.GeoDataFrame(
        {"name": ["West", "East"]}, geometry=[box(80, 27, 80.4, 27.1), box(81, 27, 81.4, 27.1)], crs="EPSG:4326"
    )
    wards = []
    for x, _ in municipalities.values():
        west = 80 + x / 10
        wards += [("1", box(west, 27, west + 0.1, 27.1)), ("02", box(west + 0.1, 27, west + 0.2, 27.1))]
    number, shape = wards.pop()
    west, south, east, north = shape.bounds
    wards += [(number, box(west, south, east, 27.05)), ("२", box(west, 27.05, east, north))]
    wards += [("1", box(90, 27, 90.1, 27.1))]
    polygons = gpd.GeoDataFrame(
        {"osm": [f"way/{i}" for i in range(len(wards))], "ward": [number for number, _ in wards]},
        geometry=[shape for _, shape in wards],
        crs="EPSG:4326",
    )
    census = pd.DataFrame(
        [
            (7, 1, "Haripur Municipality", 1, 1000),
            (7, 1, "Haripur Municipality", 2, 2000),
            (7, 2, "Kalika Gaunpalika", 1, 300),
            (7, 2, "Kalika Gaunpalika", 2, 0),
            (3, 1, "Bheri Municipality", 1, 500),
            (3, 1, "Bheri Municipality", 2, 600),
            (3, 2, "Kalika Gaunpalika", 1, 700),
            (3, 2, "Kalika Gaunpalika", 2, 800),
            (3, 2, "Kalika Gaunpalika", 3, 900),
        ],
        columns=["district", "municipality", "label", "ward_no", "people"],
    )
    recipe = """
country: Nepal
year: 2021
polygons: {input: wards, name: osm, key: [ward]}
zones: {input: zones, name: name, groups: districts}
counts:
  input: census
  key: [ward_no]
  population: people
  zone: [district, municipality]
  zone_name: label
  zone_group: district
names: {drop: [gaunpalika, municipality], replace: [[aa, a]]}
"""
    inputs = {key: tmp_path / f"{key}.parquet" for key in ("wards", "zones", "districts")}
    for key, table in zip(inputs, (polygons, zones, districts), strict=True):
        table.to_parquet(inputs[key])
    inputs["census"] = tmp_path / "census.csv"
    census.to_csv(inputs["census"], index=False)
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe)
    return path, inputs
