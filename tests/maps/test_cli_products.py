"""From a census and predicted welfare to people, poor and admin units, through the command line, in a made-up place."""

from __future__ import annotations

import json

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
from rio_cogeo.cogeo import cog_validate
from scipy.ndimage import gaussian_filter
from shapely.geometry import box
from typer.testing import CliRunner

from geopov.cli.maps import app
from geopov.errors import MapError
from geopov.maps import check_product

SIDE, ZONE = 60, 10  # cells of a kilometre, zones of 10 km
WEST, NORTH = 200_000, 3_120_000
UNIT = "PPP USD per person per day"


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


@pytest.fixture
def country(make_map, tmp_path):
    """Lights that follow people, 36 zones with their counts in four districts, a lake, and predicted consumption."""
    rng = np.random.default_rng(2)
    smooth = gaussian_filter(rng.normal(size=(SIDE, SIDE)), 4)
    people = np.exp(3 + 1.5 * smooth / smooth.std())
    light = np.maximum(people / 20 + rng.normal(0, 0.05, people.shape), 0)
    make_map({"radiance": light}, "lights.tif", units="nW/cm²/sr")
    mean = 0.8 + 0.3 * smooth / smooth.std()
    bands = {"mean": mean, "lower": mean - 0.5, "upper": mean + 0.5, "in_support": np.ones_like(mean)}
    tags = {"style": "log_consumption", "title": "Consumption", "interval": "90%", "transform": "none", "year": "2021"}
    make_map(bands, "welfare.tif", units=f"ln({UNIT})", tags=tags | {"source": "a survey"})
    rows = []
    for y in range(0, SIDE, ZONE):
        for x in range(0, SIDE, ZONE):
            shape = box(WEST + x * 1000, NORTH - (y + ZONE) * 1000, WEST + (x + ZONE) * 1000, NORTH - y * 1000)
            district = f"{'N' if y < SIDE / 2 else 'S'}{'W' if x < SIDE / 2 else 'E'}"
            rows.append((f"z{y}-{x}", district, round(people[y : y + ZONE, x : x + ZONE].sum()), shape))
    zones = gpd.GeoDataFrame(rows, columns=["code", "district", "people", "geometry"], crs="EPSG:32645")
    zones.to_file(tmp_path / "zones.gpkg")
    zones.dissolve("district", as_index=False)[["district", "geometry"]].to_file(tmp_path / "districts.gpkg")
    lake = box(WEST + 11_500, NORTH - 18_500, WEST + 18_500, NORTH - 11_500)
    gpd.GeoDataFrame({"name": ["lake"]}, geometry=[lake], crs="EPSG:32645").to_file(tmp_path / "lake.gpkg")
    return tmp_path, people, zones


def density(folder, method, out, *options):
    words = [
        "--id",
        "code",
        "--count",
        "people",
        "--like",
        folder / "welfare.tif",
        "--title",
        "People",
        "--source",
        "a census",
    ]
    words += ["--year", 2021, "--water", folder / "lake.gpkg", "--method", method]
    return run("density", folder / "zones.gpkg", *words, *options, "-o", folder / out)


def test_people_of_every_method_add_up_to_the_census(country):
    folder, people, zones = country
    lights = folder / "lights.tif"
    density(folder, "equal_area", "equal.tif")
    density(folder, "proportional", "light.tif", "--raster", lights)
    density(folder, "settlement", "settled.tif", "--raster", lights)
    printed = density(folder, "learned", "learned.tif", "--lights", lights, "--group", "district")
    assert "learned density" in printed
    error = {}
    for name in ("equal", "light", "settled", "learned"):
        path = folder / f"{name}.tif"
        assert cog_validate(path)[0]
        assert check_product(path) == []
        with rasterio.open(path) as raster:
            found = raster.read(1)
            assert np.nansum(found, dtype=float) == pytest.approx(zones["people"].sum(), rel=1e-6)
            # Cells wholly in the lake are empty; those on its shore are not.
            assert np.nansum(found[12:18, 12:18]) == 0
            assert raster.descriptions[:2] == ("people", "density")
        error[name] = np.nanmean(np.abs(found - people))
    assert error["learned"] < error["equal"]
    assert error["light"] < error["equal"]
    with rasterio.open(folder / "learned.tif") as raster:
        assert raster.descriptions == ("people", "density", "lower", "upper")
        assert raster.tags()["interval"] == "90%"


def test_a_method_must_get_what_it_needs_and_no_more(country):
    folder, _, _ = country
    with pytest.raises(MapError, match="proportional needs a raster"):
        density(folder, "proportional", "x.tif")
    with pytest.raises(MapError, match="learned needs covariates"):
        density(folder, "learned", "x.tif")
    with pytest.raises(MapError, match="equal_area uses no covariates"):
        density(folder, "equal_area", "x.tif", "--lights", folder / "lights.tif")
    with pytest.raises(MapError, match="settlement uses no groups"):
        density(folder, "settlement", "x.tif", "--raster", folder / "lights.tif", "--group", "district")
    with pytest.raises(MapError, match="no column 'province'"):
        density(folder, "learned", "x.tif", "--lights", folder / "lights.tif", "--group", "province")
    assert not (folder / "x.tif").exists()


def test_from_consumption_to_poor_people_by_district(country):
    folder, _, zones = country
    density(folder, "learned", "people.tif", "--lights", folder / "lights.tif", "--group", "district")
    welfare, people = folder / "welfare.tif", folder / "people.tif"
    line = ["--line", 2.15, "--line-unit", UNIT, "--within-sd", 0.55]
    run("consumption", welfare, "-o", folder / "consumption.tif")
    for index in ("headcount", "gap", "severity"):
        run("poverty", welfare, *line, "--index", index, "-o", folder / f"{index}.tif")
    run("quintiles", welfare, "--population", people, "-o", folder / "quintile.tif")
    options = ["--correlation-km", 10, "--draws", 60, "--units", folder / "districts.gpkg", "--id", "district"]
    options += ["--zones", folder / "zones.gpkg", "--zones-id", "code", "--zones-count", "people"]
    printed = run("poor", welfare, "--population", people, *line, *options, "-o", folder / "poor.tif")
    with rasterio.open(folder / "poor.tif") as raster:
        assert raster.tags()["constrained"] == "zones"
    with pytest.raises(MapError, match="--zones-count go together"):
        run("poor", welfare, "--population", people, *line, *options[:-2], "-o", folder / "x.tif")
    assert "NW" in printed

    values = {}
    for name in ("headcount", "gap", "severity", "consumption", "poor"):
        assert check_product(folder / f"{name}.tif") == []
        with rasterio.open(folder / f"{name}.tif") as raster:
            value, lower, upper = raster.read([1, 2, 3])
        assert np.all((lower <= value) & (value <= upper)), name
        values[name] = value
    assert np.all(values["severity"] <= values["gap"])
    assert np.all(values["gap"] <= values["headcount"])
    with rasterio.open(people) as raster:
        counted = raster.read(1)
    np.testing.assert_allclose(values["poor"], counted * values["headcount"], rtol=0.02)
    table = pd.read_csv(folder / "poor.csv")
    assert table["people"].sum() == pytest.approx(zones["people"].sum(), rel=1e-6)
    assert table["poor"].sum() == pytest.approx(values["poor"].sum(dtype=float), rel=1e-5)
    assert (table["lower"] < table["poor"]).all()

    with pytest.raises(MapError, match="per year"):
        run(
            "poverty",
            welfare,
            "--line",
            785,
            "--line-unit",
            "PPP USD per person per year",
            *line[4:],
            "-o",
            folder / "x.tif",
        )
    with pytest.raises(MapError, match="--within-sd is 'wide'"):
        run("poverty", welfare, *line[:4], "--within-sd", "wide", "-o", folder / "x.tif")


def test_admin_units_alone_and_with_direct_estimates(country):
    folder, _, zones = country
    density(folder, "equal_area", "people.tif")
    run(
        "poverty",
        folder / "welfare.tif",
        "--line",
        2.15,
        "--line-unit",
        UNIT,
        "--within-sd",
        0.55,
        "-o",
        folder / "h.tif",
    )
    base = ["admin", folder / "h.tif", "--population", folder / "people.tif", "--units", folder / "zones.gpkg"]
    base += ["--id", "code", "--band", "headcount"]
    run(*base, "-o", folder / "units.gpkg")
    units = pd.read_csv(folder / "units.csv")
    assert units["people"].sum() == pytest.approx(zones["people"].sum(), rel=1e-6)

    rng = np.random.default_rng(0)
    asked = units.iloc[:-6]
    direct = pd.DataFrame({"area": asked["code"], "n": 40, "psus": 4, "variance": 0.003})
    direct["estimate"] = (asked["headcount"] + rng.normal(0, 0.055, len(asked))).clip(0.01, 0.99)
    direct.to_csv(folder / "direct.csv", index=False)
    options = ["--direct", folder / "direct.csv", "--benchmark", 0.4]
    printed = run(*base, *options, "-o", folder / "combined.gpkg")
    assert "benchmarked to 0.4" in printed
    combined = pd.read_csv(folder / "combined.csv")
    assert len(combined) == len(units)
    assert np.average(combined["benchmarked"], weights=units["people"]) == pytest.approx(0.4)
    assert combined["eblup_cv"].median() < combined["direct_cv"].median()
    assert gpd.read_file(folder / "combined.gpkg").geometry.notna().all()
    with pytest.raises(MapError, match="give those with --direct"):
        run(*base, "--benchmark", 0.4, "-o", folder / "x.gpkg")

    run(
        "page", folder / "h.tif", "--admin", folder / "combined.gpkg", "--admin-column", "benchmarked",
        "--unit", "share of people", "-o", folder / "page.html",
    )  # fmt: skip
    page = (folder / "page.html").read_text()
    assert "Poverty headcount" in page
    assert "z0-10" in page
    with pytest.raises(MapError, match="--admin with --admin-column"):
        run("page", folder / "h.tif", "--admin", folder / "combined.gpkg", "-o", folder / "x.html")


def test_paper_and_catalogue(make_map, tmp_path):
    tags = {"style": "density", "title": "Density", "source": "A census", "year": "2021"}
    path = make_map({"density": np.linspace(1, 900, 600).reshape(20, 30)}, units="people per km²", tags=tags)
    run("print", path, "-o", tmp_path / "sheet.pdf", "--page", "A4")
    assert (tmp_path / "sheet.pdf").read_bytes().startswith(b"%PDF")
    words = ["--id", "nepal", "--title", "Nepal", "--description", "Density of population"]
    run("stac", path, *words, "-o", tmp_path / "stac")
    item = json.loads((tmp_path / "stac" / "map.json").read_text())
    assert item["properties"]["start_datetime"].startswith("2021")
    run("project", tmp_path, "--title", "Nepal")
    assert (tmp_path / "project.qgz").exists()
