"""A catalogue in a folder, an https server on this machine, and a folder of wheels that pip takes for a registry."""

from __future__ import annotations

import hashlib
import http.server
import shutil
import ssl
import subprocess
import threading
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import yaml
from affine import Affine

from geopov.catalog import https

COMMON = {"licence": "CC0", "citation": "Nobody (2020).", "year": 2020}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GEOPOV_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("GEOPOV_OFFLINE", raising=False)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes a catalogue of the given entries; keys that every entry needs are filled in."""

    def write_catalogue(**entries: dict[str, Any]) -> Path:
        path = tmp_path / "work" / "data_catalog.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(yaml.safe_dump({name: {**COMMON, **entry} for name, entry in entries.items()}))
        return path

    return write_catalogue


@pytest.fixture
def write_tiff() -> Callable[..., Path]:
    def write_raster(
        path: Path, *, n_bands: int = 1, crs: str | None = "EPSG:4326", nodata: float | None = None
    ) -> Path:
        path.parent.mkdir(exist_ok=True, parents=True)
        profile = {"driver": "GTiff", "width": 4, "height": 3, "count": n_bands, "dtype": "float32"}
        with rasterio.open(
            path, "w", **profile, crs=crs, nodata=nodata, transform=Affine(0.1, 0.0, 84.0, 0.0, -0.1, 28.0)
        ) as dataset:
            dataset.write(np.arange(12 * n_bands, dtype="float32").reshape(n_bands, 3, 4))
        return path

    return write_raster


@dataclass
class Server:
    """What the https server answers; tests change it between requests."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    shift: int = 0  # how far the range that is sent lies from the one asked for
    cut_after: list[int] = field(default_factory=list)  # bytes sent before the line breaks, one a request
    statuses: list[int] = field(default_factory=list)  # answered instead, one a request
    redirects: dict[str, str] = field(default_factory=dict)
    pause: threading.Event | None = None  # the second half of a file waits for it
    asked: list[str | None] = field(default_factory=list)  # the Range of every request


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Https

    def do_GET(self) -> None:
        told = self.server.told
        told.asked.append(self.headers.get("Range"))
        if self.path in told.redirects:
            self.send_response(302)
            self.send_header("Location", told.redirects[self.path])
            self.end_headers()
            return
        if told.statuses:
            self.send_error(told.statuses.pop(0))
            return
        if self.path not in told.files:
            self.send_error(404)
            return
        self._send(told, told.files[self.path])

    def _send(self, told: Server, data: bytes) -> None:
        wanted, start = self.headers.get("Range"), 0
        if wanted and told.ranges:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(data):
                self.send_error(416)
                return
            start -= told.shift
            told.shift = 0
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        else:
            self.send_response(200)
        body = data[start:]
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if told.cut_after:
            body = body[: told.cut_after.pop(0)]
        if told.pause is None:
            self.wfile.write(body)
            return
        self.wfile.write(body[: len(body) // 2])
        self.wfile.flush()
        told.pause.wait(20)
        self.wfile.write(body[len(body) // 2 :])

    def log_message(self, *_: object) -> None:
        pass


class _Https(http.server.ThreadingHTTPServer):
    told: Server

    def handle_error(self, *_: object) -> None:
        pass  # clients that are killed or that refuse the certificate are what some tests are about


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes the test server's certificate, is not installed")
    folder = tmp_path_factory.mktemp("certificate")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    )
    subprocess.run([*command.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True)
    return key, certificate


@pytest.fixture
def server(certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """An https server on the loopback interface whose certificate is trusted through SSL_CERT_FILE."""
    key, public = certificate
    monkeypatch.setenv("SSL_CERT_FILE", str(public))
    monkeypatch.setenv("no_proxy", "localhost")
    monkeypatch.setattr(https, "BACKOFF_S", 0.01)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, key)
    with _Https(("localhost", 0), _Handler) as listening:
        listening.told = Server(url=f"https://localhost:{listening.server_address[1]}")
        listening.socket = context.wrap_socket(listening.socket, server_side=True)
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield listening.told
        listening.shutdown()
        thread.join()


@pytest.fixture
def make_wheel() -> Callable[..., Path]:
    """Builds a wheel of the given members, which may stand twice, as (name, bytes) pairs."""

    def build(folder: Path, name: str, members: list[tuple[str, bytes]], version: str = "1.0") -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{name}-{version}-py3-none-any.whl"
        info = f"{name}-{version}.dist-info"
        metadata = [
            (f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode()),
            (f"{info}/WHEEL", b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"),
            (f"{info}/RECORD", b""),
        ]
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # zipfile's, about a repeated name
            for member, data in [*members, *metadata]:
                archive.writestr(member, data)
        return path

    return build


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip, the real one, takes for the only registry there is."""
    folder = tmp_path / "registry"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder
