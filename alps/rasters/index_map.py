"""Write and read GeoTIFFs of class indices window by window."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

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
    with rasterio.Env(**OPTIONS):
        file = rasterio.open(
            path,
            "w",
            driver="GTiff",
            height=size[0],
            width=size[1],
            count=1,
            dtype="uint8" if ignore_index <= 255 else "uint16",
            nodata=ignore_index,
            tiled=True,
            blockxsize=512,
            blockysize=512,
            compress="deflate",
            BIGTIFF="IF_SAFER",
            **to_profile(georeference),
        )
    with file:
        file.write_colormap(1, {**dict(enumerate(colors)), ignore_index: IGNORE_COLOR})
        file.update_tags(1, **{f"CLASS_{i}": name for i, name in enumerate(names)})

        def write(tile: Tile, labels: Integer[np.ndarray, "H W"]) -> None:
            with rasterio.Env(**OPTIONS):
                file.write(labels, 1, window=((tile.y0, tile.y1), (tile.x0, tile.x1)))

        yield write
