"""Georeferenced rasters on all kinds of grids, and a server that sends parts of files."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio import CRS, Affine

from tests.factories import create_raster, draw_scene

UTM = CRS.from_epsg(32616)
#: An Albers projection without an EPSG code.
ALBERS = CRS.from_proj4("+proj=aea +lat_1=20 +lat_2=60 +lat_0=40 +lon_0=-96 +datum=NAD83 +units=m")
#: CRS and transform by name.
GRIDS = {
    "UTM": (UTM, Affine(0.5, 0, 500_000.25, 0, -0.5, 4_000_000.75)),
    "geographic": (CRS.from_epsg(4326), Affine(1e-5, 0, -87.123, 0, -1e-5, 41.5)),
    "Albers": (ALBERS, Affine(30, 0, -673_425, 0, -30, 2_130_165)),
    "rotated": (UTM, Affine(0.4, 0.3, 5e5, 0.3, -0.4, 4e6)),
    "flipped": (UTM, Affine(0.5, 0, 500_000, 0, 0.5, 4_000_000)),
}


def create_geo_raster(
    path: Path,
    bands: np.ndarray,
    grid: str = "UTM",
    descriptions: Sequence[str] | None = None,
    **options: Any,
) -> None:
    """Write a GeoTIFF.

    Args:
        path: the file.
        bands: (C, H, W).
        grid: one of `GRIDS`.
        descriptions: descriptions of the bands.
        options: of `rasterio.open`.
    """
    crs, transform = GRIDS[grid]
    georeference = {"crs": crs, "transform": transform}
    create_raster(path, bands, **{"photometric": "MINISBLACK", **georeference, **options})
    if descriptions is not None:
        with rasterio.open(path, "r+") as file:
            file.descriptions = descriptions


def draw_bands(
    count: int, size: tuple[int, int] = (64, 96), dtype: Any = np.uint16, seed: int = 0
) -> np.ndarray:
    """Bands (C, H, W) that differ from each other and have no zeros."""
    scene = draw_scene(size, seed)[0][..., 0].astype(np.float64)
    bands = np.stack([np.roll(scene, 5 * i, axis=1) + 10 * i + 1 for i in range(count)])
    return (bands.clip(1, 255) if dtype == np.uint8 else bands * 8).astype(dtype)


class _Server(ThreadingHTTPServer):
    """A server of one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.status: int | None = None  # instead of the file
        self.requests: list[str] = []
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        file = self.server.folder / self.path.partition("?")[0].lstrip("/")
        status = self.server.status or (200 if file.is_file() else 404)
        data = file.read_bytes() if status == 200 else b""
        total = len(data)
        self_range = self.headers.get("Range")
        if status == 200 and self_range:
            first, _, last = self_range.removeprefix("bytes=").partition("-")
            data, status = data[int(first) : int(last or total) + 1], 206
        self.send_response(status)
        self.send_header("Accept-Ranges", "bytes")
        if status == 206:
            self.send_header("Content-Range", f"bytes {first}-{int(first) + len(data) - 1}/{total}")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)


@contextmanager
def serve(folder: Path) -> Iterator[_Server]:
    """Serve a folder on a local port."""
    server = _Server(folder)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
