"""Masks of overlapping tiles that show the same object, and which of them to keep.

Two masks of overlapping tiles show the same object if they agree in the overlap, and if each of
them continues beyond the other tile only where the other one is cut. If a tile contains the whole
object, its mask replaces the others. If every tile cuts it, the object is the union of its masks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int32, Int64
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from alps.structures import rle
from alps.structures.masks import Masks
from alps.structures.tiles import Tile

#: IoU in the overlap of two tiles from which masks agree. SAM's masks of one object in two tiles
#: have a much higher IoU, masks of nested objects a lower one.
AGREEMENT = 0.6


@dataclass(frozen=True, slots=True, eq=False)
class TileMasks:
    """The masks of a tile of an image."""

    tile: Tile
    masks: Masks
    origin: tuple[int, int] = (0, 0)  # x and y of the masks' first pixel in the image, px

    def cut(self, size: tuple[int, int]) -> Bool[np.ndarray, " N"]:
        """Return which masks touch a border of the tile inside an image of ``size`` (H, W)."""
        return self._touch_border_inside(Tile(0, 0, size[1], size[0]))

    def cut_towards(self, other: TileMasks) -> Bool[np.ndarray, " N"]:
        """Return which masks touch a border of the tile inside another tile."""
        return self._touch_border_inside(other.tile)

    def parts(self, shared: Tile) -> tuple[Int64[np.ndarray, " n"], list[bytes]]:
        """Return the indices of the masks in a part of the image, and their pixels there as RLE."""
        x, y = self.origin
        local = shared.within(Tile(x, y, x, y))
        x0, y0, x1, y1 = self.masks.xyxy.T
        index = np.flatnonzero(
            (x0 < local.x1) & (x1 > local.x0) & (y0 < local.y1) & (y1 > local.y0)
        )
        height = self.masks.size[0]
        parts = [rle.crop(self.masks.counts[i], height, local) for i in index]
        not_empty = np.flatnonzero(rle.area(parts, local.size) > 0)
        return index[not_empty], [parts[i] for i in not_empty]

    def _touch_border_inside(self, around: Tile) -> Bool[np.ndarray, " N"]:
        """Return which masks touch a border of the tile that lies inside ``around``."""
        x, y = self.origin
        x0, y0, x1, y1 = (self.masks.xyxy + np.array([x, y, x, y], np.float32)).T
        tile = self.tile
        touch = np.zeros(len(self.masks), bool)
        for touches, border, first, last in (
            (x0 <= tile.x0, tile.x0, around.x0, around.x1),
            (x1 >= tile.x1, tile.x1, around.x0, around.x1),
            (y0 <= tile.y0, tile.y0, around.y0, around.y1),
            (y1 >= tile.y1, tile.y1, around.y0, around.y1),
        ):
            if first < border < last:
                touch |= touches
        return touch


def agreeing(a: TileMasks, b: TileMasks) -> Int64[np.ndarray, "P 2"]:
    """Return the index pairs of masks of two tiles that show the same object.

    Args:
        a: masks of one tile.
        b: masks of the other tile.
    """
    shared = a.tile.intersect(b.tile)
    if shared is None:
        return np.zeros((0, 2), np.int64)
    (ia, parts_a), (ib, parts_b) = a.parts(shared), b.parts(shared)
    overlap = rle.iou(parts_a, parts_b, shared.size)
    pairs = np.argwhere(overlap >= AGREEMENT)
    iou = overlap[pairs[:, 0], pairs[:, 1]]
    inside = [
        rle.area(parts, shared.size)[rows]
        for parts, rows in ((parts_a, pairs[:, 0]), (parts_b, pairs[:, 1]))
    ]
    rows_a, rows_b = ia[pairs[:, 0]], ib[pairs[:, 1]]
    intersection = iou * (inside[0] + inside[1]) / (1 + iou)
    union = inside[0] + inside[1] - intersection
    # What lies outside the other tile counts, unless the other mask ends there because it is cut.
    union += (a.masks.area[rows_a] - inside[0]) * ~b.cut_towards(a)[rows_b]
    union += (b.masks.area[rows_b] - inside[1]) * ~a.cut_towards(b)[rows_a]
    agrees = intersection >= (AGREEMENT - 1e-9) * union  # the intersection is rounded
    return np.stack([rows_a[agrees], rows_b[agrees]], axis=1)


class Groups(NamedTuple):
    """The objects of masks."""

    label: Int32[np.ndarray, " N"]  # number of the object of each mask
    kept: Bool[np.ndarray, " N"]  # False: another mask of the object replaces it
    united: Bool[np.ndarray, " N"]  # whether the object is the union of its masks


def group_masks(
    pairs: Int64[np.ndarray, "P 2"],
    *,
    cut: Bool[np.ndarray, " N"],
    predicted_iou: Float[np.ndarray, " N"],
    area: Int64[np.ndarray, " N"],
) -> Groups:
    """Group masks by object, and choose which masks of an object to keep.

    Args:
        pairs: indices of two masks of the same object.
        cut: whether a tile cuts the object of each mask.
        predicted_iou: predicted IoU of each mask; NaN: unknown.
        area: area of each mask, px.

    Returns:
        The objects. A mask that is not cut and of about the size of the largest one represents its
        object, the one with the best predicted IoU if there are several; else all masks do.
    """
    n = len(cut)
    if not n:
        return Groups(np.zeros(0, np.int32), np.zeros(0, bool), np.zeros(0, bool))
    graph = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    label: Int32[np.ndarray, " N"] = connected_components(graph, directed=False)[1]
    largest = np.zeros(n, np.int64)
    np.maximum.at(largest, label, area)
    whole = ~cut & (area >= AGREEMENT * largest[label])
    iou = np.nan_to_num(predicted_iou.astype(np.float32), nan=-1)
    order = np.lexsort((np.arange(n), -iou, ~whole, label))
    first = order[np.diff(label[order], prepend=-1) > 0]  # the representative of each object
    united = ~whole[first][label]
    kept = united.copy()
    kept[first] = True
    return Groups(label, kept, united)
