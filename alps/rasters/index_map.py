"""Write and read GeoTIFFs of class indices window by window."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from jaxtyping import Integer, UInt8, UInt16

from alps.rasters.gdal import OPTIONS, gdal_session, open_raster, silence_rasterio
from alps.rasters.georeference import to_profile
from alps.structures.georeference import Georeference
from alps.structures.palette import IGNORE_COLOR
from alps.structures.tiles import Tile

#: Writes the labels of one window.
Write = Callable[[Tile, Integer[np.ndarray, "H W"]], None]


def read_overview(path: Path, longest: int) -> Integer[np.ndarray, "h w"]:
    """Return every n-th row and column of an index map.

    Args:
        path: the index map.
        longest: maximum length of the longer side, px.

    Returns:
        The classes.

    Raises:
        ImageError: the file cannot be read.
    """
    with gdal_session(path), open_raster(path) as file:
        step = max(1, -(-max(file.height, file.width) // longest))
        shape = (-(-file.height // step), -(-file.width // step))
        values: np.ndarray = file.read(1, out_shape=shape)
        return values


def read_index_map(path: Path, tile: Tile) -> UInt8[np.ndarray, "H W"] | UInt16[np.ndarray, "H W"]:
    """Return a window of an index map; raise `ImageError` if it cannot be read."""
    with gdal_session(path), open_raster(path) as file:
        values: np.ndarray = file.read(1, window=((tile.y0, tile.y1), (tile.x0, tile.x1)))
        return values


@contextmanager
def create_index_map(
    path: str | Path,
    size: tuple[int, int],
    georeference: Georeference,
    colors: Sequence[tuple[int, int, int]],
    ignore_index: int,
    names: Sequence[str] = (),
) -> Iterator[Write]:
    """Create a GeoTIFF of class indices that is written window by window.

    Args:
        path: the file to write.
        size: (H, W) of the raster, px.
        georeference: georeference of the raster.
        colors: RGB of each class.
        ignore_index: value of unlabelled and no-data pixels; above 255 the file is uint16.
        names: name of each class, which becomes a tag of the band: CLASS_0=name.

    Yields:
        A function that writes the labels of one window.
    """
    silence_rasterio()
    dtype = "uint8" if ignore_index <= 255 else "uint16"
    with _create(path, size, georeference, dtype, ignore_index) as file:
        file.write_colormap(1, {**dict(enumerate(colors)), ignore_index: IGNORE_COLOR})
        file.update_tags(1, **{f"CLASS_{i}": name for i, name in enumerate(names)})
        yield partial(_write, file)


@contextmanager
def create_probability_map(
    path: str | Path, size: tuple[int, int], georeference: Georeference
) -> Iterator[Write]:
    """Create a GeoTIFF of probabilities, 1 to 255, that is written window by window.

    Args:
        path: the file to write.
        size: (H, W) of the raster, px.
        georeference: georeference of the raster.

    Yields:
        A function that writes the values of one window; 0 is no data.
    """
    with _create(path, size, georeference, "uint8", 0) as file:
        file.update_tags(1, description="probability of the predicted class, 255 is 1")
        yield partial(_write, file)


def _create(
    path: str | Path, size: tuple[int, int], georeference: Georeference, dtype: str, nodata: int
) -> Any:
    """Create a GeoTIFF of one band."""
    with rasterio.Env(**OPTIONS):
        return rasterio.open(
            path,
            "w",
            driver="GTiff",
            height=size[0],
            width=size[1],
            count=1,
            dtype=dtype,
            nodata=nodata,
            tiled=True,
            blockxsize=512,
            blockysize=512,
            compress="deflate",
            BIGTIFF="IF_SAFER",
            **to_profile(georeference),
        )


def _write(file: Any, tile: Tile, values: Integer[np.ndarray, "H W"]) -> None:
    with rasterio.Env(**OPTIONS):
        file.write(values, 1, window=((tile.y0, tile.y1), (tile.x0, tile.x1)))
