"""Compare writing of index maps with a loop over rasterio's functions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio
from rasterio.windows import Window

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


def compare_writing(size: tuple[int, int], folder: Path, rounds: int) -> str:
    """Return a table of CPU seconds, all with ALPS' settings of GDAL and in the same order.

    Args:
        size: (H, W) of the index map, px.
        folder: folder for index maps.
        rounds: number of rounds.
    """
    labels = draw_labels(size)
    height, width = size
    strips = [Tile(0, y, width, min(y + BLOCK, height)) for y in range(0, height, BLOCK)]

    def write() -> None:
        colors = [(0, 0, 0)] * CLASSES
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

    peers = {"ours": write, "stock": write_stock}
    seconds = interleave(peers, rounds)[1]
    row = [Spread.of(seconds["ours"]), Spread.of(seconds["stock"])]
    return markdown(
        ["ours, CPU s", "rasterio, CPU s", "speed"],
        [[*row, ratio(seconds["stock"], seconds["ours"])]],
    )


def draw_labels(size: tuple[int, int]) -> np.ndarray:
    """Return an index map of cells of all classes."""
    y, x = (np.arange(side) // CELL for side in size)
    return ((y[:, None] * 7 + x) % CLASSES).astype(np.uint8)
