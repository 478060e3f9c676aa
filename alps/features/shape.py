"""Colour and shape of a mask in nine numbers, from its region covariance.

The covariance of (L, a, b, x, y) over the mask's pixels (Tuzel et al. 2006, "Region Covariance")
gives both the spread of the colours and the ellipse with the mask's second moments. Its parts that
mix colour and position are not needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float32, Float64, Int64, UInt8

from alps.features.limits import LIMITS
from alps.structures.column_runs import ColumnRuns
from alps.structures.masks import Masks
from alps.structures.records import Sample
from alps.structures.settings import check_attributes


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapeFeatures:
    """Mean and standard deviation of CIELAB colours, and area, elongation and solidity.

    Each number lies between about -1 and 1 before weighting, so the weights set the influence of
    colour and shape relative to a feature of length 1.

    Args:
        color: weight of the six colour features; 0 omits them.
        shape: weight of the three shape features; 0 omits them.
        tile_size: side of the overlapping tiles that larger images are read in, in pixels.
        tile_overlap: overlap of neighbouring tiles, in pixels.
    """

    color: float = 2.0
    shape: float = 0.0
    tile_size: int = 1024
    tile_overlap: int = 128

    def __post_init__(self) -> None:
        check_attributes(LIMITS["alps.features.ShapeFeatures"], self)

    @property
    def identity(self) -> Mapping[str, Any]:
        """All settings; ``version`` counts changes of the algorithm."""
        tiles = {"tile_size": self.tile_size, "tile_overlap": self.tile_overlap}
        settings = {"color": self.color, "shape": self.shape, **tiles}
        return {"features": "shape", "version": 1, **settings}

    @property
    def channels(self) -> int:
        """Number of features: six of colour and three of shape, unless their weight is 0."""
        return 6 * (self.color != 0) + 3 * (self.shape != 0)

    @property
    def parallel(self) -> bool:
        """True: it only reads the image and the masks."""
        return True

    def __call__(self, sample: Sample, masks: Masks) -> Float32[np.ndarray, "N C"]:
        """Return one row per mask; the masks belong to the image, and none is empty."""
        runs = ColumnRuns.of(masks.counts, sample.size[0])
        area = np.zeros(len(masks))
        colors = np.zeros((2, len(masks), 3))
        positions = np.zeros((5, len(masks)))
        for tile in sample.tiles(self.tile_size, self.tile_overlap):
            part = runs.within(tile)
            area += part.sum(part.lengths)
            if self.color:
                colors += _color_moments(sample.image[tile.y0 : tile.y1, tile.x0 : tile.x1], part)
            if self.shape:
                corner = masks.xyxy[:, :2].astype(np.int64) - (tile.x0, tile.y0)
                positions += _position_moments(part, corner)
        weighted = []
        if self.color:
            mean, square = colors / area[:, None]
            spread = np.sqrt(np.maximum(square - mean**2, 0))
            weighted.append(self.color * np.concatenate([mean, spread], axis=1))
        if self.shape:
            weighted.append(self.shape * _shape(area, positions / area))
        return np.concatenate(weighted, axis=1).astype(np.float32)


def _color_moments(
    image: UInt8[np.ndarray, "H W 3"], runs: ColumnRuns
) -> Float64[np.ndarray, "2 N 3"]:
    """Return the sums of the CIELAB colours over each mask, / 100, and of their squares."""
    height, width = image.shape[:2]
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB) / 100
    moments = []
    for power in (1, 2):
        above = np.zeros((height + 1, width, 3))  # sums of the pixels above, in the same column
        np.power(lab, power, out=above[1:], dtype=np.float64)
        for y in range(height):  # np.cumsum adds down one column at a time: eight times as slow
            above[y + 1] += above[y]
        of_runs = above[runs.bottom, runs.x] - above[runs.top, runs.x]
        moments.append(np.stack([runs.sum(channel) for channel in of_runs.T], axis=1))
    return np.stack(moments)


def _position_moments(
    runs: ColumnRuns, corner: Int64[np.ndarray, "N 2"]
) -> Float64[np.ndarray, "5 N"]:
    """Return the sums of x, y, x², x·y and y² over each mask.

    Positions are relative to a corner, because squares of large coordinates lose digits.

    Args:
        runs: the pixels of the masks in a tile.
        corner: x y of the origin of each mask, in the tile.
    """
    x, top = runs.x - corner[runs.mask, 0], runs.top - corner[runs.mask, 1]
    bottom, n = top + runs.lengths, runs.lengths
    y = (top + bottom - 1) * n // 2
    squares = [(end - 1) * end * (2 * end - 1) // 6 for end in (top, bottom)]
    return np.stack(
        [runs.sum(values) for values in (x * n, y, x * x * n, x * y, squares[1] - squares[0])]
    )


def _shape(
    area: Float64[np.ndarray, " N"], moments: Float64[np.ndarray, "5 N"]
) -> Float64[np.ndarray, "N 3"]:
    """Return size (1 for 65,536 pixels), elongation (0 for a disk), solidity (1 for an ellipse).

    Args:
        area: area of each mask in pixels.
        moments: means of x, y, x², x·y and y² over each mask.
    """
    x, y, xx, xy, yy = moments
    xx, xy, yy = xx - x * x, xy - x * y, yy - y * y
    pixel = np.eye(2) / 12  # second moments of one pixel, so that no axis has length 0
    covariance = np.stack([xx, xy, xy, yy], axis=1).reshape(-1, 2, 2)
    minor, major = np.sqrt(np.linalg.eigvalsh(covariance + pixel)).T
    return np.stack([np.log2(area) / 16, 1 - minor / major, area / (4 * np.pi * minor * major)], 1)
