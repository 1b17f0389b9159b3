"""Traditional authorities of Northern Malawi: IHS5 and nightlights in an area-level model; see GEOPOV_REAL_DATA."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely

from geopov.maps.admin.publication import benchmark, publication_table
from geopov.maps.admin.small_area import fay_herriot
from geopov.maps.admin.units import aggregate, match, write_admin
from geopov.raster.write import write_cog
from geopov.survey.design import estimate
from geopov.survey.lsms import read_lsms
from geopov.survey.poverty import shortfalls

pytestmark = pytest.mark.real

MZUZU = 107


def area_of(authority: pd.Series) -> pd.Series:
    """Area of a code of five digits: the authority, but Mzuzu as one, for survey and census number its wards apart."""
    code = authority.astype(int)
    return code.where(code // 100 != MZUZU, MZUZU).astype(str)


@pytest.fixture
def centroids(real_data: Path) -> gpd.GeoDataFrame:
    """The 3,212 census enumeration areas, each with the area it lies in."""
    table = pd.read_csv(real_data / "malawi/mw4centroids.csv")
    points = gpd.points_from_xy(table["Longitude"], table["Latitude"], crs="EPSG:4326")
    return gpd.GeoDataFrame({"area": area_of(table["EA_CODE"] // 1000)}, geometry=points)


@pytest.fixture
def areas(centroids: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Authorities: Voronoi cells of the enumeration areas' centroids, at most 10 km around each, dissolved by code.

    Nobody publishes the outlines with these data; this is the ground nearer to an authority's centroids than to others.
    """
    points = centroids.to_crs("EPSG:32736")
    around = shapely.union_all(shapely.buffer(points.geometry.to_numpy(), 10_000))
    cells = shapely.voronoi_polygons(shapely.MultiPoint(points.geometry.to_numpy()), extend_to=around)
    table = gpd.GeoDataFrame(geometry=list(cells.geoms), crs=points.crs).sjoin(points, predicate="contains")
    assert len(table) == len(points)
    return table[["area", "geometry"]].clip(around).dissolve("area").reset_index()


@pytest.fixture
def population(real_data: Path, centroids: gpd.GeoDataFrame, tmp_path: Path) -> Path:
    """Enumeration areas per pixel of the nightlights: a census makes them of about equal numbers of people."""
    with rasterio.open(real_data / "malawi/ntl.tif") as lights:
        transform, shape = lights.transform, lights.shape
    column = np.floor((centroids.geometry.x - transform.c) / transform.a).astype(int)
    row = np.floor((centroids.geometry.y - transform.f) / transform.e).astype(int)
    count = np.zeros((1, *shape))
    np.add.at(count[0], (row, column), 1)
    options = {"crs": "EPSG:4326", "transform": transform, "height": shape[0], "width": shape[1]}
    return write_cog(tmp_path / "people.tif", [(0, count)], band_names=["people"], nodata=None, **options)


@pytest.fixture
def households(real_data: Path) -> pd.DataFrame:
    folder = real_data / "malawi"
    paths = {
        "households": folder / "ihs5_consumption_aggregate.dta",
        "locations": folder / "householdgeovariables_ihs5.dta",
    }
    table = read_lsms("malawi_ihs5_2019", **paths)
    raw = pd.read_stata(paths["households"], convert_categoricals=False)
    assert raw["case_id"].astype(str).tolist() == table["household_id"].tolist()
    poor = shortfalls(table["consumption_mwk"], table["poverty_line"])["poor"]
    return table.assign(area=area_of(raw["TA"]).to_numpy(), poor=poor)


def direct_estimates(households: pd.DataFrame) -> pd.DataFrame:
    found = estimate(households, "poor", by="area")
    columns = {"estimate": found["mean"], "variance": found["se"] ** 2, "n": found["n"], "psus": found["psus"]}
    return pd.DataFrame(columns).rename_axis("area").reset_index()


def test_headcount_of_traditional_authorities(
    real_data: Path, areas: gpd.GeoDataFrame, population: Path, households: pd.DataFrame, tmp_path: Path
) -> None:
    lights = aggregate(real_data / "malawi/ntl.tif", population, areas, id_column="area")
    lights = lights.set_axis(["authority", "people", "radiance", "covered"], axis=1)
    assert len(lights) == 62
    assert lights["people"].sum() == pytest.approx(3212)
    # Mzuzu is the one city, and its people live in its light.
    assert lights.set_index("authority")["radiance"].idxmax() == "107"
    lights["log_radiance"] = np.log(lights["radiance"] + 0.05)

    table = match(lights, direct_estimates(households), id_column="authority")
    assert len(table) == 62
    assert table["estimate"].notna().sum() == 47
    assert table["variance"].isna().sum() - table["estimate"].isna().sum() == 17
    assert table.attrs["notes"][0].startswith("15 units without a direct estimate: 10104")

    fit = fay_herriot(table, covariates=["log_radiance"], variances="all", limits=(0.0, 1.0))
    # Where there is light there are fewer poor, but light tells authorities apart only a little.
    slope = fit.coefficients.loc["log_radiance"]
    assert -0.05 < slope["estimate"] < -0.01
    assert fit.area_variance == pytest.approx(0.0128, abs=0.0003)
    north = float(estimate(households, "poor")["mean"].iloc[0])
    made = benchmark(fit.table, target=north)
    assert made.factors.loc["all", "factor"] == pytest.approx(0.989, abs=0.002)
    assert np.average(made.table["benchmarked"], weights=made.table["people"]) == pytest.approx(north, rel=1e-12)

    published = publication_table(made.table)
    asked = published[published["direct"].notna()]
    assert asked["direct_cv"].median() == pytest.approx(0.241, abs=0.003)
    assert asked["eblup_cv"].median() == pytest.approx(0.205, abs=0.003)
    assert (asked["eblup_rmse"] < asked["direct_se_used"]).mean() > 0.95
    assert asked["gain"].median() == pytest.approx(1.40, abs=0.03)
    assert (asked["direct_flag"] == "withhold").sum() == 11
    assert (asked["flag"] == "withhold").sum() == 7
    # Authorities that nobody asked are known too poorly to publish, and the table says so.
    assert (published.loc[published["direct"].isna(), "flag"] == "withhold").all()

    gpkg, csv = write_admin(published, tmp_path / "admin.gpkg", polygons=areas, id_column="area")
    back = gpd.read_file(gpkg)
    assert len(back) == 62
    assert back.geometry.notna().all()
    np.testing.assert_allclose(pd.read_csv(csv)["benchmarked"], published["benchmarked"], rtol=1e-9)


def test_districts_are_large_enough_to_speak_for_themselves(households: pd.DataFrame) -> None:
    found = estimate(households, "poor", by="stratum")
    table = pd.DataFrame(
        {"area": found.index, "estimate": found["mean"], "variance": found["se"] ** 2, "n": found["n"]}
    )
    fit = fay_herriot(table, covariates=[], likelihood="adjusted").table
    big = fit["n"] > 100
    assert big.sum() == 6
    # The model leaves them nearly alone, and draws the island with two clusters towards the others.
    assert (fit.loc[big, "gamma"] > 0.85).all()
    island = fit.loc[~big].iloc[0]
    assert island["gamma"] < 0.8
    assert island["eblup_mse"] < island["variance"]
