"""A web server that serves files with byte ranges, and fails when told to.

It is a process of its own: GDAL holds Python's lock during some of its requests, so that a server in a thread of the
process that reads could not answer them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections import defaultdict
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class Store:
    """The server as the tests see it; leaving the context ends it."""

    def __enter__(self) -> Store:
        self._process = subprocess.Popen([sys.executable, __file__], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self._port = int(self._process.stdout.readline())
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def put(self, path: Path, name: str) -> str:
        """Serve a file and return its address; GDAL remembers addresses, so each test has its own."""
        self._order(serve=str(path), name=f"/{name}")
        return f"http://127.0.0.1:{self._port}/{name}"

    def fail(self, name: str, how: str | int, *, times: int = 1_000_000, from_byte: int = 0) -> None:
        """Let the next requests fail: a status, "hang" or "cut".

        With ``from_byte`` above 0, only requests of ranges that reach this byte fail.
        """
        self._order(name=f"/{name}", fail={"how": how, "times": times, "from_byte": from_byte})

    def requests(self, name: str) -> list[tuple[str, str | None]]:
        """Method and range of all requests so far."""
        return [(method, span) for method, span in self._order(name=f"/{name}")]

    def _order(self, **order: Any) -> Any:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=10)
        try:
            connection.request("POST", "/", json.dumps(order))
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.failures: dict[str, dict[str, Any]] = {}
        self.log: dict[str, list[tuple[str, str | None]]] = defaultdict(list)
        self.lock = threading.Lock()

    def failure(self, name: str, method: str, span: str | None) -> Any:
        """How this request is to fail, or None; it is counted."""
        with self.lock:
            self.log[name].append((method, span))
            failure = self.failures.get(name)
            last = int(span.split("-")[1]) if span else 0
            if failure is None or failure["times"] == 0 or last < failure["from_byte"]:
                return None
            failure["times"] -= 1
            return failure["how"]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_: Any) -> None:
        pass

    def do_POST(self) -> None:
        order = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name = order["name"]
        if "serve" in order:
            self.server.files[name] = Path(order["serve"]).read_bytes()
        if "fail" in order:
            self.server.failures[name] = order["fail"]
        self._send(200, json.dumps(self.server.log[name]).encode())

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        span = self.headers.get("Range")
        how = self.server.failure(self.path, self.command, span)
        data = self.server.files.get(self.path)
        if isinstance(how, int) or data is None:
            self._send(how or 404, b"")
            return
        if how == "hang":
            threading.Event().wait(30)
            self.close_connection = True
            return
        if span:
            first, last = (int(part) for part in span.split("=")[1].split("-"))
            part = data[first : last + 1]
            self._send(206, part, how, **{"Content-Range": f"bytes {first}-{first + len(part) - 1}/{len(data)}"})
        else:
            self._send(200, data, how)

    def _send(self, status: int, body: bytes, how: str | None = None, **headers: str) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body)), "Accept-Ranges": "bytes"} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if how == "cut":
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
        else:
            self.wfile.write(body)


if __name__ == "__main__":
    with _Server() as server:
        sys.stdout.write(f"{server.server_address[1]}\n")
        sys.stdout.flush()
        server.serve_forever()
