"""Nepal's census taken apart: people of 6,736 wards from counts of the 753 local levels, and of the 77 districts.

    python bench/density.py [--quick] [--cell-m METRES] [--catalog CATALOG]

Each method is given the counts of the larger areas and shares them over cells; the cells are added up to wards and
compared with the ward census, which no method sees. The learned model is trained on the same counts, from night lights,
a coarse elevation and position. Its kind, penalty and number of trees are chosen one level up: whole districts are held
out, their totals shared among their local levels, and compared with the counts of the local levels (for the counts by
district: provinces and districts). Wards take part in no choice. "Outlines" adds how large the small areas are, from
the polygons of the wards without any count: wards are drawn by population, so that their sizes tell of it. It is
trained with the sizes of local levels in their districts. There is a row for each method of tobler that runs, if it is
installed; where it wants classes or a mask, it gets radiance in steps, lit ground being above 0.3. Suspicious wards, 20
times denser or emptier than the median of their local level, stay in; scores without them stand below. Coverage is the
share of wards inside the 90% interval. The last line is JSON. Quick: from local levels only, on larger cells, with few
trees and folds, without tobler's slow methods.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import h5py
import numpy as np
import pandas as pd
import rasterio
from affine import Affine
from rasterio.warp import Resampling, reproject

import geopov as gp
from geopov.grid import CellGrid
from geopov.maps.density import covariates as layers_of
from geopov.maps.density import weights
from geopov.maps.density.model import PENALTIES, DensityModel, fit_density
from geopov.maps.density.population import allocate
from geopov.maps.density.zones import ZoneCells, Zones, read_zones, zone_cells

try:
    import tobler.area_weighted
    import tobler.dasymetric
    import tobler.model
    import tobler.pycno
except ImportError:
    tobler = None

REPOSITORY = Path(__file__).resolve().parents[1]
INPUTS = {
    "wards": "nepal_wards",
    "ward_number_fixes": "nepal_ward_number_fixes",
    "local_levels": "nepal_local_levels",
    "districts": "nepal_districts",
    "demographics_ward": "nepal_ward_census",
}
KINDS = ("loglinear", "ridge", "forest", "boosting")


@dataclass
class Nepal:
    """Polygons of three levels with their people; ``parent`` is the id one level up."""

    wards: gpd.GeoDataFrame
    local_levels: gpd.GeoDataFrame
    districts: gpd.GeoDataFrame
    suspicious: int


def read_nepal(catalog: gp.catalog.Catalog) -> Nepal:
    """Join polygons and census; the recipe names each ward's local level, its polygon is found the same way here."""
    paths = {key: catalog[name].path for key, name in INPUTS.items()}
    areas = gp.survey.build_areas(gp.survey.read_recipe(REPOSITORY / "pipelines/nepal_areas.yaml"), paths)
    local_levels, districts = gpd.read_parquet(paths["local_levels"]), gpd.read_parquet(paths["districts"])
    inside = gpd.sjoin(areas[["zone_id", "geometry"]], local_levels[["geometry"]], predicate="within")
    local_levels["id"] = inside.groupby("index_right")["zone_id"].agg(lambda ids: ids.mode()[0])
    local_levels["parent"] = local_levels["id"].str.split("-").str[0]

    polygons = gpd.read_parquet(paths["wards"])
    fixes = pd.read_csv(paths["ward_number_fixes"], dtype=str).set_index("osm_id")["ward_no"]
    number = polygons["osm_id"].map(fixes).fillna(polygons["ward"]).astype(int).astype(str)
    polygons["id"] = owner(polygons, local_levels).map(local_levels["id"]) + "-" + number
    pieces = polygons.loc[polygons["id"].isin(areas["cluster_id"]), ["id", "geometry"]]
    wards = (
        pieces.dissolve(by="id", sort=False)
        .reset_index()
        .merge(
            areas[["cluster_id", "zone_id", "population", "area_km2", "log_density"]].rename(
                columns={"cluster_id": "id", "zone_id": "parent", "population": "people"}
            ),
            on="id",
        )
    )
    if len(wards) != len(areas):
        raise SystemExit(
            f"{len(wards)} of {len(areas)} wards have a polygon; they are joined otherwise than the recipe's"
        )
    census = pd.read_csv(paths["demographics_ward"])
    census["local_level"] = census["District ID"].astype(str) + "-" + census["Municipality ID"].astype(str)
    # Of the whole census, the wards without a polygon too: that is what a count of the local level holds.
    counts = census.groupby("local_level")["Total Population"].sum()
    local_levels["people"] = local_levels["id"].map(counts).astype(float)
    names = local_levels["parent"].groupby(owner(local_levels, districts)).agg(lambda ids: ids.mode()[0])
    districts["id"] = districts.index.map(names)
    districts["people"] = districts["id"].map(local_levels.groupby("parent")["people"].sum())
    province = census.groupby("District ID")["Province ID"].first()
    districts["parent"] = districts["id"].astype(int).map(province).astype(str)
    outliers = gp.survey.density_outliers(areas)["cluster_id"]
    wards["suspicious"] = wards["id"].isin(outliers)
    return Nepal(wards, local_levels, districts, len(outliers))


def owner(polygons: gpd.GeoDataFrame, larger: gpd.GeoDataFrame) -> pd.Series:
    """The row of ``larger`` that a point inside each polygon lies in."""
    points = polygons[["geometry"]].set_geometry(polygons.representative_point())
    found = gpd.sjoin(points, larger[["geometry"]], predicate="within")["index_right"]
    return found[~found.index.duplicated()]


def covariates_on(grid: CellGrid, radiance: np.ndarray, catalog: gp.catalog.Catalog) -> dict[str, np.ndarray]:
    """Lights, terrain and position."""
    with h5py.File(catalog["world_elevation_5min"].path) as file:
        coarse = file["Altitude"][:]
    coarse = np.where(coarse == 255, np.nan, coarse * 28.0 - 450.0)
    elevation = np.full((grid.height, grid.width), np.nan)
    reproject(
        coarse,
        elevation,
        src_transform=Affine(1 / 12, 0, -180, 0, -1 / 12, 90),
        src_crs="EPSG:4326",
        src_nodata=np.nan,
        dst_transform=grid.transform,
        dst_crs=grid.crs.to_wkt(),
        resampling=Resampling.bilinear,
    )
    return layers_of.lights(radiance, grid=grid) | layers_of.terrain(elevation, grid=grid) | layers_of.position(grid)


@dataclass
class Ground:
    """A grid, its radiance and its covariates."""

    grid: CellGrid
    radiance: np.ndarray
    layers: dict[str, np.ndarray]

    @classmethod
    def of(cls, cell_m: float, nepal: Nepal, catalog: gp.catalog.Catalog) -> Ground:
        """Cells of this size over all districts."""
        grid = CellGrid.from_bounds(tuple(nepal.districts.total_bounds), cell_m=cell_m)
        radiance = weights.resample_to(grid, catalog["nepal_viirs_2025"].open())
        return cls(grid, radiance, covariates_on(grid, radiance, catalog))


class Case:
    """Counts at one level, and how the people of wards come out: fitted and shared on the same cells."""

    def __init__(self, name: str, counted: gpd.GeoDataFrame, nepal: Nepal, ground: Ground) -> None:
        self.name, self.counted, self.wards = name, counted, nepal.wards
        self.ground = ground
        self.zones: Zones = read_zones(counted, id_column="id", count_column="people")
        self.cells: ZoneCells = zone_cells(self.zones, ground.grid)
        self.rows: list[dict[str, object]] = []
        self.predicted: dict[str, np.ndarray] = {}
        self.models: dict[str, DensityModel] = {}

    def add(self, method: str, people: np.ndarray, seconds: float) -> None:
        """Score a method; this is where wards are looked at."""
        self.predicted[method] = people
        self.rows.append({"method": method} | scores(self.wards, people) | {"seconds": seconds})

    def share(self, method: str, density: np.ndarray, begin: float | None = None) -> None:
        """Share the counts by a density, and score it."""
        begin = time.perf_counter() if begin is None else begin
        people = allocate(self.cells, density, method=method).totals(self.wards, id_column="id").to_numpy()
        self.add(method, people, time.perf_counter() - begin)

    def learn(self, method: str, *, outlines: bool, options: argparse.Namespace) -> None:
        """Fit, predict, share, score, and print what was chosen."""
        begin = time.perf_counter()
        learned, mapped = dict(self.ground.layers), dict(self.ground.layers)
        if outlines:
            learned["size"] = layers_of.outline_size(self.counted, grid=self.ground.grid, parent_column="parent")
            # Of a ward beside the others whose people come out of the same count.
            by_district = self.wards["parent"].str.split("-").str[0]
            wards = self.wards.assign(zone=self.wards["parent"] if self.name == "local levels" else by_district)
            mapped["size"] = layers_of.outline_size(wards, grid=self.ground.grid, parent_column="zone")
        values, names = layers_of.stack(learned)
        model = fit_density(
            self.cells,
            values,
            names=names,
            model=KINDS,
            coarse_groups=self.counted["parent"].tolist(),
            penalties=PENALTIES[::2] if options.quick else PENALTIES,
            trees=20 if options.quick else 150,
            n_folds=3 if options.quick else 5,
        )
        best = model.tried.loc[model.tried.groupby("kind", sort=False)["mae"].idxmin()]
        print(f"\n{self.name}, {method}: the best of each kind one level up; taken: {model.kind}, {model.settings}")
        print(best.to_string(index=False, float_format=lambda x: f"{x:.4g}"), flush=True)
        self.models[method] = model
        self.share(method, model.predict(layers_of.stack(mapped)[0]), begin)


def scores(wards: gpd.GeoDataFrame, predicted: np.ndarray) -> dict[str, float]:
    """Of people, and the squared correlation of the logarithms of density."""
    observed, area = wards["people"].to_numpy(), wards["area_km2"].to_numpy()
    error = predicted - observed
    some = predicted > 0
    pair = np.log(observed[some] / area[some]), np.log(predicted[some] / area[some])
    return {
        "wards": len(observed),
        "r2": 1 - float((error**2).sum() / ((observed - observed.mean()) ** 2).sum()),
        "mae": float(np.abs(error).mean()),
        "rmse": float(np.sqrt((error**2).mean())),
        "mape": float(np.mean(np.abs(error) / observed) * 100),
        "log_r2": float(np.corrcoef(*pair)[0, 1] ** 2),
    }


def by_decile(wards: gpd.GeoDataFrame, predicted: np.ndarray) -> pd.DataFrame:
    """Scores in tenths of the wards by their density."""
    tenth = pd.qcut(wards["log_density"], 10, labels=False).to_numpy()
    rows = []
    for number in range(10):
        part = wards[tenth == number]
        found = scores(part, predicted[tenth == number])
        rows.append({"tenth": number + 1, "density_to": float(np.exp(part["log_density"].max()))} | found)
    return pd.DataFrame(rows).drop(columns="wards")


def with_tobler(case: Case, folder: Path, *, slow: bool) -> None:
    """Run tobler on the same polygons and, where it wants a raster, on lit ground or classes of light."""
    grid = case.ground.grid
    source = case.counted[["people", "geometry"]].to_crs(grid.crs)
    target = case.wards[["geometry"]].to_crs(grid.crs)
    source["geometry"], target["geometry"] = source.make_valid(), target.make_valid()
    classes = 1 + np.digitize(np.nan_to_num(case.ground.radiance), [0.3, 1, 3, 10])
    raster = str(folder / "classes.tif")
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 1, "crs": grid.crs.to_wkt()}
    with rasterio.open(
        raster, "w", **profile, width=grid.width, height=grid.height, transform=grid.transform
    ) as dataset:
        dataset.write(classes.astype("uint8"), 1)
    formula = "people ~ " + " + ".join(f"np.log1p(Type_{code})" for code in range(1, 6))
    methods: dict[str, Callable[[], gpd.GeoDataFrame]] = {
        "area_interpolate": lambda: tobler.area_weighted.area_interpolate(
            source, target, extensive_variables=["people"]
        ),
        "masked_area_interpolate": lambda: tobler.dasymetric.masked_area_interpolate(
            source, target, raster=raster, pixel_values=[2, 3, 4, 5], extensive_variables=["people"], n_jobs=1
        ),
    }
    if slow:
        methods["model.glm"] = lambda: tobler.model.glm(
            source, target, raster=raster, raster_codes=[1, 2, 3, 4, 5], variable="people", formula=formula
        )
        # It goes over the whole raster once a zone and iteration: on smaller cells for hours.
        methods["pycno_interpolate"] = lambda: tobler.pycno.pycno_interpolate(
            source, target, variables=["people"], cellsize=2000, handle_null=False
        )
    for name, work in methods.items():
        begin = time.perf_counter()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                people = work()["people"].fillna(0).to_numpy(dtype=float)
        except Exception as error:  # a peer's failure is a result
            print(f"tobler {name} does not run here: {type(error).__name__}: {str(error)[:150]}")
            continue
        case.add(f"tobler {name}", people, time.perf_counter() - begin)


def run(case: Case, nepal: Nepal, options: argparse.Namespace) -> dict[str, object]:
    """Score every method from one level's counts; what the JSON says of it."""
    radiance = case.ground.radiance
    case.share("equal area", weights.equal_area(case.ground.grid))
    case.share("radiance + 0.3", weights.proportional(radiance, offset=0.3))
    case.share("radiance + 0.1", weights.proportional(radiance, offset=0.1))
    case.share("(radiance + 0.05)^0.5", weights.proportional(radiance, power=0.5, offset=0.05))
    case.share("settlement: radiance > 0.3", weights.settlement(np.nan_to_num(radiance) > 0.3))
    if tobler is None:
        print("tobler is not installed: its rows are left out.")
    else:
        with tempfile.TemporaryDirectory() as folder:
            with_tobler(case, Path(folder), slow=not options.quick)
    others = list(case.rows)
    case.learn("learned", outlines=False, options=options)
    case.learn("learned, outlines", outlines=True, options=options)

    table = pd.DataFrame(case.rows).drop(columns="wards")
    print(f"\n{len(case.wards)} wards from the counts of {len(case.zones)} {case.name}")
    print(table.to_string(index=False, float_format=lambda x: f"{x:.3f}" if abs(x) < 10 else f"{x:,.0f}"))
    best = min(others, key=lambda row: float(row["mae"]))
    result: dict[str, object] = {"best_other": {"name": best["method"], "mae": round(float(best["mae"]), 1)}}
    for method in case.models:
        result[method] = examine(case, method, nepal)
    return result


def examine(case: Case, method: str, nepal: Nepal) -> dict[str, object]:
    """Print a learned method's scores by density, its coverage, and its scores without suspicious wards."""
    model, people, observed = case.models[method], case.predicted[method], case.wards["people"].to_numpy()
    low, high = model.interval(0.9)
    covered = float(((observed >= people * low) & (observed <= people * high)).mean())
    known = ~case.wards["suspicious"].to_numpy()
    clean = scores(case.wards[known], people[known])
    print(
        f"\n{method}, by tenth of density. The 90% interval, {low:.2f} to {high:.2f} times, holds {covered:.1%} of the "
        f"wards. Without the {nepal.suspicious} suspicious wards: R² {clean['r2']:.3f}, MAE {clean['mae']:,.0f}."
    )
    print(by_decile(case.wards, people).to_string(index=False, float_format=lambda x: f"{x:,.2f}"), flush=True)
    row = scores(case.wards, people)
    # A forest has no penalty, and JSON no NaN.
    settings = {key: value for key, value in model.settings.items() if value == value}
    found = {key: round(row[key], 3) for key in ("mae", "rmse", "r2", "mape", "log_r2")}
    return {**found, "coverage90": round(covered, 3), "kind": model.kind, **settings}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one level, larger cells, few trees and folds")
    parser.add_argument("--catalog", type=Path, default=REPOSITORY / "data_catalog.yaml")
    parser.add_argument("--cell-m", type=float, help="side of a cell; default 500, quick 2000")
    options = parser.parse_args()
    catalog = gp.open_catalog(options.catalog)
    catalog.fetch_many([*INPUTS.values(), "nepal_viirs_2025", "world_elevation_5min"])
    nepal = read_nepal(catalog)
    ground = Ground.of(options.cell_m or (2000 if options.quick else 500), nepal, catalog)
    print(
        f"{ground.grid.width} x {ground.grid.height} cells of {ground.grid.cell_m:g} m, {len(ground.layers)} layers; "
        f"{nepal.suspicious} wards are suspicious."
    )
    found = {}
    levels = {"local levels": nepal.local_levels} | ({} if options.quick else {"districts": nepal.districts})
    for name, counted in levels.items():
        found[name] = run(Case(name, counted, nepal, ground), nepal, options)
    main_result = found["local levels"]
    result = {"wards": len(nepal.wards), **main_result["learned"], "best_other": main_result["best_other"]}
    result |= {"outlines": main_result["learned, outlines"], "from_districts": found.get("districts")}
    print(json.dumps(result | {"suspicious": nepal.suspicious}))


if __name__ == "__main__":
    main()
