"""Stitching of the masks of overlapping tiles: one mask per object of the image.

Two masks of neighbouring tiles show the same object if they agree in the overlap of the tiles. If a
tile contains the whole object, its mask is kept unchanged, and the other tiles' masks of the object
are dropped. If every tile cuts the object, its masks are united.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from jaxtyping import Bool, Float32, Int64

from alps.structures import rle
from alps.structures.masks import Masks
from alps.structures.tiles import Tile

#: IoU in the overlap of two tiles from which masks agree. SAM's masks of one object in two tiles
#: have a much higher IoU, masks of nested objects a lower one.
AGREEMENT = 0.6


def stitch(parts: Sequence[tuple[Tile, Masks]], size: tuple[int, int]) -> Masks:
    """Return the masks of an image, stitched from the masks of its tiles.

    Args:
        parts: pairs of a tile and its masks in image coordinates; empty if no tile has data.
        size: (H, W) of the image.
    """
    if len(parts) == 1:
        return parts[0][1]
    if not any(len(m) for _, m in parts):
        return Masks.empty(size)
    masks = Masks.cat([m for _, m in parts])
    cut = np.concatenate([touches_inner_border(m.xyxy, tile, size) for tile, m in parts])
    starts = np.cumsum([0, *(len(m) for _, m in parts)]).tolist()
    group = UnionFind(len(masks))
    for a, b in combinations(range(len(parts)), 2):
        if (shared := parts[a][0].intersect(parts[b][0])) is not None:
            for i, j in agreeing(parts[a][1], parts[b][1], shared, shared).tolist():
                group.join(starts[a] + i, starts[b] + j)
    return _merge(masks, cut, group.groups())


def _merge(masks: Masks, cut: Bool[np.ndarray, " N"], groups: list[list[int]]) -> Masks:
    """Merge each group of masks into one: the best uncut mask, or the union of the cut masks."""
    counts = list(masks.counts)
    keep = []
    for group in groups:
        uncut = [i for i in group if not cut[i]]
        best = max(uncut or group, key=lambda i: float(masks.predicted_iou[i]))
        if not uncut and len(group) > 1:
            counts[best] = rle.union([masks.counts[i] for i in group], masks.size)
        keep.append(best)
    keep.sort()
    return Masks.from_counts(
        [counts[i] for i in keep],
        masks.size,
        predicted_iou=masks.predicted_iou[keep],
        stability_score=masks.stability_score[keep],
        point_coords=masks.point_coords[keep],
    )


def touches_inner_border(
    xyxy: Float32[np.ndarray, "N 4"], tile: Tile, size: tuple[int, int]
) -> Bool[np.ndarray, " N"]:
    """Return which masks touch a border of their tile that is not a border of the image.

    Args:
        xyxy: boxes of the masks in the image, px.
        tile: the tile in which the masks were made.
        size: (H, W) of the image, px.
    """
    x0, y0, x1, y1 = xyxy.T
    return np.asarray(
        ((x0 <= tile.x0) & (tile.x0 > 0))
        | ((y0 <= tile.y0) & (tile.y0 > 0))
        | ((x1 >= tile.x1) & (tile.x1 < size[1]))
        | ((y1 >= tile.y1) & (tile.y1 < size[0]))
    )


def agreeing(a: Masks, b: Masks, shared_a: Tile, shared_b: Tile) -> Int64[np.ndarray, "P 2"]:
    """Return the index pairs of masks of two tiles that show the same object.

    Args:
        a: masks of one tile.
        b: masks of the other tile.
        shared_a: the overlap of the two tiles, in the coordinates of ``a``.
        shared_b: the same overlap, in the coordinates of ``b``.
    """
    ia, parts_a = _parts(a, shared_a)
    ib, parts_b = _parts(b, shared_b)
    pairs = np.argwhere(rle.iou(parts_a, parts_b, shared_a.size) >= AGREEMENT)
    return np.stack([ia[pairs[:, 0]], ib[pairs[:, 1]]], axis=1)


def _parts(masks: Masks, shared: Tile) -> tuple[Int64[np.ndarray, " n"], list[bytes]]:
    """Return the indices of the masks that overlap a window, and their parts in it."""
    x0, y0, x1, y1 = masks.xyxy.T
    index = np.flatnonzero(
        (x0 < shared.x1) & (x1 > shared.x0) & (y0 < shared.y1) & (y1 > shared.y0)
    )
    parts = [rle.crop(masks.counts[i], masks.size[0], shared) for i in index]
    not_empty = rle.area(parts, shared.size) > 0
    return index[not_empty], [parts[i] for i in np.flatnonzero(not_empty)]


class UnionFind:
    """Disjoint sets of the integers below ``n``."""

    def __init__(self, n: int) -> None:
        self.parent = list(range(n))

    def find(self, i: int) -> int:
        """Return the representative of the set of ``i``."""
        while self.parent[i] != i:
            self.parent[i] = i = self.parent[self.parent[i]]
        return i

    def join(self, i: int, j: int) -> None:
        """Unite the sets of two numbers."""
        a, b = sorted((self.find(i), self.find(j)))
        self.parent[b] = a

    def groups(self) -> list[list[int]]:
        """Return the members of each set."""
        members: dict[int, list[int]] = {}
        for i in range(len(self.parent)):
            members.setdefault(self.find(i), []).append(i)
        return list(members.values())
