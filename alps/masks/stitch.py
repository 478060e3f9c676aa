"""Stitching of the masks of overlapping tiles: one mask per object of the image.

Two masks of neighbouring tiles show the same object if they agree in the overlap of the tiles. If a
tile contains the whole object, its mask is kept unchanged, and the other tiles' masks of the object
are dropped. If every tile cuts the object, its masks are united.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from jaxtyping import Bool, Float

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
    cut = np.concatenate([_cut(tile, m, size) for tile, m in parts])
    starts = np.cumsum([0, *(len(m) for _, m in parts)]).tolist()
    group = _UnionFind(len(masks))
    for a, b in combinations(range(len(parts)), 2):
        for i, j in _agreeing(parts[a], parts[b]):
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


def _cut(tile: Tile, masks: Masks, size: tuple[int, int]) -> Bool[np.ndarray, " N"]:
    """Return which masks touch a border of the tile that is not a border of the image."""
    x0, y0, x1, y1 = masks.xyxy.T
    return np.asarray(
        ((x0 <= tile.x0) & (tile.x0 > 0))
        | ((y0 <= tile.y0) & (tile.y0 > 0))
        | ((x1 >= tile.x1) & (tile.x1 < size[1]))
        | ((y1 >= tile.y1) & (tile.y1 < size[0]))
    )


def _agreeing(a: tuple[Tile, Masks], b: tuple[Tile, Masks]) -> list[tuple[int, int]]:
    """Return the index pairs of masks of two tiles that show the same object."""
    shared = a[0].intersect(b[0])
    if shared is None:
        return []
    ia, wa = _windows(a[1], shared)
    ib, wb = _windows(b[1], shared)
    if not len(ia) or not len(ib):
        return []
    intersection = wa @ wb.T
    union = wa.sum(1)[:, None] + wb.sum(1)[None] - intersection
    return [(int(ia[i]), int(ib[j])) for i, j in np.argwhere(intersection >= AGREEMENT * union)]


def _windows(masks: Masks, shared: Tile) -> tuple[np.ndarray, Float[np.ndarray, "N P"]]:
    """Return the indices of the masks that overlap a window, and their P pixels in it."""
    x0, y0, x1, y1 = masks.xyxy.T
    candidates = np.flatnonzero(
        (x0 < shared.x1) & (x1 > shared.x0) & (y0 < shared.y1) & (y1 > shared.y0)
    )
    pixels = [rle.decode_window(masks.counts[i], masks.size[0], shared).ravel() for i in candidates]
    flat = np.asarray(pixels, dtype=np.float32).reshape(len(candidates), shared.area)
    nonempty = flat.any(axis=1)
    return candidates[nonempty], flat[nonempty]


class _UnionFind:
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
