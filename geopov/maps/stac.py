"""A STAC catalogue of a study's products: a Collection with an Item each, found by place, year and provenance.

SpatioTemporal Asset Catalog 1.1.0 (https://stacspec.org) with the extensions projection 2.0, raster 2.0, file 2.1 and
processing 1.2.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from pyproj import Transformer

from geopov import __version__
from geopov._optional import require
from geopov._validation import atomic_path, sha256_of, some
from geopov.errors import MapError
from geopov.grid import Bounds
from geopov.maps.read import RasterMap

_EXTENSIONS = {
    name: f"https://stac-extensions.github.io/{name}/{version}/schema.json"
    for name, version in (
        ("projection", "v2.0.0"),
        ("raster", "v2.0.0"),
        ("file", "v2.1.0"),
        ("processing", "v1.2.0"),
    )
}
_COG = "image/tiff; application=geotiff; profile=cloud-optimized"
# What may lie beside a product, by suffix: key, media type, role.
_BESIDE = {
    ".qml": ("style", "application/xml", "metadata"),
    ".png": ("overview", "image/png", "overview"),
}
# What may lie in the folder: name, key, media type.
_OF_FOLDER = (
    ("project.qgz", "project", "application/zip"),
    ("layers.gpkg", "layers", "application/geopackage+sqlite3"),
)
# GDAL's own tags and those that stand elsewhere in the item.
_NOT_PROVENANCE = ("AREA_OR_POINT", "TIFFTAG_IMAGEDESCRIPTION", "title", "style", "year")
# Edges of a projected rectangle are curves in degrees; so many pieces follow them to well under a cell.
_PIECES = 8
_DIGITS = 6


@dataclass(frozen=True)
class Collection:
    """What all products have in common.

    Attributes
    ----------
    id, title, description : str
        Of the collection; the id has no spaces.
    license : str
        An SPDX identifier, or "other".
    keywords : tuple of str
        For those who search.
    """

    id: str
    title: str
    description: str
    license: str = "other"
    keywords: tuple[str, ...] = ("poverty", "population", "small area estimation")


def write_stac(
    folder: str | Path,
    products: Sequence[str | Path],
    *,
    collection: Collection,
    year: int | tuple[int, int] | None = None,
) -> Path:
    """Write ``folder/collection.json`` and one Item a product beside it, with relative links.

    An item says where the map lies (outline and box in EPSG:4326), its CRS, shape and transform, its bands with unit,
    nodata and statistics, the year of its data, the file's digest and, from the map's own tags, what it was made of.
    Nothing depends on when or where it is written, so equal maps give equal bytes.

    Parameters
    ----------
    folder : path
        Of the catalogue; made if it is not there.
    products : sequence of path
        GeoTIFFs, of different names.
    collection : Collection
        What all products have in common.
    year : int or (first, last), optional
        Of the data; default each map's tag ``year`` ("2019", "2019-2020").

    Returns
    -------
    Path
        Of ``collection.json``.

    Raises
    ------
    MapError
        If there is no product, two have one name, a year is unknown, or the result is no valid STAC.
    MissingDependencyError
        If pystac or jsonschema is not installed.
    """
    pystac = require("pystac", purpose="A STAC catalogue")
    require("jsonschema", purpose="Validating a STAC catalogue")
    folder, paths = Path(folder), [Path(product) for product in products]
    names = [path.stem for path in paths]
    if not paths or len(set(names)) < len(names):
        raise MapError(f"products are {some(map(str, paths)) or 'none'}; expected GeoTIFFs of different names.")
    top = folder / "collection.json"
    items = [_item(pystac, path, folder, collection, year) for path in paths]
    whole = pystac.Collection(
        id=collection.id,
        title=collection.title,
        description=collection.description,
        license=collection.license,
        keywords=list(collection.keywords),
        extent=pystac.Extent.from_items(items),
        assets={
            key: pystac.Asset(href=_href(paths[0].parent / name, folder), media_type=kind, roles=["metadata"])
            for name, key, kind in _OF_FOLDER
            if (paths[0].parent / name).exists()
        },
    )
    # In this order, or pystac moves the assets along with an item from a place of its own choice.
    whole.add_items(items)
    whole.set_self_href(str(top))
    for item in items:
        item.set_self_href(str(folder / f"{item.id}.json"))
    documents = {folder / f"{item.id}.json": item.to_dict(include_self_link=False) for item in items}
    documents[top] = whole.to_dict(include_self_link=False)
    for document in documents.values():
        _relative_links(document)
    texts = {path: json.dumps(document, indent=2, ensure_ascii=False) + "\n" for path, document in documents.items()}
    for path, text in texts.items():
        _validate(pystac, json.loads(text), path)
    for path, text in texts.items():
        with atomic_path(path) as partial:
            partial.write_text(text, encoding="utf-8")
    return top


def _item(pystac: Any, path: Path, folder: Path, collection: Collection, year: int | tuple[int, int] | None) -> Any:
    with RasterMap.open(path) as raster:
        tags = raster.tags
        first, last = _years(year, tags.get("year", ""), path)
        outline = _lonlat_outline(raster)
        properties = {
            "title": tags.get("title") or path.stem,
            "start_datetime": f"{first}-01-01T00:00:00Z",
            "end_datetime": f"{last}-12-31T23:59:59Z",
            **_projection(raster),
            **_provenance(tags),
        }
        data = pystac.Asset(
            href=_href(path, folder),
            media_type=_COG,
            roles=["data"],
            title=tags.get("title") or path.stem,
            extra_fields={"bands": _bands(raster), "raster:sampling": "area", **_digest(path)},
        )
        # The extension wants metres, and degrees have no fixed length.
        if raster.crs.is_projected:
            data.extra_fields["raster:spatial_resolution"] = float(raster.source.transform.a)
    item = pystac.Item(
        id=path.stem,
        geometry=shapely.geometry.mapping(outline),
        bbox=list(outline.bounds),
        datetime=None,
        start_datetime=datetime(first, 1, 1, tzinfo=UTC),
        end_datetime=datetime(last, 12, 31, 23, 59, 59, tzinfo=UTC),
        properties=properties,
        stac_extensions=sorted(_EXTENSIONS.values()),
        assets={"data": data},
        collection=collection.id,
    )
    for suffix, (key, kind, role) in _BESIDE.items():
        beside = path.with_suffix(suffix)
        if beside.exists():
            item.add_asset(key, pystac.Asset(href=_href(beside, folder), media_type=kind, roles=[role]))
    return item


def _years(year: int | tuple[int, int] | None, tag: str, path: Path) -> tuple[int, int]:
    if isinstance(year, int):
        return year, year
    found = list(year) if year is not None else [int(text) for text in re.findall(r"\b\d{4}\b", tag)]
    if not found or min(found) < 1900 or max(found) > 2100:
        raise MapError(
            f"nobody knows the year of the data of {path}: its tag year is {tag!r}; give year=2019 or (2019, 2020)."
        )
    return min(found), max(found)


def _lonlat_outline(raster: RasterMap) -> shapely.Polygon:
    west, south, east, north = raster.bounds
    edges = shapely.segmentize(shapely.box(*raster.bounds), max(east - west, north - south) / _PIECES)
    transformer = Transformer.from_crs(raster.crs, "EPSG:4326", always_xy=True)
    moved = shapely.transform(
        edges, lambda xy: np.column_stack(transformer.transform(xy[:, 0], xy[:, 1])).round(_DIGITS)
    )
    if not np.isfinite(shapely.get_coordinates(moved)).all():
        raise MapError(f"{raster.path} reaches beyond where {raster.crs.name} can be turned into degrees.")
    return shapely.geometry.polygon.orient(moved)


def _projection(raster: RasterMap) -> dict[str, Any]:
    authority = raster.crs.to_authority()
    place: Bounds = raster.bounds
    found: dict[str, Any] = {
        "proj:code": ":".join(authority) if authority else None,
        "proj:bbox": list(place),
        "proj:shape": [raster.source.height, raster.source.width],
        "proj:transform": list(raster.source.transform)[:6],
    }
    return found if authority else found | {"proj:wkt2": raster.crs.to_wkt("WKT2_2019")}


def _provenance(tags: dict[str, str]) -> dict[str, Any]:
    """What the map says of its making: tags that hold JSON as objects, others as they are."""
    said = {key: _parsed(value) for key, value in sorted(tags.items()) if key not in _NOT_PROVENANCE}
    made_by = next((value["geopov"] for value in said.values() if isinstance(value, dict) and "geopov" in value), None)
    return {
        "processing:software": {"geopov": made_by or __version__},
        "geopov:product": tags.get("style", "generic"),
        "geopov:provenance": said,
    }


def _parsed(text: str) -> Any:
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return text
    return value if isinstance(value, dict | list) else text


def _bands(raster: RasterMap) -> list[dict[str, Any]]:
    return [_band(band) for band in raster.summary()["bands"]]


def _band(band: dict[str, Any]) -> dict[str, Any]:
    found = {"name": band["name"], "data_type": band["dtype"]}
    if band["unit"]:
        found["unit"] = band["unit"]
    if (nodata := band["nodata"]) is not None:
        found["nodata"] = nodata if math.isfinite(nodata) else str(nodata)
    figures = {"minimum": "min", "maximum": "max", "mean": "mean", "stddev": "sd"}
    known = {name: band[key] for name, key in figures.items() if math.isfinite(band[key])}
    return found | {"statistics": known | {"valid_percent": 100 * band["valid"]}}


def _digest(path: Path) -> dict[str, Any]:
    # A multihash: 12 hexadecimal is SHA2-256, 20 its 32 bytes.
    return {"file:checksum": f"1220{sha256_of(path)}", "file:size": path.stat().st_size}


def _href(path: Path, folder: Path) -> str:
    relative = Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()
    return relative if relative.startswith("../") else f"./{relative}"


def _relative_links(document: dict[str, Any]) -> None:
    """Links among the files of one folder, whatever pystac made of them."""
    for link in document["links"]:
        link["href"] = f"./{Path(link['href']).name}"


def _validate(pystac: Any, document: dict[str, Any], path: Path) -> None:
    """Check a document against the core schemas, which pystac carries; those of extensions are on the network only."""
    kind = pystac.STACObjectType.ITEM if document["type"] == "Feature" else pystac.STACObjectType.COLLECTION
    validator = importlib.import_module("pystac.validation.stac_validator").JsonSchemaSTACValidator()
    invalid = importlib.import_module("pystac.errors").STACValidationError
    try:
        validator.validate_core(document, kind, pystac.get_stac_version(), href=str(path))
    except invalid as error:
        raise MapError(f"{path} would be no valid STAC: {error}") from error
