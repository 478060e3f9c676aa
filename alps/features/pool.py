"""Means of feature maps inside masks, accumulated tile by tile.

The ALPS paper upsamples the features to the resolution of the masks, C × H × W numbers per image,
and multiplies them with each mask. Bilinear interpolation is linear, so the masks can be
downsampled instead::

    Σ_p up(F)[p] · m[p]  =  Σ_q F[q] · (Uyᵀ m Ux)[q]

with the interpolation matrices U (pixels × cells). Both sums are equal, but the second one needs
only the cells near a mask. The sum divided by the area of the mask is the mean over the mask.

The weights Uyᵀ m Ux of all masks are one sparse matrix, and its product with the cells gives all
sums. The weights are computed from the ends of the masks' vertical runs, so their cost depends on
the outlines of the masks, not on their areas.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from jaxtyping import Float32, Float64, Int64
from scipy import sparse

from alps.sam.upsample import bilinear
from alps.structures.column_runs import ColumnRuns
from alps.structures.masks import Masks
from alps.structures.tiles import Tile

#: Number of weights that are computed at a time, to limit the memory.
WEIGHTS = 1 << 20


@dataclass(frozen=True, slots=True, eq=False)
class Axis:
    """Linear interpolation from c cells to P pixels along one axis.

    There are two more cells of weight 0 at the end, so that two cells belong to each pixel and to
    the edge after the last one. E = P + 1 is the number of edges of pixels.
    """

    low: Int64[np.ndarray, " E"]  # first of the two cells of each of P pixels, then c
    weights: Float64[np.ndarray, "P 2"]  # of the two cells of each pixel
    before: Float64[np.ndarray, "E 2"]  # sums of these cells' weights over the pixels before
    total: Float64[np.ndarray, " _"]  # sum of the weights of each cell over all pixels

    @property
    def n_cells(self) -> int:
        """Number of cells, c."""
        return len(self.total) - 2


@lru_cache(maxsize=64)
def axis(n_cells: int, n_pixels: int, scale: float | None = None) -> Axis:
    """Return the interpolation along an axis, from a cache if it was used lately.

    Args:
        n_cells: number of cells, c.
        n_pixels: number of pixels, P.
        scale: number of cells per pixel, by default ``n_cells / n_pixels``.
    """
    matrix = np.pad(bilinear(n_cells, n_pixels, scale).double().numpy(), [(0, 0), (0, 2)])
    low = np.append((matrix != 0).argmax(axis=1), n_cells)
    two = low[:, None] + [0, 1]
    before = np.pad(np.cumsum(matrix, axis=0), [(1, 0), (0, 0)])
    return Axis(
        low=low,
        weights=np.take_along_axis(matrix, two[:-1], axis=1),
        before=np.take_along_axis(before, two, axis=1),
        total=before[-1],
    )


@dataclass(frozen=True, slots=True, eq=False)
class FeatureMap:
    """Features of a tile on a grid of h × w cells, which are interpolated to its pixels."""

    cells: Float32[np.ndarray, "h w C"]
    rows: Axis
    columns: Axis

    def sums(self, runs: ColumnRuns) -> Float64[np.ndarray, "N C"]:
        """Return the sum of the interpolated features over the pixels of each mask in the tile."""
        cells = self.cells.reshape(-1, self.cells.shape[-1]).astype(np.float64)
        _, _, ni, nj = _windows(runs, self.rows, self.columns)
        n_weights = np.cumsum(ni * nj)
        cuts = np.searchsorted(n_weights, np.arange(WEIGHTS, n_weights.max(initial=0), WEIGHTS))
        edges = [0, *cuts.tolist(), runs.n_masks]
        sums = [
            cell_weights(runs.of_masks(first, stop), self.rows, self.columns) @ cells
            for first, stop in pairwise(edges)
            if first < stop
        ]
        return np.concatenate([np.zeros((0, cells.shape[1])), *sums])


class MaskMeans:
    """Mean of each feature map over each mask's pixels, accumulated tile by tile.

    A mask that spans several tiles is averaged over all its pixels; pixels in the overlap of tiles
    count once per tile. Only the features of one tile are in memory at a time.

    Args:
        masks: masks of the image.
        channels: number of channels of each feature map.
    """

    def __init__(self, masks: Masks, channels: Sequence[int]) -> None:
        self._runs = ColumnRuns.of(masks.counts, masks.size[0])
        self._sums = [np.zeros((len(masks), c)) for c in channels]
        self._pixels = np.zeros(len(masks))

    def add(self, tile: Tile, maps: Sequence[FeatureMap]) -> None:
        """Add the feature maps of one tile, one for each entry of ``channels``."""
        runs = self._runs.within(tile)
        self._pixels += runs.sum(runs.lengths)
        for sums, feature_map in zip(self._sums, maps, strict=True):
            sums += feature_map.sums(runs)

    def means(self) -> list[Float32[np.ndarray, "N _"]]:
        """Return one array per feature map, with one row per mask."""
        return [(sums / self._pixels[:, None]).astype(np.float32) for sums in self._sums]


def cell_weights(runs: ColumnRuns, rows: Axis, columns: Axis) -> sparse.csr_array:
    """Return the weight of each cell in the sum over the pixels of each mask, Uyᵀ m Ux.

    A run adds to a cell the cell's weights in all pixels above the run's lower edge, and subtracts
    those above its upper edge. An edge cuts only two cells of a column: all pixels of the cells
    before them lie above the edge, none of the cells after them. So each edge is entered in these
    two cells. The edges of a column add up to 0, so minus the cumulative sum up to a cell is the
    sum of the edges after it, whose weight the cell gets as a whole.

    Args:
        runs: the pixels of the masks in a tile.
        rows: interpolation along y.
        columns: interpolation along x.

    Returns:
        A matrix with one row for each of N masks and one column for each of h·w cells.
    """
    i0, j0, ni, nj = _windows(runs, rows, columns)
    ends = np.cumsum(ni * nj)
    before, cut = np.zeros((2, ends[-1]))
    for sign, edge in ((1, runs.bottom), (-1, runs.top)):
        for side in (0, 1):
            weight = sign * columns.weights[runs.x, side]
            i = columns.low[runs.x] + side - i0[runs.mask]
            j = rows.low[edge] - j0[runs.mask]
            index = (ends - ni * nj)[runs.mask] + i * nj[runs.mask] + j
            before -= np.bincount(index, weight, ends[-1])
            for cell in (0, 1):
                cut += np.bincount(index + cell, weight * rows.before[edge, cell], ends[-1])
    # The edges of a column add up to 0, so the cumulative sum can continue in the next column.
    column_of_mask = np.repeat(np.arange(runs.n_masks), ni)
    height = nj[column_of_mask]
    i = np.arange(len(height)) - np.repeat(np.cumsum(ni) - ni, ni) + i0[column_of_mask]
    j = np.arange(ends[-1]) - np.repeat(np.cumsum(height) - height - j0[column_of_mask], height)
    weights = cut + np.cumsum(before) * rows.total[j]
    # The last two cells do not exist and have weight 0.
    cell = np.minimum(j, rows.n_cells - 1) * columns.n_cells
    cell += np.repeat(np.minimum(i, columns.n_cells - 1), height)
    shape = (runs.n_masks, rows.n_cells * columns.n_cells)
    return sparse.csr_array((weights, cell, np.append(0, ends)), shape)


def _windows(
    runs: ColumnRuns, rows: Axis, columns: Axis
) -> tuple[
    Int64[np.ndarray, " N"],
    Int64[np.ndarray, " N"],
    Int64[np.ndarray, " N"],
    Int64[np.ndarray, " N"],
]:
    """Return the first column and row of the cells of each mask, and how many there are of each."""
    x0, y0, x1, y1 = runs.boxes()
    i0, j0 = columns.low[x0], rows.low[y0]
    return i0, j0, columns.low[np.maximum(x1 - 1, 0)] + 2 - i0, rows.low[y1] + 2 - j0
