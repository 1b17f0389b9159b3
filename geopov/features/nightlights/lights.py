"""Night lights of one sensor, cleaned as they are read: VIIRS, DMSP-OLS or Black Marble."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import shapely
from shapely.affinity import scale as scaled

from geopov._validation import check_positive
from geopov.errors import FeatureError
from geopov.features.nightlights.cleaning import CleanReader
from geopov.features.nightlights.footprints import Footprints
from geopov.features.nightlights.harmonise import Calibration, published_calibration
from geopov.features.nightlights.sensors import SENSORS, Sensor, SensorName
from geopov.grid import as_crs, ground_scale, transform_xy
from geopov.raster import Scene

Floats = npt.NDArray[np.float64]
PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class Lights:
    """Night lights, read and cleaned window by window.

    A pixel is the median of its valid bands (months), below the noise floor 0 and masked missing; then it is harmonised
    if that was asked for.

    Attributes
    ----------
    scene : Scene
        One band, or several composites of the same place on one grid.
    sensor : Sensor
    noise_floor : float
        In the sensor's unit.
    mask : array of geometries
        In the scene's CRS; pixels that one of them touches are missing. Empty: nothing is masked.
    calibration : Calibration or None
    observations : Scene or None
        Numbers of cloud-free observations behind each pixel, one band for each of the scene.
    min_observations : int
        Pixels with fewer are missing.
    """

    scene: Scene
    sensor: Sensor
    noise_floor: float
    mask: npt.NDArray[np.object_] = field(default_factory=lambda: np.empty(0, dtype=object))
    calibration: Calibration | None = None
    observations: Scene | None = None
    min_observations: int = 1

    @property
    def unit(self) -> str:
        """Of the values: that of the sensor, or DN once harmonised."""
        return self.sensor.unit if self.calibration is None else "DN"

    def mean_over(
        self, footprints: gpd.GeoSeries | gpd.GeoDataFrame | npt.ArrayLike, *, crs: Any = None, min_valid: float = 0.5
    ) -> Floats:
        """Mean light over each footprint, every pixel weighted by the exact share of it that is covered.

        Parameters
        ----------
        footprints : GeoSeries, GeoDataFrame or array (n, 4, 2)
            Polygons with a CRS, or the corners of quadrilaterals, walked around. Their sides are straight in the CRS of
            the scene.
        crs : CRS, optional
            Of the corners; default: of the scene.
        min_valid : float
            Share of a footprint that valid pixels must cover, above 0 and up to 1.

        Returns
        -------
        array (n,)
            In :attr:`unit`; NaN where too little is valid.

        Raises
        ------
        FeatureError
            If the footprints are no polygons, or the raster has values that no light has.
        """
        return self.summarise(self.to_pixels(footprints, crs=crs), min_valid=min_valid)["mean"]

    def summarise(self, footprints: Footprints, *, min_valid: float = 0.5) -> dict[str, Floats]:
        """Mean, and the shares of each footprint that are valid, masked and saturated: arrays (n,)."""
        if not 0 < min_valid <= 1:
            raise FeatureError(f"min_valid is {min_valid!r}; expected a share above 0 and up to 1.")
        with CleanReader(self) as read:
            sums = footprints.sums(
                read, ("lights", "valid", "saturated", "masked"), height=self.scene.height, width=self.scene.width
            )
        covered = sums["valid"] / footprints.area
        mean = np.full(len(covered), np.nan)
        # Shares are exact to about 1e-12 only, and a wholly valid footprint must pass min_valid=1.
        np.divide(sums["lights"], sums["valid"], out=mean, where=(covered >= min_valid - 1e-9) & (covered > 0))
        return {
            "mean": mean,
            "valid": covered,
            "masked": sums["masked"] / footprints.area,
            "saturated": sums["saturated"] / footprints.area,
        }

    def to_pixels(self, footprints: gpd.GeoSeries | gpd.GeoDataFrame | npt.ArrayLike, *, crs: Any = None) -> Footprints:
        """Footprints on the grid of the scene; parameters as of :meth:`mean_over`."""
        if isinstance(footprints, gpd.GeoSeries | gpd.GeoDataFrame):
            shapes = _placed(footprints.geometry, self.scene.crs, "the footprints")
            if not np.isin(shapely.get_type_id(shapes), (3, 6)).all() or shapely.is_empty(shapes).any():
                raise FeatureError("the footprints are not all polygons; points have no area to take a mean over.")
            return Footprints.of_polygons(shapely.transform(shapes, self._to_grid))
        corners = np.asarray(footprints, dtype=float)
        if corners.ndim != 3 or corners.shape[1:] != (4, 2) or not np.isfinite(corners).all():
            raise FeatureError(f"the footprints have shape {corners.shape}; expected finite corners (n, 4, 2).")
        x, y = transform_xy(crs or self.scene.crs, self.scene.crs, corners[..., 0].ravel(), corners[..., 1].ravel())
        return Footprints.of_quads(self._to_grid(np.column_stack([x, y])).reshape(corners.shape))

    def to_dict(self) -> dict[str, Any]:
        """How the lights were made, for reports: JSON-able, without paths."""
        calibration = self.calibration
        return {
            "source": self.scene.name,
            "sensor": self.sensor.name,
            "unit": self.unit,
            "composites": len(self.scene.band_names),
            "noise_floor": self.noise_floor,
            "noise_floor_source": self.sensor.noise_floor_source
            if self.noise_floor == self.sensor.noise_floor
            else "chosen by the user",
            "masked_places": len(self.mask),
            "min_observations": None if self.observations is None else self.min_observations,
            "harmonised": calibration is not None,
            "harmonisation": None if calibration is None else calibration.to_dict(),
        }

    def _to_grid(self, xy: Floats) -> Floats:
        t = self.scene.transform
        return np.column_stack([(xy[:, 0] - t.c) / t.a, (xy[:, 1] - t.f) / t.e])


def open_lights(
    scene: Scene | PathLike | Sequence[PathLike],
    *,
    sensor: SensorName = "viirs",
    noise_floor: float | None = None,
    mask: PathLike | gpd.GeoDataFrame | gpd.GeoSeries | None = None,
    mask_buffer_km: float = 0.0,
    harmonise: str | Calibration | None = None,
    observations: Scene | PathLike | Sequence[PathLike] | None = None,
    min_observations: int = 1,
) -> Lights:
    """Night lights of a raster file, or of several composites of one place.

    Parameters
    ----------
    scene : Scene, path or sequence of paths
        An annual composite, or monthly ones: of several bands or files, pixels are the median. Open it as a Scene to
        choose a band or to declare a missing value.
    sensor : {"viirs", "dmsp", "black_marble"}
        VIIRS composites of the Earth Observation Group and NASA's Black Marble hold radiance in nW/cm²/sr, DMSP-OLS
        digital numbers of 0 to 63, where 63 stands for everything brighter.
    noise_floor : float, optional
        Values below, negative ones among them, are dark (0). Default: the sensor's published one (:data:`SENSORS`).
    mask : path, GeoDataFrame or GeoSeries, optional
        Fires and gas flares: light that says nothing of the people below it. Pixels they touch are missing.
    mask_buffer_km : float
        Widens the mask; needed for points, such as those of a catalogue of flares.
    harmonise : str or Calibration, optional
        See :func:`~geopov.features.nightlights.harmonise.published_calibration`. Default: none.
    observations : Scene, path or sequence of paths, optional
        Counts of cloud-free observations (``cf_cvg``), one band for each composite: a monthly composite holds 0 both
        where it was dark and where it was never seen.
    min_observations : int
        Pixels with fewer are missing.

    Raises
    ------
    FeatureError
        If the sensor is unknown, files do not share one grid, the mask has no CRS, or the harmonisation is for another
        sensor.
    RasterError
        If a file cannot be opened.
    """
    if sensor not in SENSORS:
        raise FeatureError(f"sensor is {sensor!r}; expected one of {', '.join(SENSORS)}.")
    known = SENSORS[sensor]
    floor = known.noise_floor if noise_floor is None else float(noise_floor)
    if not 0 <= floor < known.highest:
        raise FeatureError(f"noise_floor is {floor!r}; expected 0 or more, in {known.unit}.")
    source = scene if isinstance(scene, Scene) else Scene.open(scene)
    counts = observations if isinstance(observations, Scene) or observations is None else Scene.open(observations)
    _check_grid(source, counts)
    calibration = published_calibration(harmonise) if isinstance(harmonise, str) else harmonise
    if calibration is not None and calibration.sensor != sensor:
        raise FeatureError(f"the harmonisation is for {calibration.sensor}, but the lights are of {sensor}.")
    shapes = np.empty(0, dtype=object) if mask is None else _read_mask(mask, source, mask_buffer_km)
    return Lights(source, known, floor, shapes, calibration, counts, int(min_observations))


def _check_grid(scene: Scene, counts: Scene | None) -> None:
    first = scene.files[0]
    for file in (*scene.files, *(counts.files if counts else ())):
        level, reference = file.levels[0], first.levels[0]
        same = (level.left, level.top, level.dx, level.dy) == (
            reference.left,
            reference.top,
            reference.dx,
            reference.dy,
        )
        if not same or (level.width, level.height) != (reference.width, reference.height) or file.crs != first.crs:
            raise FeatureError(f"{file.path} and {first.path} lie on different grids; composites must share one.")
    if counts is not None and len(counts.band_names) != len(scene.band_names):
        raise FeatureError(
            f"observations have {len(counts.band_names)} bands for {len(scene.band_names)} composites; one for each."
        )


def _read_mask(
    mask: PathLike | gpd.GeoDataFrame | gpd.GeoSeries, scene: Scene, buffer_km: float
) -> npt.NDArray[np.object_]:
    table = mask if isinstance(mask, gpd.GeoDataFrame | gpd.GeoSeries) else _read_table(mask)
    shapes = table.geometry[~(table.geometry.isna() | table.geometry.is_empty)]
    if not buffer_km and shapes.geom_type.isin(["Point", "MultiPoint"]).any():
        raise FeatureError("the mask holds points; say how far their light reaches with mask_buffer_km.")
    placed = _placed(shapes, scene.crs, "the mask")
    if buffer_km:
        check_positive(buffer_km, "mask_buffer_km", FeatureError)
    west, south, east, north = scene.bounds
    scale = [
        float(one[0]) for one in ground_scale(scene.crs, np.array([west + east]) / 2, np.array([south + north]) / 2)
    ]
    # A catalogue of the whole world has places that the scene's CRS knows nothing of.
    reach_x, reach_y = (2 * buffer_km * 1000 / one for one in scale)
    near = shapely.box(west - reach_x, south - reach_y, east + reach_x, north + reach_y)
    placed = placed[np.isfinite(shapely.bounds(placed)).all(axis=1)]
    placed = placed[shapely.intersects(placed, near)]
    return _widened(placed, scene.crs, buffer_km * 1000) if buffer_km else placed


def _widened(shapes: npt.NDArray[np.object_], crs: Any, by_m: float) -> npt.NDArray[np.object_]:
    """Shapes with a margin in metres on the ground, each measured where it lies."""
    middle = shapely.centroid(shapes)
    scale_x, scale_y = ground_scale(crs, shapely.get_x(middle), shapely.get_y(middle))
    widened = [
        scaled(scaled(shape, x, y, origin=centre).buffer(by_m), 1 / x, 1 / y, origin=centre)
        for shape, centre, x, y in zip(shapes, middle, scale_x, scale_y, strict=True)
    ]
    return np.array(widened, dtype=object)


def _read_table(path: PathLike) -> gpd.GeoDataFrame:
    try:
        reader = gpd.read_parquet if os.fspath(path).endswith(".parquet") else gpd.read_file
        return reader(path)
    except (OSError, ValueError, RuntimeError) as error:
        raise FeatureError(f"{path} cannot be read as a table of places ({error}).") from error


def _placed(shapes: gpd.GeoSeries, crs: Any, what: str) -> npt.NDArray[np.object_]:
    if shapes.crs is None:
        raise FeatureError(f"{what} have no CRS; set it, for longitude and latitude: .set_crs('EPSG:4326').")
    placed: npt.NDArray[np.object_] = shapes.to_crs(as_crs(crs)).to_numpy()
    return placed
