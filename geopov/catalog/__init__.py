"""Data sources by name: where they come from, what they are, who may use them, and whether their bytes are right.

    catalog = open_catalog("data_catalog.yaml")
    catalog["nepal_viirs_2025"].fetch()
    scene = catalog["nepal_viirs_2025"].open()

A catalogue comes from somebody else and is not trusted: it cannot make this program write outside the cache folder,
run code, or accept bytes with another sha256.
"""

from geopov.catalog.catalog import Catalog, find_catalog, open_catalog
from geopov.catalog.models import SourceRecord
from geopov.catalog.sources import Source
from geopov.catalog.verify import FileStatus

__all__ = ["Catalog", "FileStatus", "Source", "SourceRecord", "find_catalog", "open_catalog"]
