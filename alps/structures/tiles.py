"""Image tiles and conversions of box formats."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

Boxes4 = Float[np.ndarray, "N 4"]


@dataclass(frozen=True, slots=True)
class Tile:
    """A window of an image, ``[x0, x1) × [y0, y1)`` in pixels."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def size(self) -> tuple[int, int]:
        """(height, width), px."""
        return self.y1 - self.y0, self.x1 - self.x0

    @property
    def area(self) -> int:
        """Number of pixels."""
        return (self.y1 - self.y0) * (self.x1 - self.x0)

    def within(self, other: Tile) -> Tile:
        """Return the same pixels, counted from the upper left corner of another tile."""
        return Tile(self.x0 - other.x0, self.y0 - other.y0, self.x1 - other.x0, self.y1 - other.y0)

    def intersect(self, other: Tile) -> Tile | None:
        """Return the intersection with another tile, or None if it is empty."""
        x0, y0 = max(self.x0, other.x0), max(self.y0, other.y0)
        x1, y1 = min(self.x1, other.x1), min(self.y1, other.y1)
        return Tile(x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


def cut_tiles(size: tuple[int, int], tile_size: int, overlap: int) -> list[Tile]:
    """Return square tiles that cover an image, row by row.

    The tiles are evenly spaced, so that the last one ends at the image border. An image that
    is not larger than a tile gets one tile.

    Args:
        size: (H, W) of the image, px.
        tile_size: side of a tile, px.
        overlap: minimum overlap of neighbouring tiles, px.

    Raises:
        ValueError: the overlap is negative or not below ``tile_size``.

    >>> [(t.x0, t.x1) for t in cut_tiles((100, 250), tile_size=128, overlap=16)]
    [(0, 128), (61, 189), (122, 250)]
    """
    if not 0 <= overlap < tile_size:
        raise ValueError(f"overlap must lie in [0, tile_size = {tile_size}), got {overlap}")

    def starts(length: int) -> list[int]:
        if length <= tile_size:
            return [0]
        n = -(-(length - overlap) // (tile_size - overlap))
        return [round(i * (length - tile_size) / (n - 1)) for i in range(n)]

    height, width = size
    return [
        Tile(x0, y0, min(x0 + tile_size, width), min(y0 + tile_size, height))
        for y0 in starts(height)
        for x0 in starts(width)
    ]


def box_xyxy_to_xywh(boxes: Boxes4) -> Boxes4:
    """Convert boxes from corners to COCO's x, y, width, height."""
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def box_xywh_to_xyxy(boxes: Boxes4) -> Boxes4:
    """Convert boxes from COCO's x, y, width, height to corners, right and lower edges exclusive."""
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
