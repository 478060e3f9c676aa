"""The pixels of all masks of an image as vertical runs, for sums over masks.

A sum over the pixels of a mask is a sum over its runs of differences of cumulative sums along the
columns. Its cost depends on the number of runs, not on the number of pixels, and one pass handles
all masks at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64, Shaped

from alps.structures import rle
from alps.structures.tiles import Tile


@dataclass(frozen=True, slots=True)
class ColumnRuns:
    """Runs of pixels of masks; each lies in one column."""

    n_masks: int
    mask: Int64[np.ndarray, " R"]  # index of the mask, ascending
    x: Int64[np.ndarray, " R"]  # column, px
    top: Int64[np.ndarray, " R"]  # first row, px
    bottom: Int64[np.ndarray, " R"]  # row after the last one, px

    @classmethod
    def of(cls, counts: Sequence[bytes], height: int) -> ColumnRuns:
        """Return the runs of masks.

        Args:
            counts: compressed COCO RLE of each mask.
            height: height of the image, px.
        """
        mask, start, stop = rle.spans_of_all(counts)
        first = start // height
        n_columns = (stop - 1) // height - first + 1
        part = np.arange(n_columns.sum()) - np.repeat(np.cumsum(n_columns) - n_columns, n_columns)
        x = np.repeat(first, n_columns) + part
        return cls(
            n_masks=len(counts),
            mask=np.repeat(mask, n_columns),
            x=x,
            top=np.maximum(np.repeat(start, n_columns) - x * height, 0),
            bottom=np.minimum(np.repeat(stop, n_columns) - x * height, height),
        )

    def within(self, tile: Tile) -> ColumnRuns:
        """Return the runs inside a tile, in pixels from its upper left corner."""
        top = np.maximum(self.top, tile.y0) - tile.y0
        bottom = np.minimum(self.bottom, tile.y1) - tile.y0
        inside = (top < bottom) & (self.x >= tile.x0) & (self.x < tile.x1)
        return ColumnRuns(
            n_masks=self.n_masks,
            mask=self.mask[inside],
            x=self.x[inside] - tile.x0,
            top=top[inside],
            bottom=bottom[inside],
        )

    def of_masks(self, first: int, stop: int) -> ColumnRuns:
        """Return the runs of the masks from ``first`` to ``stop``, numbered from 0."""
        part = slice(*np.searchsorted(self.mask, [first, stop]))
        return ColumnRuns(
            n_masks=stop - first,
            mask=self.mask[part] - first,
            x=self.x[part],
            top=self.top[part],
            bottom=self.bottom[part],
        )

    def boxes(self) -> Int64[np.ndarray, "4 N"]:
        """Return x0, y0, x1 and y1 of the tight box of each mask; zeros without runs."""
        low = np.full((2, self.n_masks), np.iinfo(np.int64).max)
        high = np.zeros((2, self.n_masks), np.int64)
        for i, values in enumerate((self.x, self.top)):
            np.minimum.at(low[i], self.mask, values)
        for i, values in enumerate((self.x + 1, self.bottom)):
            np.maximum.at(high[i], self.mask, values)
        return np.concatenate([np.where(high > 0, low, 0), high])

    @property
    def lengths(self) -> Int64[np.ndarray, " R"]:
        """Number of pixels of each run."""
        lengths: np.ndarray = self.bottom - self.top
        return lengths

    def sum(self, values: Shaped[np.ndarray, " R"]) -> Float64[np.ndarray, " N"]:
        """Return the sum of one value per run over the runs of each mask."""
        # Without runs, NumPy returns integers.
        sums: np.ndarray = np.bincount(self.mask, values, self.n_masks).astype(np.float64)
        return sums
