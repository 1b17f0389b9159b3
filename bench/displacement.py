"""What displacement costs on real clusters: known links between rasters and welfare, weakened by displacing again.

    python bench/displacement.py [--quick] [--data DIR]

(a) Two rasters that need no model are read at the published positions of DHS clusters, and at positions displaced
    further by multiples of DHS's own rule: the wealth map of Nigeria of Yeh et al. (2020, Nature Communications
    11:2583; cells of 7.65 km) at 1,450 clusters, and the radiance of nightlights (VIIRS, 463 m) at 792 of Lesotho.
    SIMEX extrapolates r² to the true positions.
(b) The same two, averaged over draws of the true position, over draws where people live (which brings a count of people
    into it, besides the raster), and over the lattice of a square window that is as large as the displacement.
(c) The published predictions of 19,669 clusters by the mean jitter that the rule implies for each of 43 surveys. All
    lie between 1.7 and 2.3 km, and a survey with less jitter is one with more towns: these files do not say where a
    cluster truly is, nor is any survey of them displaced by 6 to 10 km, so that a fall of r² from .67 to .54 as mean
    jitter grows to that cannot be recomputed from them. What can be is (a): a published map under jitter of that size.

Needs the real inputs in DIR (default GEOPOV_REAL_DATA, else ../shared/data). Quick: fewer draws.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import rasterio
import xarray as xr
from scipy.stats import spearmanr

from geopov.grid import transform_xy
from geopov.survey.displacement.attenuation import Attenuation, attenuation
from geopov.survey.displacement.draws import average_over_draws
from geopov.survey.displacement.positions import RULES, displacement_km, draw_positions, minimum_window_km
from geopov.tiles import TileSpec, tile_points

ROOT = Path(__file__).resolve().parents[1]
MULTIPLES = (0.5, 1.0, 1.5, 2.0)
FURTHER = (1.0, 2.0, 3.0, 4.0, 5.0)
"""Up to five times the rule: a mean of 10 km, twice the largest usual displacement."""
PUBLISHED = "Resnet-18 MS+NL concat"
Floats = np.ndarray[Any, np.dtype[np.float64]]


class Raster:
    """Values of a raster's pixels at longitudes and latitudes; NaN outside it and where it says nothing."""

    def __init__(self, path: Path, *, log: bool = False) -> None:
        with rasterio.open(path) as file:
            band, self.crs, self.inverse = file.read(1).astype(np.float64), file.crs, ~file.transform
        # Two of the three rasters carry no nodata tag, and none holds values this low.
        band[band < -1e30] = np.nan
        self.band = np.log1p(np.maximum(band, 0)) if log else band

    def __call__(self, lon: Floats, lat: Floats) -> Floats:
        """Values (n,)."""
        column, row = (np.floor(x).astype(int) for x in self.inverse @ transform_xy("EPSG:4326", self.crs, lon, lat))
        height, width = self.band.shape
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        values = np.full(len(lon), np.nan)
        values[inside] = self.band[row[inside], column[inside]]
        return values

    def at(self, points: gpd.GeoDataFrame) -> Floats:
        """Values (n,) at points."""
        return self(points.geometry.x.to_numpy(), points.geometry.y.to_numpy())


@dataclass(frozen=True)
class Country:
    """Clusters of a country, the raster that should tell their wealth, and where people live."""

    clusters: gpd.GeoDataFrame
    raster: Raster
    people: Raster

    def score(self, points: gpd.GeoDataFrame) -> float:
        """r² of wealth and the raster's pixel at each point, of the points that have one."""
        return r2(points["asset_wealth"], self.raster.at(points))


def r2(a: Any, b: Any) -> float:
    """Squared Pearson correlation of what is known of both."""
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    known = np.isfinite(a) & np.isfinite(b)
    return float(np.corrcoef(a[known], b[known])[0, 1] ** 2)


def countries(data: Path) -> dict[str, Country]:
    """Nigeria and Lesotho."""
    table = pd.read_parquet(data / "surveys/dhs_clusters.parquet")
    points = gpd.GeoDataFrame(table, geometry=gpd.points_from_xy(table["lon"], table["lat"]), crs="EPSG:4326")
    points["displacement_km"] = displacement_km(points, "dhs")
    rasters = {
        "nigeria": (
            Raster(data / "nigeria/published_wealth_2012_2014_msnl.tif"),
            Raster(data / "nigeria/population.tif"),
        ),
        "lesotho": (
            Raster(data / "lesotho/viirs_nightlights.tif", log=True),
            Raster(data / "lesotho/ghs_pop_250m.tif"),
        ),
    }
    found = {}
    for name, (raster, people) in rasters.items():
        clusters = points[points["country"] == name]
        found[name] = Country(clusters[np.isfinite(raster.at(clusters))].reset_index(drop=True), raster, people)
    return found


def redisplaced(country: Country, *, n_draws: int) -> tuple[Attenuation, Attenuation]:
    """(a): the extrapolation to true positions, and how r² falls under far more displacement than DHS's."""
    near = attenuation(country.clusters, country.score, rule="dhs", multiples=MULTIPLES, n_draws=n_draws)
    far = attenuation(
        country.clusters, country.score, rule="dhs", multiples=FURTHER, n_draws=max(2, n_draws // 4), displaced=False
    )
    return near, far


def averaged(country: Country, *, n_draws: int) -> dict[str, float]:
    """(b): r² of wealth and the raster at the published pixel, and averaged over where the cluster may be."""
    clusters = country.clusters
    window_km = minimum_window_km(clusters)
    lattice = tile_points(clusters, TileSpec(size_px=1, resolution_m=1), window_km=window_km, n_tiles=49)
    draws: dict[str, Callable[[], gpd.GeoDataFrame]] = {
        f"{n_draws} draws": lambda: draw_positions(clusters, n_draws=n_draws, seed=0),
        f"{n_draws} draws where people live": lambda: draw_positions(
            clusters, n_draws=n_draws, seed=0, weights=country.people
        ),
        f"window of {window_km:g} km": lambda: lattice.rename(columns={"tile_id": "point_id"}),
    }
    found = {"published point": country.score(clusters)}
    for name, make in draws.items():
        points = make()
        values = xr.DataArray(
            country.raster.at(points)[:, None],
            dims=("cluster", "feature"),
            coords={"cluster_id": ("cluster", points["point_id"].to_numpy(dtype=str))},
        )
        mean = average_over_draws(values, points)
        wealth = clusters.set_index("cluster_id")["asset_wealth"].loc[mean["cluster_id"].to_numpy()]
        found[name] = r2(wealth, mean[:, 0])
    return found


def by_jitter(data: Path) -> pd.DataFrame:
    """(c): a row a survey: clusters, share urban, mean jitter by the rule (km), r² of the published predictions."""
    table = pd.read_parquet(data / "surveys/dhs_clusters.parquet")
    predicted = pd.read_parquet(data / "surveys/dhs_published_predictions_incountry.parquet").set_index("cluster_id")
    table["predicted"] = predicted.loc[table["cluster_id"], PUBLISHED].to_numpy()
    rule = RULES["dhs"]
    rural = ((1 - rule.far_share) * rule.rural_km + rule.far_share * rule.far_km) / 2
    table["mean_km"] = np.where(table["urban"], rule.urban_km / 2, rural)
    rows = [
        {
            "survey": f"{country} {year}",
            "n": len(part),
            "urban": part["urban"].mean(),
            "mean_km": part["mean_km"].mean(),
            "r2": r2(part["asset_wealth"], part["predicted"]),
        }
        for (country, year), part in table.groupby(["country", "year"])
    ]
    return pd.DataFrame(rows).sort_values("mean_km", ignore_index=True)


def _show(title: str, table: pd.DataFrame) -> None:
    print(f"\n{title}\n{table.to_string(index=False, float_format='{:.3f}'.format)}", flush=True)


def main() -> None:
    """Print tables for people and one JSON line for machines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer draws")
    parser.add_argument("--data", type=Path, default=os.environ.get("GEOPOV_REAL_DATA", ROOT.parent / "shared/data"))
    options = parser.parse_args()
    if not options.data.is_dir():
        raise SystemExit(f"there is no folder {options.data}; give --data, or set GEOPOV_REAL_DATA to the real inputs.")
    n_draws, start = (8 if options.quick else 100), time.perf_counter()
    result: dict[str, Any] = {}
    for name, country in countries(options.data).items():
        near, far = redisplaced(country, n_draws=n_draws)
        _show(f"(a) {name}, {len(country.clusters)} clusters displaced again by multiples of the rule", near.table)
        print(near.text())
        _show("(a) and by more than any DHS displaces", far.table)
        means = averaged(country, n_draws=8 if options.quick else 30)
        _show("(b) r² at the published point and averaged", pd.DataFrame([means]))
        result[name] = {
            "n": len(country.clusters),
            "r2": round(near.given, 4),
            "r2_undisplaced": [round(value, 4) for value in (near.undisplaced, near.low, near.high)],
            "r2_by_added_mean_km": {
                f"{row['mean_km']:.1f}": round(row["score"], 4) for row in far.table.to_dict(orient="records")
            },
            "r2_averaged": {kind: round(value, 4) for kind, value in means.items()},
        }
    surveys = by_jitter(options.data)
    thirds = pd.qcut(surveys["mean_km"], 3, labels=["least", "middle", "most"])
    numbers = (
        surveys.drop(columns="survey")
        .groupby(thirds, observed=True)
        .agg(
            surveys=("n", "size"),
            clusters=("n", "sum"),
            urban=("urban", "mean"),
            mean_km=("mean_km", "mean"),
            r2=("r2", "mean"),
        )
    )
    _show(f"(c) {PUBLISHED}, thirds of the surveys by mean jitter", numbers.rename_axis("jitter").reset_index())
    rank = spearmanr(surveys["mean_km"], surveys["r2"])
    print(
        f"rank correlation of mean jitter and r² over {len(surveys)} surveys {rank.statistic:.2f} (p {rank.pvalue:.2f})"
    )
    result["published_by_survey"] = {
        "surveys": len(surveys),
        "mean_km": [round(float(surveys["mean_km"].iloc[i]), 2) for i in (0, -1)],
        "rank_correlation": round(float(rank.statistic), 3),
        "p": round(float(rank.pvalue), 3),
    }
    print(json.dumps(result | {"seconds": round(time.perf_counter() - start, 1)}))


if __name__ == "__main__":
    main()
