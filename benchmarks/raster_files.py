"""Compare reading and writing of windows with loops over rasterio's functions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio
from rasterio.windows import Window

from alps.images.geo.rasters import Rasters
from alps.rasters.gdal import OPTIONS
from alps.rasters.index_map import create_index_map
from alps.structures.georeference import Georeference
from alps.structures.tiles import Tile
from benchmarks.measure import Spread, interleave, markdown, ratio
from benchmarks.terrain import BLOCK

CLASSES, CELL = 46, 64  # of the index map; its cells have this side, px


def window_of(tile: Tile | None) -> Window:
    """Return rasterio's window."""
    assert tile is not None
    return Window(tile.x0, tile.y0, tile.size[1], tile.size[0])


def compare_files(path: Path, folder: Path, rounds: int) -> str:
    """Return a table of CPU seconds, all with ALPS' settings of GDAL and in the same order.

    Args:
        path: an RGB raster with a no-data value.
        folder: folder for index maps.
        rounds: number of rounds.
    """
    images = Rasters(root=str(path))
    windows = [window_of(record.window) for record in images.records()]
    labels = draw_labels(images.headers()[0].size)
    height, width = labels.shape
    strips = [Tile(0, y, width, min(y + BLOCK, height)) for y in range(0, height, BLOCK)]

    def read() -> None:
        for record in images.records():
            images.read(record)

    def read_bands() -> None:
        with rasterio.Env(**OPTIONS), rasterio.open(path) as file:
            for window in windows:
                file.read(window=window)

    def read_image() -> None:
        with rasterio.Env(**OPTIONS), rasterio.open(path) as file:
            for window in windows:
                np.ascontiguousarray(np.moveaxis(file.read(window=window), 0, 2))
                file.dataset_mask(window=window)

    def write() -> None:
        size, colors = (height, width), [(0, 0, 0)] * CLASSES
        with create_index_map(folder / "a.tif", size, Georeference(), colors, 255) as put:
            for tile in strips:
                put(tile, labels[tile.y0 : tile.y1])

    def write_stock() -> None:
        kind = {"driver": "GTiff", "dtype": "uint8", "count": 1, "nodata": 255}
        kind |= {"tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK, "compress": "deflate"}
        with (
            rasterio.Env(**OPTIONS),
            rasterio.open(folder / "b.tif", "w", **kind, height=height, width=width) as file,
        ):
            for tile in strips:
                file.write(labels[tile.y0 : tile.y1], 1, window=window_of(tile))

    peers = {
        "read": read,
        "bands": read_bands,
        "image": read_image,
        "write": write,
        "stock": write_stock,
    }
    seconds = interleave(peers, rounds)[1]
    rows = [
        [
            title,
            Spread.of(seconds[ours]),
            Spread.of(seconds[peer]),
            ratio(seconds[peer], seconds[ours]),
        ]
        for title, ours, peer in (
            ("read, against the bands alone", "read", "bands"),
            ("read, against (H, W, 3) and the mask", "read", "image"),
            ("write", "write", "stock"),
        )
    ]
    return markdown([f"{len(windows)} windows", "ours, CPU s", "rasterio, CPU s", "speed"], rows)


def draw_labels(size: tuple[int, int]) -> np.ndarray:
    """Return an index map of cells of all classes."""
    y, x = (np.arange(side) // CELL for side in size)
    return ((y[:, None] * 7 + x) % CLASSES).astype(np.uint8)
