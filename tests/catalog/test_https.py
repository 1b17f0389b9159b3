from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from geopov.catalog import Source, open_catalog
from geopov.errors import CatalogError, ChecksumError, SourceNotFoundError

DATA = random.Random(0).randbytes(1_000_003)
SHA = hashlib.sha256(DATA).hexdigest()
FETCH = "import sys; from geopov.catalog import open_catalog; print(open_catalog(sys.argv[1])['s'].fetch()[0])"


@pytest.fixture
def source(server: Any, write: Callable[..., Path]) -> Source:
    server.files["/data/a.bin"] = DATA
    return open_catalog(write(s={"uri": f"{server.url}/data/a.bin", "kind": "table", "sha256": SHA}))["s"]


@pytest.fixture
def partial(tmp_path: Path) -> Path:
    return tmp_path / "cache" / ".work" / f"{SHA}.partial"


def final(tmp_path: Path) -> Path:
    return tmp_path / "cache" / SHA[:2] / SHA / "a.bin"


def test_a_file_is_fetched_once_and_found_again(source: Source, server: Any, tmp_path: Path, partial: Path) -> None:
    seen: list[tuple[int, int]] = []
    assert source.fetch(progress=lambda done, total: seen.append((done, total))) == [final(tmp_path)]
    assert source.path.read_bytes() == DATA
    assert seen[-1] == (len(DATA), len(DATA))
    assert seen == sorted(seen)
    assert not partial.exists()
    source.fetch()
    assert server.asked == [None]
    assert [status.state for status in source.verify()] == ["ok"]


def test_two_catalogues_share_a_file(
    source: Source, server: Any, write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    source.fetch()
    other = write(t={"uri": "https://elsewhere.invalid/b/a.bin", "kind": "table", "sha256": SHA})
    assert open_catalog(other, offline=True)["t"].fetch() == [source.path]


def test_a_download_that_breaks_off_goes_on_where_it_stopped(source: Source, server: Any) -> None:
    server.cut_after = [300_000, 200_000]
    assert source.fetch()[0].read_bytes() == DATA
    assert server.asked == [None, "bytes=300000-", "bytes=500000-"]


def test_a_server_without_ranges_starts_over(source: Source, server: Any) -> None:
    server.cut_after, server.ranges = [300_000], False
    assert source.fetch()[0].read_bytes() == DATA
    assert server.asked == [None, "bytes=300000-"]


def test_a_server_that_sends_another_range_is_not_believed(source: Source, server: Any) -> None:
    server.cut_after, server.shift = [300_000], 1000
    assert source.fetch()[0].read_bytes() == DATA
    assert server.asked == [None, "bytes=300000-", None]


def test_attempts_are_bounded_and_what_came_is_kept(source: Source, server: Any, partial: Path, tmp_path: Path) -> None:
    server.cut_after = [100_000] * 5
    with pytest.raises(CatalogError, match=r"failed 5 times.*500,000 bytes are kept"):
        source.fetch()
    assert partial.read_bytes() == DATA[:500_000]
    assert not final(tmp_path).exists()
    assert source.fetch()[0].read_bytes() == DATA
    assert server.asked[-1] == "bytes=500000-"


def test_a_server_that_is_busy_is_asked_again(source: Source, server: Any) -> None:
    server.statuses = [503, 429]
    assert source.fetch()[0].read_bytes() == DATA


@pytest.mark.parametrize(
    ("status", "error"), [(404, SourceNotFoundError), (410, SourceNotFoundError), (403, CatalogError)]
)
def test_a_refusal_is_final(source: Source, server: Any, status: int, error: type[Exception]) -> None:
    server.statuses = [status]
    with pytest.raises(error, match=f"'s' .*answered {status}"):
        source.fetch()
    assert len(server.asked) == 1


def test_wrong_bytes_are_thrown_away(source: Source, server: Any, tmp_path: Path, partial: Path) -> None:
    server.files["/data/a.bin"] = b"other"
    got = hashlib.sha256(b"other").hexdigest()
    with pytest.raises(ChecksumError, match=f"5 bytes received have sha256 {got}, expected {SHA}"):
        source.fetch()
    assert not final(tmp_path).exists()
    assert not partial.exists()


@pytest.mark.parametrize("stale", [b"x" * 1000, b"x" * (len(DATA) + 5)], ids=["shorter", "longer"])
def test_a_partial_of_another_version_is_given_up(source: Source, partial: Path, stale: bytes) -> None:
    partial.parent.mkdir(parents=True)
    partial.write_bytes(stale)
    assert source.fetch()[0].read_bytes() == DATA


def test_a_partial_that_is_whole_needs_no_server(source: Source, server: Any, partial: Path) -> None:
    partial.parent.mkdir(parents=True)
    partial.write_bytes(DATA)
    assert source.fetch()[0].read_bytes() == DATA
    assert server.asked == []


def test_a_cached_file_that_rots_is_replaced(source: Source, server: Any) -> None:
    source.fetch()[0].write_bytes(b"rot")
    assert [status.state for status in source.verify()] == ["wrong sha256"]
    assert source.fetch()[0].read_bytes() == DATA
    assert len(server.asked) == 2


def test_redirects_are_followed_to_https_only(source: Source, server: Any, tmp_path: Path) -> None:
    server.files["/moved.bin"] = server.files.pop("/data/a.bin")
    server.redirects["/data/a.bin"] = f"{server.url}/moved.bin"
    assert source.fetch()[0].read_bytes() == DATA
    final(tmp_path).unlink()
    for elsewhere in ("http://localhost/moved.bin", "file:///etc/passwd"):
        server.redirects["/data/a.bin"] = elsewhere
        with pytest.raises(CatalogError, match="which is not https"):
            source.fetch()


def test_a_certificate_nobody_vouches_for_is_refused(
    source: Source, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(CatalogError, match="certificate cannot be trusted"):
        source.fetch()


def test_a_server_that_is_not_there_is_told_after_some_attempts(source: Source, write: Callable[..., Path]) -> None:
    path = write(s={"uri": "https://localhost:1/a.bin", "kind": "table", "sha256": SHA})
    with pytest.raises(CatalogError, match=r"failed 5 times.*Connection refused"):
        open_catalog(path)["s"].fetch()


def test_a_cache_that_cannot_be_written_is_told(source: Source, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file in the way")
    with pytest.raises(CatalogError, match=r"the cache .* cannot be used"):
        source.fetch()


def test_a_killed_download_is_resumed_by_the_next_run(
    source: Source, server: Any, partial: Path, tmp_path: Path
) -> None:
    server.pause = threading.Event()
    catalogue = str(tmp_path / "work" / "data_catalog.yaml")
    with subprocess.Popen([sys.executable, "-c", FETCH, catalogue]) as process:
        deadline = time.monotonic() + 30
        while not (partial.exists() and partial.stat().st_size >= 400_000) and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    server.pause.set()
    server.pause = None
    assert not final(tmp_path).exists()
    kept = partial.stat().st_size
    assert 400_000 <= kept < len(DATA)
    assert source.fetch()[0].read_bytes() == DATA
    assert server.asked == [None, f"bytes={kept}-"]


def test_processes_that_fetch_the_same_file_download_it_once(source: Source, server: Any, tmp_path: Path) -> None:
    catalogue = str(tmp_path / "work" / "data_catalog.yaml")
    server.pause = threading.Event()
    running = [subprocess.Popen([sys.executable, "-c", FETCH, catalogue], stdout=subprocess.PIPE) for _ in range(3)]
    deadline = time.monotonic() + 30
    while not server.asked and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.5)
    server.pause.set()
    said = [process.communicate(timeout=60)[0].decode().strip() for process in running]
    assert [process.returncode for process in running] == [0, 0, 0]
    assert set(said) == {str(final(tmp_path))}
    assert final(tmp_path).read_bytes() == DATA
    assert server.asked == [None]
