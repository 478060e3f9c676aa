"""Means of feature maps inside masks, accumulated tile by tile.

The ALPS paper upsamples the features to the resolution of the masks, C × H × W numbers per image,
and multiplies them with each mask. Bilinear interpolation is linear, so the masks can be
downsampled instead::

    Σ_p up(F)[p] · m[p]  =  Σ_q F[q] · (Uyᵀ m Ux)[q]

with the interpolation matrices U (pixels × cells). Both sums are equal, but the second one needs
only the cells near a mask. The sum divided by the area of the mask is the mean over the mask.
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
    """Return the weight of each cell in the sum of the interpolated map over a mask's pixels.

    Args:
        mask: a mask in the tile or in a window of it.
        along_y: interpolation matrix of the rows of ``mask``.
        along_x: interpolation matrix of the columns of ``mask``.

    Returns:
        Uyᵀ m Ux, one weight per cell.
    """
    return along_y.T @ (mask.to(along_x.dtype) @ along_x)


class FeatureMap:
    """Features of a tile on a grid of h × w cells, coarser than its H × W pixels.

    Args:
        cells: the features.
        along_y: interpolation matrix from rows of cells to rows of pixels.
        along_x: interpolation matrix from columns of cells to columns of pixels.
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
        """Return the sum of the interpolated features over a mask's pixels.

        Args:
            mask: the mask in a window of the tile.
            y0: first row of the window in the tile.
            x0: first column of the window in the tile.
        """
        y1, x1 = y0 + mask.shape[0], x0 + mask.shape[1]
        ys = slice(self._ys[0][y0], self._ys[1][y1 - 1])
        xs = slice(self._xs[0][x0], self._xs[1][x1 - 1])
        weights = interpolation_weights(mask, self._along_y[y0:y1, ys], self._along_x[x0:x1, xs])
        return weights.flatten() @ self._cells[ys, xs].flatten(0, 1)


class MaskMeans:
    """Mean of each feature map over each mask's pixels, accumulated tile by tile.

    A mask that spans several tiles is averaged over all its pixels; pixels in the overlap of tiles
    count once per tile. Only the features of one tile are in memory at a time.

    Args:
        masks: masks of the image.
        channels: number of channels of each feature map.
    """

    def __init__(self, masks: Masks, channels: Sequence[int]) -> None:
        self._masks = masks
        self._sums = [torch.zeros(len(masks), c) for c in channels]
        self._pixels = torch.zeros(len(masks))

    def add(self, tile: Tile, maps: Sequence[FeatureMap]) -> None:
        """Add the feature maps of one tile, one for each entry of ``channels``."""
        for i, window, mask in mask_windows(self._masks, tile):
            self._pixels[i] += mask.sum()
            for sums, feature_map in zip(self._sums, maps, strict=True):
                sums[i] += feature_map.sum_inside(mask, window.y0 - tile.y0, window.x0 - tile.x0)

    def means(self) -> list[Float[Tensor, "N _"]]:
        """Return one array per feature map, with one row per mask."""
        return [sums / self._pixels[:, None] for sums in self._sums]


def mask_windows(masks: Masks, tile: Tile) -> Iterator[tuple[int, Tile, Bool[Tensor, "H W"]]]:
    """Yield index, box clipped to the tile and pixels of each mask whose box overlaps a tile."""
    for i, (counts, xyxy) in enumerate(zip(masks.counts, masks.xyxy, strict=True)):
        window = Tile(*(int(v) for v in xyxy)).intersect(tile)
        if window is not None:
            yield i, window, torch.from_numpy(rle.decode_window(counts, masks.size[0], window))


def _touched(along: Float[Tensor, "P c"]) -> tuple[list[int], list[int]]:
    """Return the range (first, stop) of the cells that each pixel is interpolated from."""
    touched = (along != 0).int()
    return touched.argmax(1).tolist(), (along.shape[1] - touched.flip(1).argmax(1)).tolist()
