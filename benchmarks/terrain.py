"""Large rasters of a repeated texture, and masks that cost almost nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio
from jaxtyping import UInt8
from rasterio.windows import Window

from alps.structures import rle
from alps.structures.masks import Masks
from alps.structures.records import Sample
from alps.structures.tiles import Tile

BLOCK = 512  # px; rasters are written in rows of blocks
CELL = 128  # px
NODATA = 0


class GridMasks:
    """A mask source whose masks are the cells of a grid over the raster, without no-data pixels.

    Windows see the same cells, so cells that they cut are joined again.
    """

    identity = {"masks": "grid", "cell": CELL}  # noqa: RUF012 - read only

    def prefetch(self, samples: list[Sample]) -> None:
        """Do nothing."""

    def __call__(self, sample: Sample) -> Masks:
        """Return the cells of one window."""
        tile = sample.window or Tile(0, 0, sample.size[1], sample.size[0])
        valid = np.ones(sample.size, bool) if sample.valid is None else sample.valid
        counts = []
        for y in range(tile.y0 // CELL * CELL, tile.y1, CELL):
            for x in range(tile.x0 // CELL * CELL, tile.x1, CELL):
                cell = Tile(x, y, x + CELL, y + CELL).intersect(tile)
                assert cell is not None
                inside = cell.within(tile)
                where = valid[inside.y0 : inside.y1, inside.x0 : inside.x1]
                if where.any():
                    counts.append(rle.encode_window(where, inside.x0, inside.y0, sample.size))
        return Masks.from_counts(counts, sample.size, predicted_iou=np.full(len(counts), 0.9))


def read_texture(path: Path) -> UInt8[np.ndarray, "3 H W"]:
    """Return the first three bands of an image, without values that are no data."""
    with rasterio.open(path) as file:
        values: np.ndarray = file.read([1, 2, 3])
    return values.clip(1)  # type: ignore[no-any-return]


def write_raster(
    path: Path,
    texture: UInt8[np.ndarray, "3 h w"],
    *,
    side: int,
    origin: tuple[int, int] = (0, 0),
    empty: bool = False,
) -> None:
    """Write an uncompressed GeoTIFF of a mirrored and repeated texture, by rows of blocks.

    Args:
        path: the file to write.
        texture: the texture.
        side: height and width of the raster, px.
        origin: row and column of its first pixel in the endless texture.
        empty: whether all of it is no data.
    """
    rows, columns = (
        np.pad(np.arange(n), (0, n), "symmetric")[(np.arange(side) + start) % (2 * n)]
        for n, start in zip(texture.shape[1:], origin, strict=True)
    )
    x, y = 500_000 + origin[1] / 2, 5_000_000 - origin[0] / 2
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=side,
        width=side,
        count=3,
        dtype="uint8",
        photometric="RGB",
        nodata=NODATA,
        tiled=True,
        blockxsize=BLOCK,
        blockysize=BLOCK,
        interleave="pixel",
        BIGTIFF="IF_SAFER",
        crs="EPSG:32633",
        transform=rasterio.Affine(0.5, 0, x, 0, -0.5, y),
    ) as file:
        for top in range(0, side, BLOCK):
            strip = texture[:, rows[top : top + BLOCK]][:, :, columns]
            file.write(
                np.full_like(strip, NODATA) if empty else strip,
                window=Window(0, top, side, strip.shape[1]),
            )
