"""Means of feature maps inside masks, tile by tile.

The reference way lifts the features to the masks' resolution, C × H × W numbers per image, and
multiplies them with each mask. Bilinear interpolation is linear, so the masks can go down instead::

    Σ_p up(F)[p] · m[p]  =  Σ_q F[q] · (Uyᵀ m Ux)[q]

with the interpolation matrices U (pixels × cells): the same sums, from the cells that a mask
touches alone. Divided by its area that is the mask's mean (not by the number of non-zero features).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from alps.structures import rle
from alps.structures.masks import Masks
from alps.structures.tiles import Tile


def interpolation_weights(
    mask: Bool[Tensor, "H W"], along_y: Float[Tensor, "H h"], along_x: Float[Tensor, "W w"]
) -> Float[Tensor, "h w"]:
    """How much each cell counts in the sum of the interpolated map over a mask's pixels.

    A mask may be given as the window around it, with the rows of the matrices that lie there.
    """
    return along_y.T @ (mask.to(along_x.dtype) @ along_x)


class FeatureMap:
    """Features of a tile on a coarser grid.

    Args:
        cells: the features.
        along_y: how the tile's pixels are interpolated from the cells.
        along_x: the same for columns.
    """

    def __init__(
        self,
        cells: Float[Tensor, "h w C"],
        along_y: Float[Tensor, "H h"],
        along_x: Float[Tensor, "W w"],
    ) -> None:
        self._cells, self._along_y, self._along_x = cells, along_y, along_x
        self._ys, self._xs = _touched(along_y), _touched(along_x)

    def sum_inside(self, mask: Bool[Tensor, "Y X"], y0: int, x0: int) -> Float[Tensor, " C"]:
        """The sum over a mask's pixels, given as a window that begins at (y0, x0) of the tile."""
        y1, x1 = y0 + mask.shape[0], x0 + mask.shape[1]
        ys = slice(self._ys[0][y0], self._ys[1][y1 - 1])
        xs = slice(self._xs[0][x0], self._xs[1][x1 - 1])
        weights = interpolation_weights(mask, self._along_y[y0:y1, ys], self._along_x[x0:x1, xs])
        return weights.flatten() @ self._cells[ys, xs].flatten(0, 1)


class MaskMeans:
    """The mean of each map over each mask's pixels, added up tile by tile.

    A mask that reaches over several tiles is averaged over all its pixels; those in an overlap
    count once per tile. Memory is that of one tile, however large the image.
    """

    def __init__(self, masks: Masks, channels: Sequence[int]) -> None:
        self._masks = masks
        self._sums = [torch.zeros(len(masks), c) for c in channels]
        self._pixels = torch.zeros(len(masks))

    def add(self, tile: Tile, maps: Sequence[FeatureMap]) -> None:
        """One tile's maps, as many as there are ``channels``."""
        for i, window, mask in mask_windows(self._masks, tile):
            self._pixels[i] += mask.sum()
            for sums, feature_map in zip(self._sums, maps, strict=True):
                sums[i] += feature_map.sum_inside(mask, window.y0 - tile.y0, window.x0 - tile.x0)

    def means(self) -> list[Float[Tensor, "N _"]]:
        """A row per mask, of each map."""
        return [sums / self._pixels[:, None] for sums in self._sums]


def mask_windows(masks: Masks, tile: Tile) -> Iterator[tuple[int, Tile, Bool[Tensor, "H W"]]]:
    """The masks that lie in a tile: index, box clipped to the tile, and the pixels in it."""
    for i, (counts, xyxy) in enumerate(zip(masks.counts, masks.xyxy, strict=True)):
        window = Tile(*(int(v) for v in xyxy)).intersect(tile)
        if window is not None:
            yield i, window, torch.from_numpy(rle.decode_window(counts, masks.size[0], window))


def _touched(along: Float[Tensor, "P c"]) -> tuple[list[int], list[int]]:
    """Of each pixel the first cell that it is interpolated from, and the one after the last."""
    touched = (along != 0).int()
    return touched.argmax(1).tolist(), (along.shape[1] - touched.flip(1).argmax(1)).tolist()
