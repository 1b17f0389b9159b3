from __future__ import annotations

import json
import threading

import numpy as np
import pytest

from geopov.errors import FeatureError
from geopov.features import BandStatistics, build, extract, extract_array
from geopov.features._prefetch import prefetch


def test_means_over_clusters_in_index_order(fake_tiles):
    data = np.array([1, 2, 3, 5, 9], dtype=np.uint8).reshape(5, 1, 1, 1)
    tiles = fake_tiles(data, clusters=["b", "a", "b", "a", "c"], band_names=["light"])
    array = extract(BandStatistics(statistics="mean"), tiles, batch_size=2)
    assert array.dims == ("cluster", "feature")
    assert array["cluster_id"].to_numpy().tolist() == ["b", "a", "c"]
    assert array["n_tiles"].to_numpy().tolist() == [2, 2, 1]
    assert array["feature"].to_numpy().tolist() == ["light_mean"]
    assert array.to_numpy().tolist() == [[2], [3.5], [9]]
    assert array.dtype == np.float32


def test_order_of_reading_does_not_change_a_bit(fake_tiles, rng):
    data = rng.lognormal(0, 3, (120, 2, 6, 6)).astype(np.float32)
    valid = rng.random((120, 6, 6)) > 0.3
    clusters = [f"c{i}" for i in rng.integers(0, 15, 120)]
    extractor = BandStatistics(windows_px=[6, 4], min_valid=0.6)
    reference = extract(extractor, fake_tiles(data, valid, clusters=clusters), batch_size=120)
    for seed, batch_size in ((1, 1), (2, 7), (3, 64)):
        order = np.random.default_rng(seed).permutation(120)
        again = extract(extractor, fake_tiles(data, valid, clusters=clusters, order=order), batch_size=batch_size)
        assert again.identical(reference)
    means = extract_array(extractor, fake_tiles(data, valid, clusters=clusters))
    for i, cluster in enumerate(reference["cluster_id"].to_numpy()):
        rows = means[[c == cluster for c in clusters]]
        np.testing.assert_allclose(reference.to_numpy()[i], np.nanmean(rows, axis=0), rtol=1e-5)


def test_tiles_without_valid_pixels(fake_tiles):
    data = np.array([4, 6, 8, 10], dtype=np.uint8).reshape(4, 1, 1, 1)
    valid = np.array([True, False, False, True]).reshape(4, 1, 1)
    tiles = fake_tiles(data, valid, clusters=["a", "a", "lost", "b"])
    array = extract(BandStatistics(statistics="mean"), tiles)
    assert array["cluster_id"].to_numpy().tolist() == ["a", "b"]
    assert array.to_numpy().tolist() == [[4], [10]]
    assert json.loads(array.attrs["dropped"]) == [{"cluster_id": "lost", "reason": "no tile with enough valid pixels"}]
    assert np.isnan(extract_array(BandStatistics(statistics="mean"), tiles)[:, 0]).tolist() == [
        False,
        True,
        True,
        False,
    ]


def test_all_clusters_may_be_lost(fake_tiles):
    tiles = fake_tiles(np.zeros((2, 1, 2, 2)), np.zeros((2, 2, 2), dtype=bool))
    array = extract(BandStatistics(), tiles)
    assert array.shape == (0, 6)
    assert len(json.loads(array.attrs["dropped"])) == 2


def test_attributes_rebuild_the_extractor(fake_tiles, rng):
    tiles = fake_tiles(rng.random((5, 2, 6, 6)), context_px=1, band_names=["x", "y"])
    extractor = BandStatistics(windows_px=[4, 2], bands=["y"], transform="log", offset=0.5, context_px=1)
    array = extract(extractor, tiles)
    again = build(json.loads(array.attrs["extractor"]))
    assert again.spec() == extractor.spec()
    assert extract(again, tiles).identical(array)
    assert json.loads(array.attrs["tile_spec"]) == {"size_px": 4, "context_px": 1}
    assert json.loads(array.attrs["band_names"]) == ["x", "y"]
    assert json.loads(array.attrs["provenance"])["extractor"] == extractor.spec()


def test_context_must_be_what_the_extractor_wants(fake_tiles):
    tiles = fake_tiles(np.zeros((1, 1, 6, 6)), context_px=1)
    with pytest.raises(FeatureError, match=r"context_px=1.*context_px=0.*must use one mode"):
        extract(BandStatistics(), tiles)
    with pytest.raises(FeatureError, match="must use one mode"):
        extract_array(BandStatistics(context_px=2), tiles)


def test_a_missing_band_is_told_before_anything_is_read(fake_tiles):
    tiles = fake_tiles(np.zeros((1, 1, 6, 6)), band_names=["radiance"])
    tiles.iter_batches = None
    with pytest.raises(FeatureError, match="no band 'nir'; their bands are radiance"):
        extract(BandStatistics(bands=["nir"]), tiles)


def test_tiles_that_never_come(fake_tiles):
    tiles = fake_tiles(np.zeros((3, 1, 2, 2)), order=[0, 2])
    with pytest.raises(FeatureError, match="2 of 3 tiles were read"):
        extract(BandStatistics(), tiles)


def test_progress_reaches_the_end(fake_tiles):
    seen = []
    extract(
        BandStatistics(), fake_tiles(np.zeros((5, 1, 2, 2))), batch_size=2, progress=lambda *step: seen.append(step)
    )
    assert seen == [(2, 5), (4, 5), (5, 5)]


def reading_threads():
    return [thread for thread in threading.enumerate() if thread.name == "geopov-prefetch"]


def test_errors_of_reading_come_through(fake_tiles):
    tiles = fake_tiles(np.zeros((3, 1, 2, 2)))

    def broken(batch_size):
        yield next(iter(fake_tiles(np.zeros((1, 1, 2, 2))).iter_batches()))
        raise OSError("block 7 is cut short")

    tiles.iter_batches = broken
    with pytest.raises(OSError, match="block 7 is cut short"):
        extract(BandStatistics(), tiles)
    assert not reading_threads()


def test_an_error_of_computing_stops_the_reading(fake_tiles):
    def endless(batch_size):
        while True:
            yield next(iter(fake_tiles(np.zeros((1, 1, 3, 3))).iter_batches()))

    tiles = fake_tiles(np.zeros((1, 1, 3, 3)))
    tiles.iter_batches = endless
    with pytest.raises(FeatureError, match="cannot lie in the middle"):
        extract(BandStatistics(windows_px=[2]), tiles)
    assert not reading_threads()


def test_reading_stays_no_further_ahead_than_its_depth():
    drawn = []

    def source():
        for i in range(50):
            drawn.append(i)
            yield i

    items = prefetch(source(), depth=2)
    assert next(items) == 0
    # One handed over, two waiting, one in the hand of the thread, and one more drawn while the first was handed over.
    assert len(drawn) <= 5
    assert list(items) == list(range(1, 50))
    assert not reading_threads()


def test_reading_and_computing_overlap():
    # Each side waits for the other to have begun its next piece of work: without a thread this would hang.
    second_read = threading.Event()

    def source():
        yield 1
        second_read.set()
        yield 2

    items = prefetch(source())
    assert next(items) == 1
    assert second_read.wait(timeout=5)
    assert list(items) == [2]
