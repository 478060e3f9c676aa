"""Colour and shape of a mask in nine numbers, from its region covariance, and its bands.

The covariance of (L, a, b, x, y) over the mask's pixels (Tuzel et al. 2006, "Region Covariance")
gives both the spread of the colours and the ellipse with the mask's second moments. Its parts that
mix colour and position are not needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int64, Shaped, UInt8

from alps.errors import ConfigError
from alps.features.limits import LIMITS
from alps.structures.column_runs import ColumnRuns
from alps.structures.masks import Masks
from alps.structures.records import Sample
from alps.structures.settings import check_attributes


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapeFeatures:
    """Mean and standard deviation of CIELAB colours and bands; area, elongation and solidity.

    Each number lies between about -1 and 1 before weighting, so the weights set the influence of
    colour and shape relative to a feature of length 1.

    Args:
        color: weight of the six colour features; 0 omits them.
        shape: weight of the three shape features; 0 omits them.
        bands: weight of the mean and the standard deviation of each band for networks
            (`Sample.bands`); 0 omits them.
        band_limits: [minimum, maximum] of each band, which become 0 and 1; other values are
            clipped. They are fixed, so that equal ground has equal features in every store.
        tile_size: side of the overlapping tiles that larger images are read in, in pixels.
        tile_overlap: overlap of neighbouring tiles, in pixels.

    Raises:
        ConfigError: a setting is not valid, or ``bands`` has no ``band_limits``.
    """

    color: float = 2.0
    shape: float = 0.0
    bands: float = 0.0
    band_limits: Sequence[Sequence[float | int]] | None = None
    tile_size: int = 1024
    tile_overlap: int = 128

    def __post_init__(self) -> None:
        check_attributes(LIMITS["alps.features.ShapeFeatures"], self)
        if self.bands and self.band_limits is None:
            raise ConfigError(
                f"features.bands={self.bands:g} needs the values of each band that become 0 and 1; "
                "set features.band_limits, such as [[0,3000],[0,3000]] for two bands"
            )

    @property
    def identity(self) -> Mapping[str, Any]:
        """All settings that are in use; ``version`` counts changes of the algorithm."""
        tiles = {"tile_size": self.tile_size, "tile_overlap": self.tile_overlap}
        settings: dict[str, Any] = {"color": self.color, "shape": self.shape, **tiles}
        if self.bands:
            limits = [[float(low), float(high)] for low, high in self.band_limits or ()]
            settings |= {"bands": self.bands, "band_limits": limits}
        return {"features": "shape", "version": 1, **settings}

    @property
    def channels(self) -> int:
        """Number of features: six of colour, three of shape, two of each band, by weight."""
        bands = len(self.band_limits or ()) if self.bands else 0
        return 6 * (self.color != 0) + 3 * (self.shape != 0) + 2 * bands

    @property
    def parallel(self) -> bool:
        """True: it only reads the image and the masks."""
        return True

    def __call__(self, sample: Sample, masks: Masks) -> Float32[np.ndarray, "N C"]:
        """Return one row per mask; the masks belong to the image, and none is empty.

        Raises:
            ConfigError: the image does not have the bands of ``band_limits``.
        """
        runs = ColumnRuns.of(masks.counts, sample.size[0])
        area = np.zeros(len(masks))
        colors = np.zeros((2, len(masks), 3))
        positions = np.zeros((5, len(masks)))
        values = self._check_bands(sample)
        bands = np.zeros((2, len(masks), len(values)))
        for tile in sample.tiles(self.tile_size, self.tile_overlap):
            part = runs.within(tile)
            area += part.sum(part.lengths)
            if self.color:
                colors += _color_moments(sample.image[tile.y0 : tile.y1, tile.x0 : tile.x1], part)
            if self.bands:
                window = values[:, tile.y0 : tile.y1, tile.x0 : tile.x1]
                bands += self._band_moments(window, sample.valid_in(tile), part)
            if self.shape:
                corner = masks.xyxy[:, :2].astype(np.int64) - (tile.x0, tile.y0)
                positions += _position_moments(part, corner)
        weighted = []
        if self.color:
            weighted.append(self.color * _mean_and_spread(colors / area[:, None]))
        if self.shape:
            weighted.append(self.shape * _shape(area, positions / area))
        if self.bands:
            weighted.append(self.bands * _mean_and_spread(bands / area[:, None]))
        return np.concatenate(weighted, axis=1).astype(np.float32)

    def _check_bands(self, sample: Sample) -> Shaped[np.ndarray, "C H W"]:
        """Return the bands of an image; none, if they are not used."""
        if not self.bands:
            return np.zeros((0, *sample.size))
        expected = len(self.band_limits or ())
        count = 0 if sample.bands is None else len(sample.bands)
        if sample.bands is None or count != expected:
            raise ConfigError(
                f"features.band_limits has {expected} pairs, but image {sample.image_id!r} has "
                f"{count} bands; set dataset.bands to the bands for features, and a pair of "
                "features.band_limits for each, or features.bands=0"
            )
        return sample.bands

    def _band_moments(
        self,
        values: Shaped[np.ndarray, "C h w"],
        valid: Bool[np.ndarray, "h w"],
        runs: ColumnRuns,
    ) -> Float64[np.ndarray, "2 N C"]:
        """Return the sums of the scaled bands over each mask, and of their squares."""
        columns = []
        for band, (low, high) in zip(values, self.band_limits or (), strict=True):
            scaled = (np.where(valid, band, low).astype(np.float64) - low) / (high - low)
            columns.append(_moments(scaled.clip(0, 1)[..., None], runs))
        return np.concatenate(columns, axis=2)


def _color_moments(
    image: UInt8[np.ndarray, "H W 3"], runs: ColumnRuns
) -> Float64[np.ndarray, "2 N 3"]:
    """Return the sums of the CIELAB colours over each mask, / 100, and of their squares."""
    return _moments(cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB) / 100, runs)


def _moments(values: Float[np.ndarray, "H W C"], runs: ColumnRuns) -> Float64[np.ndarray, "2 N C"]:
    """Return the sums of each channel over each mask, and of its squares."""
    height, width, channels = values.shape
    moments = []
    for power in (1, 2):
        # Sums of the pixels above, in the same column.
        above = np.zeros((height + 1, width, channels))
        np.power(values, power, out=above[1:], dtype=np.float64)
        for y in range(height):  # np.cumsum adds down one column at a time: eight times as slow
            above[y + 1] += above[y]
        of_runs = above[runs.bottom, runs.x] - above[runs.top, runs.x]
        moments.append(np.stack([runs.sum(channel) for channel in of_runs.T], axis=1))
    return np.stack(moments)


def _mean_and_spread(moments: Float64[np.ndarray, "2 N C"]) -> Float64[np.ndarray, "N 2*C"]:
    """Return means and standard deviations, given the means and those of the squares."""
    mean, square = moments
    return np.concatenate([mean, np.sqrt(np.maximum(square - mean**2, 0))], axis=1)


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
