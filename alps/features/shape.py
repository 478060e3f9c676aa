"""Colour and shape of a mask in nine numbers, from its region covariance.

One 5 × 5 covariance of (L, a, b, x, y) over the mask's pixels (Tuzel et al. 2006, "Region
Covariance") gives both the spread of the colours and the ellipse with the mask's second moments.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float32, Float64

from alps.features.limits import LIMITS
from alps.features.pool import mask_windows
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

    def __call__(self, sample: Sample, masks: Masks) -> Float32[np.ndarray, "N C"]:
        """Return one row per mask; the masks belong to the image, and none is empty."""
        sums = np.zeros((len(masks), 5))
        products = np.zeros((len(masks), 5, 5))
        pixels = np.zeros(len(masks))
        for tile in sample.tiles(self.tile_size, self.tile_overlap):
            image = sample.image[tile.y0 : tile.y1, tile.x0 : tile.x1]
            lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB) / 100
            for i, window, mask in mask_windows(masks, tile):
                y, x = mask.numpy().nonzero()
                y, x = y + window.y0, x + window.x0
                color = lab[y - tile.y0, x - tile.x0]
                # Relative to the corner of the box: squares of large coordinates lose digits.
                position = np.stack([x, y], axis=1) - masks.xyxy[i, :2]
                values = np.concatenate([color, position], axis=1).astype(np.float64)
                sums[i] += values.sum(axis=0)
                products[i] += values.T @ values
                pixels[i] += len(values)
        mean = sums / pixels[:, None]
        covariance = products / pixels[:, None, None] - mean[:, :, None] * mean[:, None]
        spread = np.sqrt(np.maximum(np.diagonal(covariance, axis1=1, axis2=2)[:, :3], 0))
        color = np.concatenate([mean[:, :3], spread], axis=1)
        parts = ((self.color, color), (self.shape, _shape(pixels, covariance[:, 3:, 3:])))
        weighted = [weight * part for weight, part in parts if weight]
        return np.concatenate(weighted, axis=1).astype(np.float32)


def _shape(
    area: Float64[np.ndarray, " N"], covariance: Float64[np.ndarray, "N 2 2"]
) -> Float64[np.ndarray, "N 3"]:
    """Return size (1 for 65,536 pixels), elongation (0 for a disk), solidity (1 for an ellipse)."""
    pixel = np.eye(2) / 12  # second moments of one pixel, so that no axis has length 0
    minor, major = np.sqrt(np.linalg.eigvalsh(covariance + pixel)).T
    return np.stack([np.log2(area) / 16, 1 - minor / major, area / (4 * np.pi * minor * major)], 1)
