"""Rasters: scenes read from their headers, blocks decoded once, Cloud Optimized GeoTIFFs written in strips."""

from geopov.raster.blocks import Block, BlockReader
from geopov.raster.file import Level, RasterFile
from geopov.raster.scene import Scene, agree_on_bands
from geopov.raster.unreadable import Unreadable
from geopov.raster.write import OverviewResampling, write_cog, write_dataarray

__all__ = [
    "Block",
    "BlockReader",
    "Level",
    "OverviewResampling",
    "RasterFile",
    "Scene",
    "Unreadable",
    "agree_on_bands",
    "write_cog",
    "write_dataarray",
]
